//! Tasks that end together, under one deadline.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Handed to everything that runs in the background: spawns tasks, tells them to end, waits until they have.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// Nothing runs, nobody was told to end.
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
        let token = shutdown.token.clone();
        // Not through the tracker: nobody waits for a signal that never comes.
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            token.cancel();
        });
        Ok(shutdown)
    }

    /// Runs a task that [`Shutdown::finish`] waits for.
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// Tells everybody to end.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// Whether it has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until it begins.
    pub async fn begun(&self) {
        self.token.cancelled().await;
    }

    /// Tells everybody to end and waits for it, `deadline` at most. Returns whether all ended in time.
    pub async fn finish(&self, deadline: Duration) -> bool {
        self.token.cancel();
        self.tasks.close();
        tokio::time::timeout(deadline, self.tasks.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn finish_waits_for_tasks_that_end_when_told() {
        let shutdown = Shutdown::new();
        let told = shutdown.clone();
        shutdown.spawn(async move { told.begun().await });
        assert!(shutdown.finish(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn finish_gives_up_at_the_deadline() {
        let shutdown = Shutdown::new();
        shutdown.spawn(std::future::pending::<()>());
        assert!(!shutdown.finish(Duration::from_millis(10)).await);
    }
}
