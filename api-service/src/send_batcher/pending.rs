//! A send that waits, and what its caller and the writer agree on: it is written or it is given up, never both. A send that
//! was given up is dropped before its statement starts; one whose statement has started is finished.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{SendError, SendResult};
use crate::model::message::NewMessage;
use crate::model::origin::Origin;

/// Longest that a send waits for its statement to start. With the longest that its batch may take, an answer comes before the
/// balancer gives up, who could say no more than that nobody knows what became of it.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(3);

const WAITING: u8 = 0;
const STARTED: u8 = 1;
const ABANDONED: u8 = 2;
/// It has started, and nobody waits for it any more: it is finished, but does not wait again.
const CALLER_GONE: u8 = 3;

/// A send, and who waits for it.
pub(super) struct PendingSend {
    pub(super) new: Arc<NewMessage>,
    pub(super) origin: Origin,
    pub(super) caller: Caller,
}

/// Who waits for a send.
pub(super) struct Caller {
    reply: oneshot::Sender<Result<SendResult, SendError>>,
    state: Arc<AtomicU8>,
    pub(super) since: Instant,
}

impl Caller {
    /// Begins to write. False when nobody wants it any more, or it is too late.
    pub(super) fn try_start(&self) -> bool {
        self.since.elapsed() < MAX_WAIT && self.transition(WAITING, STARTED)
    }

    /// Nothing was written: it waits again. False when it has waited for too long, or nobody wants it any more.
    pub(super) fn try_requeue(&self) -> bool {
        let waits = self.transition(STARTED, WAITING);
        waits && self.since.elapsed() < MAX_WAIT
    }

    /// Refuses what does not wait again.
    pub(super) fn reject_requeue(self) {
        let why = match self.state.load(Ordering::Acquire) {
            CALLER_GONE if self.since.elapsed() < MAX_WAIT => caller_disconnected(),
            _ => timed_out(),
        };
        self.reply(Err(why));
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.state.load(Ordering::Acquire) == WAITING && self.since.elapsed() < MAX_WAIT
    }

    /// Whoever no longer waits can ask again, or read the history.
    pub(super) fn reply(self, result: Result<SendResult, SendError>) {
        let _gone = self.reply.send(result);
    }

    fn transition(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// The caller's end. When it is dropped, what has not started is given up.
pub(super) struct Waiter {
    reply_receiver: oneshot::Receiver<Result<SendResult, SendError>>,
    state: Arc<AtomicU8>,
}

/// A send and its caller's end.
pub(super) fn pending_send(new: Arc<NewMessage>, origin: Origin) -> (PendingSend, Waiter) {
    let (reply, reply_receiver) = oneshot::channel();
    let state: Arc<AtomicU8> = Arc::default();
    let caller = Caller { reply, state: state.clone(), since: Instant::now() };
    (PendingSend { new, origin, caller }, Waiter { reply_receiver, state })
}

impl Waiter {
    /// What becomes of the send. `gone` ends when its caller has gone.
    pub(super) async fn outcome(mut self, disconnected: impl Future<Output = ()>) -> Result<SendResult, SendError> {
        let waiting = async {
            tokio::select! {
                biased;
                answer = &mut self.reply_receiver => Some(answer),
                () = disconnected => None,
            }
        };
        let answer = match timeout(MAX_WAIT, waiting).await {
            Ok(Some(answer)) => answer,
            Ok(None) if self.give_up() => return Err(caller_disconnected()),
            Err(_) if self.give_up() => return Err(timed_out()),
            // Its statement has started, so it will be answered.
            Ok(None) | Err(_) => (&mut self.reply_receiver).await,
        };
        answer.unwrap_or_else(|_| Err(timed_out()))
    }

    /// Whether it was given up. If it has started, it is finished, and does not wait once more.
    fn give_up(&self) -> bool {
        let left = |state| match state {
            WAITING => Some(ABANDONED),
            STARTED => Some(CALLER_GONE),
            _ => None,
        };
        self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, left) == Ok(WAITING)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// Its caller has gone, and nothing was written.
fn caller_disconnected() -> SendError {
    metrics::counter!("sends_given_up_total", "cause" => "caller_gone").increment(1);
    SendError::TimedOut
}

/// It has waited for too long, and nothing was written.
pub(super) fn timed_out() -> SendError {
    metrics::counter!("sends_given_up_total", "cause" => "too_late").increment(1);
    SendError::TimedOut
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    fn send() -> (Caller, Waiter) {
        let (reply, reply_receiver) = oneshot::channel();
        let state: Arc<AtomicU8> = Arc::default();
        (Caller { reply, state: state.clone(), since: Instant::now() }, Waiter { reply_receiver, state })
    }

    #[tokio::test]
    async fn a_send_whose_caller_left_when_it_had_started_does_not_wait_again() {
        let (caller, waiter) = send();
        assert!(caller.try_start());
        let outcome = tokio::spawn(waiter.outcome(ready(())));
        while caller.state.load(Ordering::Acquire) == STARTED {
            tokio::task::yield_now().await;
        }
        assert!(!caller.try_requeue() && !caller.is_waiting() && !caller.try_start());
        caller.reject_requeue();
        assert!(matches!(outcome.await.unwrap(), Err(SendError::TimedOut)));

        let (caller, waiter) = send();
        assert!(caller.try_start());
        drop(waiter);
        assert!(!caller.try_requeue() && !caller.try_start(), "nor when the whole request was dropped");
    }

    #[tokio::test]
    async fn a_send_whose_caller_stays_waits_again_and_starts_again() {
        let (caller, waiter) = send();
        let outcome = tokio::spawn(waiter.outcome(pending()));
        assert!(caller.try_start() && caller.try_requeue() && caller.is_waiting() && caller.try_start());
        caller.reply(Err(SendError::IdReused));
        assert!(matches!(outcome.await.unwrap(), Err(SendError::IdReused)));
    }
}
