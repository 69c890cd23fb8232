//! What Redis may have lost.

use fred::error::{Error, ErrorKind};
use tokio::time::Instant;

/// What is known of Redis, of all its nodes together.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionHealth {
    /// Counts up with every connection that breaks or is a new one, and with every master that comes or goes. What an old one was
    /// given may be lost: a Redis that died has a successor that had not heard of it yet, or comes back with what it had written
    /// to disk. Who knows of no loss counts it too: what is published again does no harm.
    pub generation: u64,
    /// When it counted up last: what was given before was given before that.
    pub since: Instant,
    /// All servers answered to something that was asked then, on the connections that they had been given everything on. Of a
    /// cluster those that are down do not count: what they were given has been counted as lost when they went, and they are
    /// given nothing before they answer again. So one dead node does not keep others from proving themselves.
    pub verified_at: Instant,
}

impl ConnectionHealth {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { generation: 0, since: now, verified_at: now }
    }
}

/// What the library says, for want of a kind, when a command was not sent: its connection has ended.
const NOT_SENT_DETAILS: &[&str] = &["Client is not initialized.", "Failed to send command to router."];
/// And when the connection has ended under a command.
const DISCONNECTED_DETAILS: &str = "channel closed";

/// Whether a command was certainly not sent.
pub(super) fn is_unsent(error: &Error) -> bool {
    *error.kind() == ErrorKind::Unknown && NOT_SENT_DETAILS.contains(&error.details())
}

/// Whether an error is an answer of Redis, and not the lack of one.
#[must_use]
pub fn is_redis_reply(error: &Error) -> bool {
    let is_cut = *error.kind() == ErrorKind::Unknown && error.details() == DISCONNECTED_DETAILS;
    !is_cut
        && !is_unsent(error)
        && !matches!(
            error.kind(),
            ErrorKind::IO
                | ErrorKind::Timeout
                | ErrorKind::Canceled
                | ErrorKind::Tls
                | ErrorKind::Routing
                | ErrorKind::Protocol
                | ErrorKind::Backpressure
        )
}
