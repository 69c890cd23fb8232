//! How long commits wait for a synchronous standby.
//!
//! PostgreSQL shows which sessions wait, and since when their statements run. A statement that was slow for another reason, and waits a
//! moment for a healthy standby at its end, must not count. So a wait counts from the first look that sees it.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// A session that waits: its process, and the start of its statement in microseconds.
pub(super) type WaitingSession = (i32, i64);

/// The waits that the last look saw, each with the time of the first look that saw it.
#[derive(Debug, Default)]
pub(super) struct CommitWaits(HashMap<WaitingSession, Instant>);

impl CommitWaits {
    /// Records what a look sees. Returns the longest wait.
    pub(super) fn update(&mut self, waiting: &[WaitingSession], now: Instant) -> Duration {
        self.0 = waiting.iter().map(|session| (*session, *self.0.get(session).unwrap_or(&now))).collect();
        self.0.values().map(|since| now.duration_since(*since)).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_counts_while_the_same_commit_is_seen() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut waits = CommitWaits::default();
        assert_eq!(waits.update(&[(7, 100)], start), Duration::ZERO, "however long its statement has run");
        assert_eq!(waits.update(&[(7, 100), (8, 100)], start + second), second);
        // The next statement of the same session.
        assert_eq!(waits.update(&[(7, 200), (8, 100)], start + 3 * second), 2 * second);
        assert_eq!(waits.update(&[], start + 4 * second), Duration::ZERO);
        assert_eq!(waits.update(&[(8, 100)], start + 5 * second), Duration::ZERO, "it was not seen in between");
    }
}
