//! Sending a message.

use shared::ids::LocationId;
use shared::participant::{Conversation, Participant};
use shared::redacted::Redacted;
use uuid::Uuid;

use super::error::DomainError;
use crate::detached_request::caller_disconnected;
use crate::model::message::{Content, NewMessage};
use crate::model::origin::Origin;
use crate::send_batcher::{SendBatcher, SendResult};

/// What a caller asks.
pub struct SendMessage {
    /// The tenant.
    pub location: LocationId,
    /// Who writes.
    pub sender: Participant,
    /// To whom.
    pub receiver: Participant,
    /// What.
    pub content: Redacted<String>,
    /// What makes a retry safe.
    pub client_message_id: Option<Uuid>,
}

/// Sends a message as the bearer of `origin`. When this returns a message, it is on disk and will be published.
///
/// # Errors
/// [`DomainError`]; except for a database that fails in the middle, nothing was written. Asking again with the same
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
