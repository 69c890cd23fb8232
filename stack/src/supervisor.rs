//! Keeps one program running: waits for its end and starts it again, the same as before.
//! A program that ends before it was ever ready is not restarted: its configuration is wrong. Nor is one that says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::orphans;
use crate::probe::Probe;
use crate::program::Program;
use crate::terminal;

/// A program that lived this long is restarted without delay when it dies.
const STABLE_AFTER: Duration = Duration::from_secs(5);
/// Delays before the restarts of one that keeps dying.
const MIN_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(1);
/// Between two probes of a program that starts.
const PROBE_INTERVAL: Duration = Duration::from_millis(25);

/// A running program and the task that watches it.
#[derive(Debug)]
pub(crate) struct Supervisor {
    program: Arc<Program>,
    pid: Arc<AtomicI32>,
    was_ready: Arc<AtomicBool>,
    stop_request: watch::Sender<Option<Signal>>,
    task: JoinHandle<()>,
}

impl Supervisor {
    /// Starts the program. `changed` is notified of every later restart.
    pub(crate) fn start(program: Program, changed: Arc<Notify>) -> Result<Self> {
        let child = program.spawn()?;
        let program = Arc::new(program);
        let (pid, was_ready) = (Arc::new(AtomicI32::new(0)), Arc::new(AtomicBool::new(false)));
        let (stop_request, stop_requests) = watch::channel(None);
        let restarts = RestartLoop {
            program: program.clone(),
            pid: pid.clone(),
            was_ready: was_ready.clone(),
            stop_requests,
            changed,
        };
        restarts.record_pid(&child);
        let task = tokio::spawn(restarts.run(child));
        Ok(Self { program, pid, was_ready, stop_request, task })
    }

    /// The process that runs now.
    pub(crate) fn pid(&self) -> i32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// Whether the program runs, or is about to be started again.
    pub(crate) fn is_running(&self) -> bool {
        !self.task.is_finished()
    }

    /// Waits until the probe passes; from then on the program is restarted when it dies.
    ///
    /// # Errors
    /// When it ends before, or is not ready within `timeout`; the error holds the end of its log.
    pub(crate) async fn ready(&self, probe: &Probe, timeout: Duration) -> Result<()> {
        let started = Instant::now();
        while !probe.passes().await {
            if self.task.is_finished() {
                bail!("{} ended while it started\n{}", self.program.name, self.program.log_tail());
            }
            if started.elapsed() > timeout {
                let seconds = timeout.as_secs();
                bail!("{} was not ready within {seconds} s\n{}", self.program.name, self.program.log_tail());
            }
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
        self.was_ready.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Sends a signal and restarts no more; does not wait.
    pub(crate) fn request_stop(&self, signal: Signal) {
        self.stop_request.send_replace(Some(signal));
    }

    /// Asks the program to end, waits, and kills it after `timeout`.
    pub(crate) async fn stop(mut self, signal: Signal, timeout: Duration) {
        self.request_stop(signal);
        if tokio::time::timeout(timeout, &mut self.task).await.is_err() {
            terminal::print_error(format!("{} did not stop within {} s; killed", self.program.name, timeout.as_secs()));
            self.request_stop(Signal::SIGKILL);
            let _ = self.task.await;
        }
    }

    /// The signal that asks this program to end.
    pub(crate) fn stop_signal(&self) -> Signal {
        self.program.stop
    }
}

struct RestartLoop {
    program: Arc<Program>,
    pid: Arc<AtomicI32>,
    was_ready: Arc<AtomicBool>,
    stop_requests: watch::Receiver<Option<Signal>>,
    changed: Arc<Notify>,
}

impl RestartLoop {
    async fn run(mut self, mut child: Child) {
        let mut backoff = None;
        loop {
            let started = Instant::now();
            let status = self.wait_for_exit(&mut child).await;
            if self.stop_requests.borrow().is_some() || !self.was_ready.load(Ordering::Relaxed) {
                return;
            }
            if !self.program.restarts {
                terminal::print_error(format!("{} ended ({status})", self.program.name));
                self.changed.notify_one();
                return;
            }
            let delay = next_backoff(backoff, started.elapsed());
            backoff = Some(delay);
            terminal::print_error(format!("{} ended ({status}); starting it again", self.program.name));
            match self.restart(delay).await {
                Some(next) => child = next,
                None => return,
            }
        }
    }

    /// Waits for the child's end; passes on the signals that are wished for meanwhile.
    async fn wait_for_exit(&mut self, child: &mut Child) -> String {
        loop {
            let signal = tokio::select! {
                status = child.wait() => return status.map_or_else(|error| error.to_string(), |status| status.to_string()),
                Ok(()) = self.stop_requests.changed() => *self.stop_requests.borrow_and_update(),
            };
            if let (Some(signal), Some(pid)) = (signal, child.id().and_then(|pid| i32::try_from(pid).ok())) {
                let _ = kill(Pid::from_raw(pid), signal);
            }
        }
    }

    /// The next child; none when the wish to stop came first.
    async fn restart(&mut self, mut backoff: Duration) -> Option<Child> {
        loop {
            tokio::select! {
                () = tokio::time::sleep(backoff) => {}
                Ok(()) = self.stop_requests.changed() => return None,
            }
            if let Some(folder) = &self.program.data_folder {
                // What the dead postmaster left behind holds its shared memory; SIGQUIT is what it
                // would have sent them.
                orphans::end(Signal::SIGQUIT, Duration::from_millis(500), || orphans::postgres_in(folder)).await;
            }
            match self.program.spawn() {
                Ok(child) => {
                    self.record_pid(&child);
                    self.changed.notify_one();
                    return Some(child);
                }
                Err(error) => terminal::print_error(format!("{error:#}")),
            }
            backoff = next_backoff(Some(backoff), Duration::ZERO);
        }
    }

    fn record_pid(&self, child: &Child) {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
        self.pid.store(pid, Ordering::Relaxed);
    }
}

/// No delay at the first death and after a steady life; else longer each time.
fn next_backoff(last: Option<Duration>, lived: Duration) -> Duration {
    match last {
        Some(last) if lived < STABLE_AFTER => (last * 2).clamp(MIN_BACKOFF, MAX_BACKOFF),
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_one_second() {
        let mut delays = vec![next_backoff(None, Duration::ZERO)];
        for _ in 0..6 {
            delays.push(next_backoff(delays.last().copied(), Duration::ZERO));
        }
        let millis: Vec<u128> = delays.iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [0, 100, 200, 400, 800, 1000, 1000]);
        assert_eq!(next_backoff(Some(MAX_BACKOFF), STABLE_AFTER), Duration::ZERO);
    }
}
