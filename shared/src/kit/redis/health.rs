//! Detects connections and servers that may have lost writes.

use fred::error::{Error, ErrorKind};
use tokio::time::Instant;

/// Whether Redis may have lost writes, over all its nodes.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionHealth {
    /// Increases with every lost or new connection, and with every master that joins or leaves. Redis may have lost what an
    /// earlier generation wrote: a replica that took over may lag, and a restarted server has only what it saved. It may
    /// increase without a loss; publishing again does no harm.
    pub generation: u64,
    /// When it increased last.
    pub since: Instant,
    /// All servers answered a command that was sent at this time, on their current connections. Nodes of a cluster that are
    /// down do not count: their loss was counted when they went down, and they get no commands until they answer again. A master
    /// of Sentinels counts with the time up to which its replicas have its writes.
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

/// The part of an error that is safe to log. A server that does not know `HELLO` repeats it, with the password.
#[must_use]
pub fn redact_error(error: &str) -> String {
    const FULL: &str = "ERR max number of clients reached";
    if error == FULL {
        return FULL.to_owned();
    }
    error.split_whitespace().next().unwrap_or_default().to_owned()
}

/// The details of a failed connection that are safe to log.
pub(super) fn connect_error(error: &Error) -> String {
    match error.kind() {
        // The library's own words, which hold no word of the server.
        ErrorKind::IO | ErrorKind::Timeout | ErrorKind::Tls | ErrorKind::Canceled => error.details().to_owned(),
        _ => redact_error(error.details()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_greeting_is_logged_without_the_password() {
        let unknown = "ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `hunter2`, ";
        assert_eq!(connect_error(&Error::new(ErrorKind::InvalidCommand, unknown)), "ERR");
        assert_eq!(connect_error(&Error::new(ErrorKind::Auth, "WRONGPASS hunter2")), "WRONGPASS");
        assert_eq!(redact_error("ERR max number of clients reached"), "ERR max number of clients reached");
        assert_eq!(connect_error(&Error::new(ErrorKind::IO, "Connection refused")), "Connection refused");
    }
}
