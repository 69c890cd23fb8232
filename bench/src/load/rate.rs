//! When things are due at a fixed rate, independent of those before: a system that stalls cannot hide it by being asked less.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use anyhow::Result;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// How often a loop looks at what is due: epoll's own timeouts are whole milliseconds.
const TICK: Duration = Duration::from_micros(200);

/// So many a second.
#[derive(Debug)]
pub(crate) struct Pace {
    start: Duration,
    per_second: f64,
    done: u64,
}

impl Pace {
    /// Begins at `start`.
    pub(crate) fn new(start: Duration, per_second: f64) -> Self {
        Self { start, per_second, done: 0 }
    }

    /// When the next one was due, if that is past. Each is handed out once.
    pub(crate) fn next(&mut self, now: Duration) -> Option<Duration> {
        let due = self.start + Duration::from_secs_f64(self.done as f64 / self.per_second);
        (due <= now).then(|| {
            self.done += 1;
            due
        })
    }
}

/// Wakes a loop every fifth of a millisecond for as long as it lives.
#[derive(Debug)]
pub(crate) struct Ticker(TimerFd);

impl Ticker {
    pub(crate) fn new(registry: &Registry, token: Token) -> Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        timer.set(Expiration::Interval(TimeSpec::from_duration(TICK)), TimerSetTimeFlags::empty())?;
        registry.register(&mut SourceFd(&timer.as_fd().as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self(timer))
    }

    /// Takes what has rung. A timer that is not read does not ring again.
    pub(crate) fn rearm(&self) {
        let mut expirations = [0; 8];
        let _not_yet = nix::unistd::read(&self.0, &mut expirations);
    }

    pub(crate) fn stop(self, registry: &Registry) -> Result<()> {
        Ok(registry.deregister(&mut SourceFd(&self.0.as_fd().as_raw_fd()))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticker_fires_repeatedly() {
        let mut poll = mio::Poll::new().unwrap();
        let ticker = Ticker::new(poll.registry(), Token(7)).unwrap();
        let mut events = mio::Events::with_capacity(1);
        for _ in 0..5 {
            poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
            assert!(!events.is_empty(), "it rings before the poll gives up");
            ticker.rearm();
        }
    }

    #[test]
    fn pace_catches_up_after_delay() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::new(second, 10.0);
        assert_eq!(pace.next(Duration::ZERO), None);
        let due: Vec<_> = std::iter::from_fn(|| pace.next(second * 2)).collect();
        assert_eq!(due.len(), 11);
        assert_eq!((due[0], due[10]), (second, second * 2));
    }
}
