//! A waiting send. Its caller and the batcher agree by one atomic state: either it is written, or it is abandoned, never both. An
//! abandoned send is dropped before its statement starts; a started one is finished.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::error::SendError;
use crate::model::send::{SendOutcome, SendRequest};

/// How long a send may wait for its statement. With the time limit of a batch, the response still precedes the load balancer's
/// timeout.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(3);

const WAITING: u8 = 0;
const STARTED: u8 = 1;
const ABANDONED: u8 = 2;
/// Started, but its caller has gone: it is finished and never requeued.
const CALLER_GONE: u8 = 3;

/// A send with its reply channel.
pub(super) struct PendingSend {
    pub(super) request: SendRequest,
    pub(super) caller: Caller,
}

/// The reply channel of a send.
pub(super) struct Caller {
    reply: oneshot::Sender<Result<SendOutcome, SendError>>,
    state: Arc<AtomicU8>,
    pub(super) since: Instant,
}

impl Caller {
    /// Claims the send. `false` when it was abandoned or timed out.
    pub(super) fn try_start(&self) -> bool {
        self.since.elapsed() < MAX_WAIT && self.transition(WAITING, STARTED)
    }

    /// Makes a started send wait again, after nothing was written. `false` when it timed out or its caller has gone.
    pub(super) fn try_requeue(&self) -> bool {
        let waits = self.transition(STARTED, WAITING);
        waits && self.since.elapsed() < MAX_WAIT
    }

    /// Rejects a send that cannot wait again.
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

    /// A caller that has gone may retry, or read the history.
    pub(super) fn reply(self, result: Result<SendOutcome, SendError>) {
        let _gone = self.reply.send(result);
    }

    fn transition(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// The caller's end. Dropping it abandons a send that has not started.
pub(super) struct Waiter {
    reply_receiver: oneshot::Receiver<Result<SendOutcome, SendError>>,
    state: Arc<AtomicU8>,
}

/// Creates a send and its caller's end.
pub(super) fn pending_send(request: SendRequest) -> (PendingSend, Waiter) {
    let (reply, reply_receiver) = oneshot::channel();
    let state: Arc<AtomicU8> = Arc::default();
    let caller = Caller { reply, state: state.clone(), since: Instant::now() };
    (PendingSend { request, caller }, Waiter { reply_receiver, state })
}

impl Waiter {
    /// Waits for the result. `disconnected` completes when the client has gone.
    pub(super) async fn outcome(mut self, disconnected: impl Future<Output = ()>) -> Result<SendOutcome, SendError> {
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
            // Its statement has started, so a reply will come.
            Ok(None) | Err(_) => (&mut self.reply_receiver).await,
        };
        answer.unwrap_or_else(|_| Err(timed_out()))
    }

    /// Whether the send was abandoned. A started send is marked instead, so that it is not requeued.
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

/// The client has gone; nothing was written.
fn caller_disconnected() -> SendError {
    metrics::counter!("ehr_chat_sends_abandoned_total", "cause" => "caller_gone").increment(1);
    SendError::TimedOut
}

/// The send waited too long; nothing was written.
pub(super) fn timed_out() -> SendError {
    metrics::counter!("ehr_chat_sends_abandoned_total", "cause" => "too_late").increment(1);
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
    async fn started_send_is_not_requeued_when_caller_leaves() {
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
    async fn started_send_is_requeued_while_caller_waits() {
        let (caller, waiter) = send();
        let outcome = tokio::spawn(waiter.outcome(pending()));
        assert!(caller.try_start() && caller.try_requeue() && caller.is_waiting() && caller.try_start());
        caller.reply(Ok(SendOutcome::IdReused));
        assert_eq!(outcome.await.unwrap().unwrap(), SendOutcome::IdReused);
    }
}
