//! Barriers that wait for their reply, in order.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::error::ConnectionError;

#[derive(Default)]
pub(super) struct ReplyQueue {
    pub(super) pending: Mutex<VecDeque<PendingReply>>,
    /// When the last bytes arrived.
    pub(super) last_received_at: Mutex<Option<Instant>>,
}

/// A barrier that was sent.
pub(super) struct PendingReply {
    /// The payload of its `PING`, which the reply must repeat.
    pub(super) token: String,
    pub(super) outcome: BarrierReply,
    pub(super) done: oneshot::Sender<Result<BarrierReply, ConnectionError>>,
}

/// What Redis confirmed and rejected before the barrier's reply.
#[derive(Debug, Default)]
pub(crate) struct BarrierReply {
    /// Confirmed subscriptions that have not ended since.
    pub(crate) subscribed: Vec<String>,
    /// Error replies.
    pub(crate) errors: Vec<String>,
}

impl ReplyQueue {
    pub(super) fn reply(&self, reply: &[u8]) -> Result<(), ConnectionError> {
        let pending = self.pending.lock().pop_front().ok_or(ConnectionError::UnexpectedReply)?;
        if pending.token.as_bytes() != reply {
            return Err(ConnectionError::UnexpectedReply);
        }
        // The caller may have timed out.
        let _gone = pending.done.send(Ok(pending.outcome));
        Ok(())
    }

    /// The first error before the next barrier.
    pub(super) fn next_error(&self) -> Option<String> {
        self.pending.lock().front().and_then(|pending| pending.outcome.errors.first().cloned())
    }

    /// A subscription that ended again before the barrier's reply does not count.
    pub(super) fn remove_subscription(&self, channel: &str) {
        if let Some(pending) = self.pending.lock().front_mut() {
            pending.outcome.subscribed.retain(|confirmed| confirmed != channel);
        }
    }

    /// Updates the next barrier to be answered.
    pub(super) fn with_next(&self, note: impl FnOnce(&mut BarrierReply)) -> Result<(), ConnectionError> {
        self.pending
            .lock()
            .front_mut()
            .map(|pending| note(&mut pending.outcome))
            .ok_or(ConnectionError::UnexpectedReply)
    }
}
