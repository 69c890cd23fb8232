//! A send that waits, and what its caller and the writer agree on: it is written or it is given up, never both. A send that
//! was given up is dropped before its statement starts; one whose statement has started is finished.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Written;
use crate::domain::error::Refused;
use crate::model::message::NewMessage;
use crate::model::origin::Origin;

/// Longest that a send waits for its statement to start. With the longest that its batch may take, an answer comes before the
/// balancer gives up, who could say no more than that nobody knows what became of it.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(3);

const WAITS: u8 = 0;
const STARTED: u8 = 1;
const GIVEN_UP: u8 = 2;
/// It has started, and nobody waits for it any more: it is finished, but does not wait again.
const UNWANTED: u8 = 3;

/// A send, and who waits for it.
pub(super) struct Pending {
    pub(super) new: Arc<NewMessage>,
    pub(super) origin: Origin,
    pub(super) caller: Caller,
}

/// Who waits for a send.
pub(super) struct Caller {
    answer: oneshot::Sender<Result<Written, Refused>>,
    stage: Arc<AtomicU8>,
    pub(super) since: Instant,
}

impl Caller {
    /// Begins to write. False when nobody wants it any more, or it is too late.
    pub(super) fn start(&self) -> bool {
        self.since.elapsed() < MAX_WAIT && self.moves(WAITS, STARTED)
    }

    /// Nothing was written: it waits again. False when it has waited for too long, or nobody wants it any more.
    pub(super) fn waits_again(&self) -> bool {
        let waits = self.moves(STARTED, WAITS);
        waits && self.since.elapsed() < MAX_WAIT
    }

    /// Refuses what does not wait again.
    pub(super) fn refuse_waiting(self) {
        let why = match self.stage.load(Ordering::Acquire) {
            UNWANTED if self.since.elapsed() < MAX_WAIT => caller_gone(),
            _ => too_late(),
        };
        self.answer(Err(why));
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.stage.load(Ordering::Acquire) == WAITS && self.since.elapsed() < MAX_WAIT
    }

    /// Whoever no longer waits can ask again, or read the history.
    pub(super) fn answer(self, answer: Result<Written, Refused>) {
        let _gone = self.answer.send(answer);
    }

    fn moves(&self, from: u8, to: u8) -> bool {
        self.stage.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// The caller's end. When it is dropped, what has not started is given up.
pub(super) struct Waiter {
    answered: oneshot::Receiver<Result<Written, Refused>>,
    stage: Arc<AtomicU8>,
}

/// A send and its caller's end.
pub(super) fn pending(new: Arc<NewMessage>, origin: Origin) -> (Pending, Waiter) {
    let (answer, answered) = oneshot::channel();
    let stage: Arc<AtomicU8> = Arc::default();
    let caller = Caller { answer, stage: stage.clone(), since: Instant::now() };
    (Pending { new, origin, caller }, Waiter { answered, stage })
}

impl Waiter {
    /// What becomes of the send. `gone` ends when its caller has gone.
    pub(super) async fn outcome(mut self, gone: impl Future<Output = ()>) -> Result<Written, Refused> {
        let waiting = async {
            tokio::select! {
                biased;
                answer = &mut self.answered => Some(answer),
                () = gone => None,
            }
        };
        let answer = match timeout(MAX_WAIT, waiting).await {
            Ok(Some(answer)) => answer,
            Ok(None) if self.gives_up() => return Err(caller_gone()),
            Err(_) if self.gives_up() => return Err(too_late()),
            // Its statement has started, so it will be answered.
            Ok(None) | Err(_) => (&mut self.answered).await,
        };
        answer.unwrap_or_else(|_| Err(too_late()))
    }

    /// Whether it was given up. If it has started, it is finished, and does not wait once more.
    fn gives_up(&self) -> bool {
        let left = |stage| match stage {
            WAITS => Some(GIVEN_UP),
            STARTED => Some(UNWANTED),
            _ => None,
        };
        self.stage.fetch_update(Ordering::AcqRel, Ordering::Acquire, left) == Ok(WAITS)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.gives_up();
    }
}

/// Its caller has gone, and nothing was written.
fn caller_gone() -> Refused {
    metrics::counter!("sends_given_up_total", "cause" => "caller_gone").increment(1);
    Refused::TooLate
}

/// It has waited for too long, and nothing was written.
pub(super) fn too_late() -> Refused {
    metrics::counter!("sends_given_up_total", "cause" => "too_late").increment(1);
    Refused::TooLate
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    fn send() -> (Caller, Waiter) {
        let (answer, answered) = oneshot::channel();
        let stage: Arc<AtomicU8> = Arc::default();
        (Caller { answer, stage: stage.clone(), since: Instant::now() }, Waiter { answered, stage })
    }

    #[tokio::test]
    async fn a_send_whose_caller_left_when_it_had_started_does_not_wait_again() {
        let (caller, waiter) = send();
        assert!(caller.start());
        let outcome = tokio::spawn(waiter.outcome(ready(())));
        while caller.stage.load(Ordering::Acquire) == STARTED {
            tokio::task::yield_now().await;
        }
        assert!(!caller.waits_again() && !caller.is_waiting() && !caller.start());
        caller.refuse_waiting();
        assert!(matches!(outcome.await.unwrap(), Err(Refused::TooLate)));

        let (caller, waiter) = send();
        assert!(caller.start());
        drop(waiter);
        assert!(!caller.waits_again() && !caller.start(), "nor when the whole request was dropped");
    }

    #[tokio::test]
    async fn a_send_whose_caller_stays_waits_again_and_starts_again() {
        let (caller, waiter) = send();
        let outcome = tokio::spawn(waiter.outcome(pending()));
        assert!(caller.start() && caller.waits_again() && caller.is_waiting() && caller.start());
        caller.answer(Err(Refused::IdReused));
        assert!(matches!(outcome.await.unwrap(), Err(Refused::IdReused)));
    }
}
