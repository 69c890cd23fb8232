//! Tasks that are supervised while they should run, and that end together, under one deadline.
//!
//! A task that ends or panics before the shutdown begins is a failure of the process: its work would silently stop. The service
//! waits for [`Shutdown::wait_for_failure`] and exits with that error, and its supervisor restarts it.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// In debug builds only: the name of a task that fails shortly after its start, for tests. With `:end` behind it the task
/// returns, otherwise it panics.
#[cfg(debug_assertions)]
const FAIL_POINT_VARIABLE: &str = "TEST_FAIL_TASK";

/// Handed to everything that runs in the background: spawns tasks, tells them to end, waits until they have.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
    failure: Arc<Failure>,
}

#[derive(Debug, Default)]
struct Failure {
    first: OnceLock<TaskError>,
    signal: CancellationToken,
}

/// A task has ended that should have run until the shutdown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the task `{name}` {how} before the shutdown")]
pub struct TaskError {
    /// Which.
    pub name: &'static str,
    how: &'static str,
}

impl Shutdown {
    /// A shutdown without tasks that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One that begins with the first SIGTERM or SIGINT of this process.
    ///
    /// # Errors
    /// When the signal handlers cannot be installed.
    pub fn on_signal() -> std::io::Result<Self> {
        let shutdown = Self::new();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let begin = shutdown.clone();
        shutdown.spawn_until("signals", async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            begin.begin();
        });
        Ok(shutdown)
    }

    /// Runs a task that [`Shutdown::finish`] waits for, and that must not end before the shutdown begins.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        tracing::debug!(task = name, "task starts");
        let running = self.tasks.spawn(with_fail_point(name, task));
        let shutdown = self.clone();
        tokio::spawn(async move {
            let how = match running.await {
                Err(error) if error.is_panic() => "panicked",
                _ => "ended",
            };
            if !shutdown.has_begun() {
                shutdown.fail(TaskError { name, how });
            } else if how == "panicked" {
                tracing::error!(task = name, "a task panicked during the shutdown");
            }
        });
    }

    /// The same for a task that knows no end: it is dropped when the shutdown begins.
    pub fn spawn_until(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let ended = self.clone();
        self.spawn(name, async move {
            tokio::select! {
                () = task => {}
                () = ended.wait_for_begin() => {}
            }
        });
    }

    /// Waits until a task fails, for ever if none does.
    pub async fn wait_for_failure(&self) -> TaskError {
        self.failure.signal.cancelled().await;
        match self.failure.first.get() {
            Some(failed) => failed.clone(),
            None => std::future::pending().await,
        }
    }

    /// Another one that begins later, for tasks that others need to the last. A task that fails there has failed here.
    #[must_use]
    pub fn later_phase(&self) -> Self {
        Self { failure: self.failure.clone(), ..Self::default() }
    }

    fn fail(&self, failed: TaskError) {
        tracing::error!(task = failed.name, "{failed}");
        // The first is the cause, most likely.
        let _is_first = self.failure.first.set(failed);
        self.failure.signal.cancel();
    }

    /// Asks all tasks to end.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// Whether it has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until it begins.
    pub async fn wait_for_begin(&self) {
        self.token.cancelled().await;
    }

    /// Asks all tasks to end and waits for them, `deadline` at most. Returns whether all ended in time.
    pub async fn finish(&self, deadline: Duration) -> bool {
        self.token.cancel();
        self.tasks.close();
        tokio::time::timeout(deadline, self.tasks.wait()).await.is_ok()
    }
}

/// Lets a test make a task fail.
#[cfg(debug_assertions)]
async fn with_fail_point(name: &'static str, task: impl Future<Output = ()>) {
    const AFTER: Duration = Duration::from_millis(200);
    let wanted = std::env::var(FAIL_POINT_VARIABLE).unwrap_or_default();
    let (wanted, ends) = wanted.strip_suffix(":end").map_or((wanted.as_str(), false), |name| (name, true));
    if wanted != name {
        return task.await;
    }
    tokio::select! {
        () = task => {}
        () = tokio::time::sleep(AFTER) => assert!(ends, "a test has asked for it"),
    }
}

#[cfg(not(debug_assertions))]
fn with_fail_point<F: Future<Output = ()>>(_name: &'static str, task: F) -> F {
    task
}

/// Panics where a test asks for it, in debug builds only: in a task of one caller, whose end must not affect others.
#[cfg(debug_assertions)]
pub fn fail_point(name: &str) {
    assert!(std::env::var(FAIL_POINT_VARIABLE).as_deref() != Ok(name), "a test has asked for it");
}

/// Panics where a test asks for it, in debug builds only.
#[cfg(not(debug_assertions))]
#[inline]
pub fn fail_point(_name: &str) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn finish_waits_for_tasks() {
        let shutdown = Shutdown::new();
        let waiting = shutdown.clone();
        shutdown.spawn("patient", async move { waiting.wait_for_begin().await });
        shutdown.spawn_until("endless", std::future::pending());
        assert!(shutdown.finish(Duration::from_secs(5)).await);
        assert!(shutdown.failure.first.get().is_none());
    }

    #[tokio::test]
    async fn finish_gives_up_at_the_deadline() {
        let shutdown = Shutdown::new();
        shutdown.spawn("stubborn", std::future::pending::<()>());
        assert!(!shutdown.finish(Duration::from_millis(10)).await);
    }

    #[tokio::test]
    async fn task_that_ends_early_is_named() {
        for (how, task) in [("ended", false), ("panicked", true)] {
            let shutdown = Shutdown::new();
            shutdown.spawn_until("steady", std::future::pending());
            shutdown.spawn("brief", async move { assert!(!task, "on purpose") });
            let failed = shutdown.wait_for_failure().await;
            assert_eq!(failed, TaskError { name: "brief", how });
            assert!(failed.to_string().contains("`brief`"));
        }
    }

    #[tokio::test]
    async fn later_phase_reports_failures_to_the_first() {
        let first = Shutdown::new();
        let last = first.later_phase();
        first.begin();
        assert!(!last.has_begun(), "it goes on");
        last.spawn("brief", async {});
        assert_eq!(first.wait_for_failure().await.name, "brief");
    }
}
