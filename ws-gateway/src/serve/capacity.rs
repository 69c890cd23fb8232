//! How many sockets and handshakes fit into this process. Bounds of several modules must fit together here.

use shared::kit::net::file_descriptors;
use shared::kit::redis::COMMAND_QUEUE_CAPACITY;

use crate::http::server::MAX_PENDING_HANDSHAKES;
use crate::{presence, pubsub};

/// File descriptors that are kept for Redis, the admin port and log files.
const RESERVED_DESCRIPTORS: usize = 64;

/// Commands of the streams and of the revocations, one of each at a time.
const SINGLE_COMMANDS: usize = 4;

/// Every sender of commands bounds its own concurrency. So the command queues of the Redis client cannot overflow,
/// and need no metric.
const _: () = assert!(
    MAX_PENDING_HANDSHAKES
        + pubsub::TYPING_QUEUE_CAPACITY
        + 2 * pubsub::BACKFILL_CONCURRENCY
        + 2 * presence::CONCURRENCY
        + SINGLE_COMMANDS
        < COMMAND_QUEUE_CAPACITY,
    "the queue of commands could overflow"
);

/// What this process can hold at the same time.
pub(super) struct Capacity {
    pub(super) sockets: usize,
    /// Connections that are no sockets yet.
    pub(super) handshakes: usize,
}

impl Capacity {
    /// `max_sockets`, or fewer if file descriptors are short.
    pub(super) fn of_process(max_sockets: usize) -> Self {
        let descriptors = file_descriptors::connection_budget(RESERVED_DESCRIPTORS);
        let handshakes = MAX_PENDING_HANDSHAKES.min(descriptors.div_ceil(8));
        let affordable = descriptors.saturating_sub(handshakes).max(1);
        Self { sockets: file_descriptors::cap_setting("MAX_SOCKETS", max_sockets, affordable), handshakes }
    }
}
