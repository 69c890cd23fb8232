//! Why a use case refuses. Says nothing of HTTP; `api::refusal` finds the status.

use shared::participant::InvalidPair;
use shared::token::AuthorizationError;

use crate::presence_reader::PresenceError;
use crate::store::StoreError;
use crate::ticket_issuer::TicketError;

/// Why a use case refuses.
#[derive(Debug, thiserror::Error)]
pub enum DomainError {
    /// The token is good, but not for this.
    #[error(transparent)]
    Forbidden(#[from] AuthorizationError),
    /// The two participants make no conversation.
    #[error(transparent)]
    InvalidPair(#[from] InvalidPair),
    /// One field breaks a rule; the name is the field's.
    #[error("{0} {1}")]
    Field(&'static str, &'static str),
    /// The `client_message_id` stands for another message.
    #[error("client_message_id was used for a different message")]
    IdReused,
    /// More sends wait than may; nothing was written.
    #[error("too many sends are waiting")]
    Overloaded,
    /// A send has waited for as long as it may; nothing was written.
    #[error("the send has waited for too long")]
    SendTimeout,
    /// What was asked for was not found out in time; nothing was changed.
    #[error("the answer took too long")]
    DeadlineExceeded,
    /// Redis is out of reach, and this cannot be done without it.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// Redis is out of reach, and nobody else knows who is online.
    #[error(transparent)]
    Presence(#[from] PresenceError),
    /// The database is out of reach, or something in it is wrong; nothing was written, or the outcome is unknown.
    #[error(transparent)]
    Store(#[from] StoreError),
}
