//! Something that may happen again and again, and is to be logged without filling the log.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Between two lines.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Counts what happens between two lines of the log.
#[derive(Debug, Default)]
pub struct Repeated(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    told_at: Option<Instant>,
    count: u64,
}

impl Repeated {
    /// It happened `count` times. Returns how often it did since the last line, when a line is due.
    pub fn happened(&self, count: u64) -> Option<u64> {
        let mut state = self.0.lock();
        state.count += count;
        if state.told_at.is_some_and(|told_at| told_at.elapsed() < TELL_EVERY) {
            return None;
        }
        state.told_at = Some(Instant::now());
        Some(std::mem::take(&mut state.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_those_behind_it_together() {
        let repeated = Repeated::default();
        assert_eq!((repeated.happened(2), repeated.happened(3), repeated.happened(4)), (Some(2), None, None));
        repeated.0.lock().told_at = None;
        assert_eq!(repeated.happened(1), Some(8));
    }
}
