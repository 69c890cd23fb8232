//! Barriers that wait for their reply. Redis replies in order.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::ConnectionError;

#[derive(Default)]
pub(super) struct ReplyQueue {
    pub(super) pending: Mutex<VecDeque<PendingReply>>,
    /// When something was heard last.
    pub(super) last_received_at: Mutex<Option<Instant>>,
}

/// What waits for an answer. Redis answers in order.
pub(super) struct PendingReply {
    /// What the answer must be.
    pub(super) token: String,
    pub(super) outcome: BarrierReply,
    pub(super) done: oneshot::Sender<Result<BarrierReply, ConnectionError>>,
}

/// What Redis has said before it answered a question.
#[derive(Debug, Default)]
pub(crate) struct BarrierReply {
    /// Channels whose subscription it has confirmed, and not ended since.
    pub(crate) subscribed: Vec<String>,
    /// Its refusals.
    pub(crate) errors: Vec<String>,
}

impl ReplyQueue {
    pub(super) fn answer(&self, answer: &[u8]) -> Result<(), ConnectionError> {
        let pending = self.pending.lock().pop_front().ok_or(ConnectionError::UnexpectedReply)?;
        if pending.token.as_bytes() != answer {
            return Err(ConnectionError::UnexpectedReply);
        }
        // Who gave up waiting is not there to hear it.
        let _gone = pending.done.send(Ok(pending.outcome));
        Ok(())
    }

    /// What Redis has refused whoever is the next to be answered.
    pub(super) fn next_error(&self) -> Option<String> {
        self.pending.lock().front().and_then(|pending| pending.outcome.errors.first().cloned())
    }

    /// What was confirmed, and ended again before the question behind it was answered, does not count.
    pub(super) fn remove_subscription(&self, channel: &str) {
        if let Some(pending) = self.pending.lock().front_mut() {
            pending.outcome.subscribed.retain(|confirmed| confirmed != channel);
        }
    }

    /// For whoever is the next to be answered.
    pub(super) fn with_next(&self, note: impl FnOnce(&mut BarrierReply)) -> Result<(), ConnectionError> {
        self.pending
            .lock()
            .front_mut()
            .map(|pending| note(&mut pending.outcome))
            .ok_or(ConnectionError::UnexpectedReply)
    }
}
