//! Sending a message.

use shared::contract::ids::LocationId;
use shared::contract::participant::{Conversation, Participant};
use shared::kit::crypto::redacted::Redacted;
use uuid::Uuid;

use super::error::DomainError;
use crate::detached_request::caller_disconnected;
use crate::model::message::{Content, NewMessage};
use crate::model::origin::Origin;
use crate::send_batcher::{SendBatcher, SendResult};

/// An authenticated request to send.
pub struct SendMessage {
    /// The tenant.
    pub location: LocationId,
    /// The sender.
    pub sender: Participant,
    /// The receiver.
    pub receiver: Participant,
    /// The text.
    pub content: Redacted<String>,
    /// Makes a retry safe.
    pub client_message_id: Option<Uuid>,
}

/// Sends a message as the principal of `origin`. On success it is on disk and will be published.
///
/// # Errors
/// [`DomainError`]. Nothing was written, except when the database fails during the commit. A retry with the same
/// `client_message_id` is always safe.
pub async fn send(origin: Origin, batcher: &SendBatcher, ask: SendMessage) -> Result<SendResult, DomainError> {
    let SendMessage { location, sender, receiver, content, client_message_id } = ask;
    origin.principal.check_acts_as(&location, &sender)?;
    let conversation = Conversation::new(location, sender.clone(), receiver.clone())?;
    let content = Content::new(content.into_inner()).map_err(|why| DomainError::Field("content", why))?;
    Ok(batcher
        .write(NewMessage { conversation, sender, receiver, content, client_message_id }, origin, caller_disconnected())
        .await?)
}
