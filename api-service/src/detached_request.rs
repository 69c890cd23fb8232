//! Requests whose client disconnects before the response. A request that has started is finished in its own task: cutting it off
//! would cost its PostgreSQL connection and its audit chain. Steps that have not begun are skipped.
//!
//! A normal request pays one allocation for this; the task is created only on disconnect.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

tokio::task_local! {
    /// Set in the task of a request whose client has disconnected.
    static CALLER_DISCONNECTED: ();
}

/// Whether the current request has lost its client.
#[must_use]
pub(crate) fn is_caller_disconnected() -> bool {
    CALLER_DISCONNECTED.try_with(|()| ()).is_ok()
}

/// Waits until the client of this request disconnects.
pub(crate) async fn caller_disconnected() {
    // The request is polled again when it moves to its own task, so no waker is needed.
    poll_fn(|_| if is_caller_disconnected() { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// Where requests without a client continue.
pub(crate) struct DetachedTasks<G> {
    /// Tracks these tasks, so that the shutdown waits for them.
    pub(crate) tasks: TaskTracker,
    /// Cancels them at the end of the shutdown.
    pub(crate) cancel: CancellationToken,
    /// The connection's permit, held until its last request has ended. It bounds these tasks.
    #[expect(dead_code, reason = "it is held, not read")]
    pub(crate) permit: G,
}

/// The future of a request, which continues in a task when this is dropped.
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
        // Taken out while polled, so that a panic cannot poll it again.
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
        // `None` while the runtime itself shuts down.
        let Ok(runtime) = Handle::try_current() else { return };
        metrics::counter!("ehr_chat_http_requests_abandoned_total").increment(1);
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
    async fn dropped_work_is_finished_and_holds_its_permit() {
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
    async fn unstarted_work_is_skipped_and_waiting_work_notified() {
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
    async fn shutdown_cancels_detached_work() {
        let detached = detached(());
        let mut finishing = Box::pin(DetachOnDrop::new(std::future::pending::<()>(), detached.clone()));
        assert!(futures_util::poll!(finishing.as_mut()).is_pending());
        drop(finishing);
        detached.cancel.cancel();
        detached.tasks.close();
        detached.tasks.wait().await;
    }
}
