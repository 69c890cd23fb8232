//! A thread for one task.
//!
//! On the threads of a runtime a task queues behind all others, at each of its steps. A task on which many others wait is faster
//! alone: the scheduler of the system runs it as soon as it has something to do.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use tokio::runtime::Builder;
use tokio::sync::oneshot;

/// Runs `task` on a thread of its own, until it ends; also if this future is dropped. What the task spawns runs on the same
/// thread, and is dropped when the task ends. A panic of the task is a panic of this future.
///
/// # Errors
/// When the thread or its runtime cannot be started.
pub async fn on_own_thread(
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) -> Result<(), std::io::Error> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (ended, end) = oneshot::channel();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(task)));
        drop(runtime);
        // A caller that has gone does not ask.
        let _gone = ended.send(outcome);
    })?;
    match end.await {
        Ok(Err(panic)) => resume_unwind(panic),
        Ok(Ok(())) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn task_and_what_it_spawns_run_on_named_thread() {
        let (names, mut seen) = mpsc::unbounded_channel();
        on_own_thread("alone", async move {
            let name = || std::thread::current().name().map(str::to_owned);
            names.send(name()).unwrap();
            let spawned = tokio::spawn(async move { names.send(name()).unwrap() });
            spawned.await.unwrap();
        })
        .await
        .unwrap();
        for _ in 0..2 {
            assert_eq!(seen.recv().await.unwrap().as_deref(), Some("alone"));
        }
    }

    #[tokio::test]
    async fn spawned_task_is_dropped_with_its_task() {
        struct SetOnDrop(Arc<AtomicBool>);
        impl Drop for SetOnDrop {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let dropped = Arc::new(AtomicBool::new(false));
        let held = SetOnDrop(dropped.clone());
        on_own_thread("alone", async move {
            tokio::spawn(async move {
                let _held = held;
                std::future::pending::<()>().await;
            });
            tokio::task::yield_now().await;
        })
        .await
        .unwrap();
        assert!(dropped.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn panic_reaches_the_caller() {
        let caller = tokio::spawn(on_own_thread("alone", async { panic!("on purpose") }));
        assert!(caller.await.unwrap_err().is_panic());
    }
}
