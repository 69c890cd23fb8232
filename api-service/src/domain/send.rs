//! Sending a message.

use super::error::DomainError;
use crate::detached_request::caller_disconnected;
use crate::model::send::{SendOutcome, SendRequest};
use crate::send_batcher::SendBatcher;

/// Sends a message as the principal of the request. A created message is on disk and will be published.
///
/// # Errors
/// [`DomainError`]. Nothing was written, except when the database fails during the commit. A retry with the same
/// `client_message_id` is always safe.
pub async fn send(batcher: &SendBatcher, request: SendRequest) -> Result<SendOutcome, DomainError> {
    let SendRequest { message, origin } = &request;
    origin.principal.check_acts_as(message.conversation.location(), &message.sender)?;
    Ok(batcher.write(request, caller_disconnected()).await?)
}
