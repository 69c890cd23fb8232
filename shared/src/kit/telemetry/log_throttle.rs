//! Throttles the log line of an event that may repeat often.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Between two lines.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Counts events between two log lines.
#[derive(Debug, Default)]
pub struct LogThrottle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    logged_at: Option<Instant>,
    count: u64,
}

impl LogThrottle {
    /// Records `count` events. Returns the events since the last line, if a line is due.
    pub fn record(&self, count: u64) -> Option<u64> {
        let mut state = self.0.lock();
        state.count += count;
        if state.logged_at.is_some_and(|told_at| told_at.elapsed() < LOG_INTERVAL) {
            return None;
        }
        state.logged_at = Some(Instant::now());
        Some(std::mem::take(&mut state.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_event_is_logged_at_once() {
        let repeated = LogThrottle::default();
        assert_eq!((repeated.record(2), repeated.record(3), repeated.record(4)), (Some(2), None, None));
        repeated.0.lock().logged_at = None;
        assert_eq!(repeated.record(1), Some(8));
    }
}
