//! What Redis has taken and no API service has applied yet, to be sent again when Redis has lost it.
//!
//! A batch is let go some time after the consumer group has acknowledged it. Not at once: for a moment after a loss the group that
//! acknowledges may be that of another Redis, which never had the batch. Sent twice is harmless, and lost is for good.

use std::collections::VecDeque;
use std::time::Duration;

use fred::types::Value;
use shared::event::Cursor;
use tokio::time::Instant;

/// Batches in the order in which they were sent.
#[derive(Debug)]
pub(super) struct Unconfirmed {
    sent: VecDeque<Sent>,
    bytes: usize,
    most_bytes: usize,
}

#[derive(Debug)]
struct Sent {
    entries: Vec<Value>,
    bytes: usize,
    /// The id of its last entry, once Redis has taken it.
    last: Option<Cursor>,
    /// Since when it is known to be acknowledged.
    acknowledged_at: Option<Instant>,
}

/// How far a consumer group has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It has acknowledged all entries up to this one.
    UpTo(Cursor),
    /// It has acknowledged all entries before this one.
    Before(Cursor),
}

impl Progress {
    fn includes(self, entry: Cursor) -> bool {
        match self {
            Self::UpTo(last) => entry <= last,
            Self::Before(first) => entry < first,
        }
    }
}

impl Unconfirmed {
    /// Keeps at most so many bytes of entries.
    pub(super) fn new(most_bytes: usize) -> Self {
        Self { sent: VecDeque::new(), bytes: 0, most_bytes }
    }

    /// Whether there is nothing to wait for.
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// A batch is about to be sent: before, so that a loss that is noticed while it is under way concerns it as well. Returns how many
    /// entries are forgotten for want of room, the oldest first.
    pub(super) fn remember(&mut self, entries: Vec<Value>) -> usize {
        let bytes = entries.iter().filter_map(Value::as_bytes).map(<[u8]>::len).sum();
        self.bytes += bytes;
        self.sent.push_back(Sent { entries, bytes, last: None, acknowledged_at: None });
        let mut forgotten = 0;
        while self.bytes > self.most_bytes
            && let Some(oldest) = self.sent.pop_front()
        {
            self.bytes -= oldest.bytes;
            forgotten += oldest.entries.len();
        }
        forgotten
    }

    /// Redis has taken the batch that was remembered last.
    pub(super) fn taken(&mut self, last: Option<Cursor>) {
        if let Some(newest) = self.sent.back_mut() {
            newest.last = last;
        }
    }

    /// The consumer group has come so far. Lets go of what was acknowledged `grace` ago.
    pub(super) fn acknowledged(&mut self, progress: Progress, now: Instant, grace: Duration) {
        for sent in &mut self.sent {
            match sent.last {
                Some(last) if progress.includes(last) => {
                    sent.acknowledged_at.get_or_insert(now);
                }
                // Entries are added in order.
                _ => break,
            }
        }
        while let Some(oldest) = self.sent.front()
            && oldest.acknowledged_at.is_some_and(|at| at + grace <= now)
        {
            self.bytes -= oldest.bytes;
            self.sent.pop_front();
        }
    }

    /// Redis may have lost all of it. To be sent again.
    pub(super) fn take_all(&mut self) -> Vec<Vec<Value>> {
        self.bytes = 0;
        self.sent.drain(..).map(|sent| sent.entries).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    fn cursor(millis: u64) -> Cursor {
        format!("{millis}-0").parse().unwrap()
    }

    fn batch(text: &str) -> Vec<Value> {
        vec![text.into()]
    }

    /// Batches of ten bytes, taken at 1-0, 2-0 and so on.
    fn sent(batches: u64, most_bytes: usize) -> (Unconfirmed, usize) {
        let (mut unconfirmed, mut forgotten) = (Unconfirmed::new(most_bytes), 0);
        for n in 1..=batches {
            forgotten += unconfirmed.remember(batch(&format!("{n:010}")));
            unconfirmed.taken(Some(cursor(n)));
        }
        (unconfirmed, forgotten)
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again_after_a_loss() {
        let (mut unconfirmed, now) = (sent(3, 1000).0, Instant::now());
        unconfirmed.acknowledged(Progress::Before(cursor(3)), now, GRACE);
        unconfirmed.acknowledged(Progress::Before(cursor(3)), now + GRACE, GRACE);
        assert_eq!(unconfirmed.take_all(), [batch("0000000003")]);
        assert!(unconfirmed.is_empty());
    }

    #[test]
    fn what_was_acknowledged_a_moment_ago_may_have_been_acknowledged_by_another_redis() {
        let (mut unconfirmed, now) = (sent(2, 1000).0, Instant::now());
        unconfirmed.acknowledged(Progress::UpTo(cursor(9)), now, GRACE);
        unconfirmed.acknowledged(Progress::UpTo(cursor(9)), now + GRACE - Duration::from_millis(1), GRACE);
        assert_eq!(unconfirmed.take_all().len(), 2);
    }

    #[test]
    fn what_is_acknowledged_for_long_enough_takes_no_room() {
        let (mut unconfirmed, now) = (sent(2, 1000).0, Instant::now());
        unconfirmed.remember(batch("under way"));
        unconfirmed.acknowledged(Progress::UpTo(cursor(2)), now, GRACE);
        unconfirmed.acknowledged(Progress::UpTo(cursor(2)), now + GRACE, GRACE);
        assert_eq!(unconfirmed.bytes, "under way".len());
        assert_eq!(unconfirmed.take_all(), [batch("under way")], "nobody can have acknowledged what was not taken");
    }

    #[test]
    fn the_oldest_are_forgotten_when_there_are_too_many_bytes() {
        let (mut unconfirmed, forgotten) = sent(5, 30);
        assert_eq!((forgotten, unconfirmed.bytes), (2, 30));
        assert_eq!(unconfirmed.take_all()[0], batch("0000000003"));
        assert_eq!(unconfirmed.remember(batch(&"x".repeat(31))), 1, "one that is too large for itself");
        unconfirmed.taken(Some(cursor(6)));
        assert!(unconfirmed.is_empty() && unconfirmed.bytes == 0);
    }
}
