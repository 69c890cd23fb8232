//! A send on its way into the database, and what became of it.

use std::sync::Arc;

use shared::kit::crypto::redacted::Redacted;

use super::message::NewMessage;
use super::request_origin::RequestOrigin;

/// A message to store, and who sends it by which request.
#[derive(Debug, Clone)]
pub struct SendRequest {
    /// The message.
    pub message: Arc<NewMessage>,
    /// The caller and the request, for the audit row.
    pub origin: RequestOrigin,
}

/// The outcome of a send. Messages are JSON, as clients receive them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendOutcome {
    /// A new message: on disk, and certain to be published.
    Created(Redacted<String>),
    /// A repeat: the stored message in its current state.
    Repeated(Redacted<String>),
    /// The `client_message_id` belongs to a different message. Nothing was written.
    IdReused,
}
