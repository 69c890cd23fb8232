//! Requests whose caller goes away before the answer. What they are at is finished in a task of its own: cut off in the middle, it
//! would cost the connection to PostgreSQL that it uses, and the chain of the audit trail that it has in hand. What it has not begun
//! yet it does not begin.
//!
//! A request that is answered pays one allocation for this: the task is made only when its connection is dropped.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

tokio::task_local! {
    /// Set in the task of a request whose caller has gone.
    static CALLER_DISCONNECTED: ();
}

/// Whether the request that this is called for is one whose caller has gone away.
#[must_use]
pub(crate) fn is_caller_disconnected() -> bool {
    CALLER_DISCONNECTED.try_with(|()| ()).is_ok()
}

/// Waits until the caller of this request goes away, if it does.
pub(crate) async fn caller_disconnected() {
    // A request is polled anew when it gets its own task; nothing else has to wake it.
    poll_fn(|_| if is_caller_disconnected() { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// Where requests without a caller go on.
pub(crate) struct DetachedTasks<G> {
    /// Those that wait for the end of all requests wait for these, too.
    pub(crate) tasks: TaskTracker,
    /// Ends them, finished or not.
    pub(crate) cancel: CancellationToken,
    /// Kept until the last request of a connection has ended: its place among the connections, which bounds these tasks.
    #[expect(dead_code, reason = "it is held, not read")]
    pub(crate) permit: G,
}

/// A request's work, which is finished even if this is dropped.
pub(crate) struct DetachOnDrop<F: Future<Output: Send> + Send + 'static, G: Send + Sync + 'static> {
    work: Option<Pin<Box<F>>>,
    is_started: bool,
    detached: Arc<DetachedTasks<G>>,
}

impl<F: Future<Output: Send> + Send + 'static, G: Send + Sync + 'static> DetachOnDrop<F, G> {
    pub(crate) fn new(work: F, detached: Arc<DetachedTasks<G>>) -> Self {
        Self { work: Some(Box::pin(work)), is_started: false, detached }
    }
}

impl<F: Future<Output: Send> + Send + 'static, G: Send + Sync + 'static> Future for DetachOnDrop<F, G> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.is_started = true;
        // Taken out meanwhile: what panics is not to be polled again.
        let Some(mut work) = self.work.take() else { return Poll::Pending };
        let polled = work.as_mut().poll(context);
        if polled.is_pending() {
            self.work = Some(work);
        }
        polled
    }
}

impl<F: Future<Output: Send> + Send + 'static, G: Send + Sync + 'static> Drop for DetachOnDrop<F, G> {
    fn drop(&mut self) {
        let Some(work) = self.work.take().filter(|_| self.is_started) else { return };
        // None while the runtime itself ends.
        let Ok(runtime) = Handle::try_current() else { return };
        metrics::counter!("http_requests_abandoned_total").increment(1);
        let detached = self.detached.clone();
        let tasks = detached.tasks.clone();
        let finishing = async move {
            tokio::select! {
                _output = work => {}
                () = detached.cancel.cancelled() => {}
            }
            drop(detached);
        };
        drop(tasks.spawn_on(CALLER_DISCONNECTED.scope((), finishing), &runtime));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    fn detached<G>(permit: G) -> Arc<DetachedTasks<G>> {
        Arc::new(DetachedTasks { tasks: TaskTracker::new(), cancel: CancellationToken::new(), permit })
    }

    #[tokio::test]
    async fn work_that_is_dropped_in_the_middle_is_finished_and_keeps_its_place_until_then() {
        let (permit, held) = oneshot::channel::<()>();
        let detached = detached(permit);
        let (go_on, wait) = oneshot::channel::<()>();
        let (done, finished) = oneshot::channel();
        let work = async move {
            assert!(!is_caller_disconnected());
            wait.await.unwrap();
            done.send(is_caller_disconnected()).unwrap();
        };
        let mut finishing = Box::pin(DetachOnDrop::new(work, detached.clone()));
        assert!(futures_util::poll!(finishing.as_mut()).is_pending());
        let tasks = detached.tasks.clone();
        drop((finishing, detached));
        let mut held = Box::pin(held);
        assert!(futures_util::poll!(held.as_mut()).is_pending(), "the place is taken");
        go_on.send(()).unwrap();
        assert!(finished.await.unwrap(), "it knows that its caller has gone");
        tasks.close();
        tasks.wait().await;
        assert!(held.await.is_err(), "the place is free");
    }

    #[tokio::test]
    async fn what_has_not_begun_does_not_begin_and_what_waits_stops_to() {
        let detached = detached(());
        drop(DetachOnDrop::new(async { panic!("it must not run") }, detached.clone()));
        let (done, finished) = oneshot::channel();
        let work = async move {
            caller_disconnected().await;
            done.send(()).unwrap();
        };
        let mut finishing = Box::pin(DetachOnDrop::new(work, detached));
        assert!(futures_util::poll!(finishing.as_mut()).is_pending());
        drop(finishing);
        finished.await.unwrap();
    }

    #[tokio::test]
    async fn the_end_of_the_service_ends_them() {
        let detached = detached(());
        let mut finishing = Box::pin(DetachOnDrop::new(std::future::pending::<()>(), detached.clone()));
        assert!(futures_util::poll!(finishing.as_mut()).is_pending());
        drop(finishing);
        detached.cancel.cancel();
        detached.tasks.close();
        detached.tasks.wait().await;
    }
}
