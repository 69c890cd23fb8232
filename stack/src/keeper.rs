//! Keeps one program running: waits for its end and starts it again, the same as before.
//! A program that ends before it was ever ready is not restarted: its configuration is wrong.

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
const STEADY: Duration = Duration::from_secs(5);
/// Delays before the restarts of one that keeps dying.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(1);
/// Between two probes of a program that starts.
const PROBE_EVERY: Duration = Duration::from_millis(25);

/// A running program and the task that watches it.
#[derive(Debug)]
pub(crate) struct Keeper {
    program: Arc<Program>,
    pid: Arc<AtomicI32>,
    settled: Arc<AtomicBool>,
    ending: watch::Sender<Option<Signal>>,
    task: JoinHandle<()>,
}

impl Keeper {
    /// Starts the program. `changed` is told of every later restart.
    pub(crate) fn start(program: Program, changed: Arc<Notify>) -> Result<Self> {
        let child = program.spawn()?;
        let program = Arc::new(program);
        let (pid, settled) = (Arc::new(AtomicI32::new(0)), Arc::new(AtomicBool::new(false)));
        let (ending, wishes) = watch::channel(None);
        let watch = Watch { program: program.clone(), pid: pid.clone(), settled: settled.clone(), wishes, changed };
        watch.note(&child);
        let task = tokio::spawn(watch.run(child));
        Ok(Self { program, pid, settled, ending, task })
    }

    /// The process that runs now.
    pub(crate) fn pid(&self) -> i32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// Waits until the probe passes; from then on the program is restarted when it dies.
    ///
    /// # Errors
    /// When it ends before, or is not ready within `patience`; the error holds the end of its log.
    pub(crate) async fn ready(&self, probe: &Probe, patience: Duration) -> Result<()> {
        let started = Instant::now();
        while !probe.passes().await {
            if self.task.is_finished() {
                bail!("{} ended while it started\n{}", self.program.name, self.program.log_tail());
            }
            if started.elapsed() > patience {
                let seconds = patience.as_secs();
                bail!("{} was not ready within {seconds} s\n{}", self.program.name, self.program.log_tail());
            }
            tokio::time::sleep(PROBE_EVERY).await;
        }
        self.settled.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Sends a signal and restarts no more; does not wait.
    pub(crate) fn dismiss(&self, signal: Signal) {
        self.ending.send_replace(Some(signal));
    }

    /// Asks the program to end, waits, and kills it after `patience`.
    pub(crate) async fn stop(mut self, signal: Signal, patience: Duration) {
        self.dismiss(signal);
        if tokio::time::timeout(patience, &mut self.task).await.is_err() {
            terminal::complain(format!("{} did not stop within {} s; killed", self.program.name, patience.as_secs()));
            self.dismiss(Signal::SIGKILL);
            let _ = self.task.await;
        }
    }

    /// The signal that asks this program to end.
    pub(crate) fn stop_signal(&self) -> Signal {
        self.program.stop
    }
}

struct Watch {
    program: Arc<Program>,
    pid: Arc<AtomicI32>,
    settled: Arc<AtomicBool>,
    wishes: watch::Receiver<Option<Signal>>,
    changed: Arc<Notify>,
}

impl Watch {
    async fn run(mut self, mut child: Child) {
        let mut backoff = None;
        loop {
            let started = Instant::now();
            let status = self.end_of(&mut child).await;
            if self.wishes.borrow().is_some() || !self.settled.load(Ordering::Relaxed) {
                return;
            }
            let delay = next_backoff(backoff, started.elapsed());
            backoff = Some(delay);
            terminal::complain(format!("{} ended ({status}); starting it again", self.program.name));
            match self.restart(delay).await {
                Some(next) => child = next,
                None => return,
            }
        }
    }

    /// Waits for the child's end; passes on the signals that are wished for meanwhile.
    async fn end_of(&mut self, child: &mut Child) -> String {
        loop {
            let signal = tokio::select! {
                status = child.wait() => return status.map_or_else(|error| error.to_string(), |status| status.to_string()),
                Ok(()) = self.wishes.changed() => *self.wishes.borrow_and_update(),
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
                Ok(()) = self.wishes.changed() => return None,
            }
            if let Some(folder) = &self.program.workplace {
                // What the dead postmaster left behind holds its shared memory; SIGQUIT is what it
                // would have sent them.
                orphans::end(Signal::SIGQUIT, Duration::from_millis(500), || orphans::postgres_in(folder)).await;
            }
            match self.program.spawn() {
                Ok(child) => {
                    self.note(&child);
                    self.changed.notify_one();
                    return Some(child);
                }
                Err(error) => terminal::complain(format!("{error:#}")),
            }
            backoff = next_backoff(Some(backoff), Duration::ZERO);
        }
    }

    fn note(&self, child: &Child) {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
        self.pid.store(pid, Ordering::Relaxed);
    }
}

/// No delay at the first death and after a steady life; else longer each time.
fn next_backoff(last: Option<Duration>, lived: Duration) -> Duration {
    match last {
        Some(last) if lived < STEADY => (last * 2).clamp(FIRST_BACKOFF, LAST_BACKOFF),
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_keeps_dying_is_restarted_ever_slower_but_within_a_second() {
        let mut delays = vec![next_backoff(None, Duration::ZERO)];
        for _ in 0..6 {
            delays.push(next_backoff(delays.last().copied(), Duration::ZERO));
        }
        let millis: Vec<u128> = delays.iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [0, 100, 200, 400, 800, 1000, 1000]);
        assert_eq!(next_backoff(Some(LAST_BACKOFF), STEADY), Duration::ZERO);
    }
}
