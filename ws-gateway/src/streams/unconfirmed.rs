//! What Redis has taken and no API service has applied yet, to be sent again when Redis has lost it.
//!
//! The consumer group says how far it has come, and the server who it is. A batch that was sent while another server answered may be
//! lost, whatever the group says that the present one has: it is sent again. Twice is harmless, and lost is for good.

use std::collections::VecDeque;
use std::sync::Arc;

use fred::types::Value;
use shared::event::Cursor;

/// Batches in the order in which they were sent.
#[derive(Debug)]
pub(super) struct Unconfirmed {
    sent: VecDeque<SentBatch>,
    bytes: usize,
    max_bytes: usize,
    /// The server that has answered last.
    server: Option<Arc<str>>,
}

#[derive(Debug)]
struct SentBatch {
    entries: Vec<Value>,
    bytes: usize,
    /// The id of its last entry, once Redis has taken it.
    last: Option<Cursor>,
    /// The server that had answered last when it was sent; `None` before any had.
    server: Option<Arc<str>>,
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
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { sent: VecDeque::new(), bytes: 0, max_bytes, server: None }
    }

    /// Whether there is nothing to wait for.
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Whether any server has answered yet.
    pub(super) fn has_server(&self) -> bool {
        self.server.is_some()
    }

    /// A batch is about to be sent. Returns how many entries are forgotten for want of room, the oldest first.
    pub(super) fn remember(&mut self, entries: Vec<Value>) -> usize {
        let bytes = entries.iter().filter_map(Value::as_bytes).map(<[u8]>::len).sum();
        self.bytes += bytes;
        self.sent.push_back(SentBatch { entries, bytes, last: None, server: self.server.clone() });
        let mut dropped = 0;
        while self.bytes > self.max_bytes
            && let Some(oldest) = self.sent.pop_front()
        {
            self.bytes -= oldest.bytes;
            dropped += oldest.entries.len();
        }
        dropped
    }

    /// Redis has taken the batch that was remembered last.
    pub(super) fn accepted(&mut self, last: Option<Cursor>) {
        if let Some(newest) = self.sent.back_mut() {
            newest.last = last;
        }
    }

    /// This server has answered, and its consumer group has come so far. Lets go of what that has acknowledged. Returns what this
    /// server may never have had, to be sent again.
    pub(super) fn on_progress(&mut self, server: &str, progress: Option<Progress>) -> Vec<Vec<Value>> {
        let server = match &self.server {
            Some(known) if **known == *server => known.clone(),
            _ => self.server.insert(server.into()).clone(),
        };
        let mut lost = Vec::new();
        let is_acknowledged =
            |last: Option<Cursor>| last.zip(progress).is_some_and(|(last, progress)| progress.includes(last));
        self.sent.retain_mut(|sent| {
            // The first that answers is most likely the one that has taken it.
            let is_kept = match sent.server.get_or_insert_with(|| server.clone()) {
                same if *same == server => !is_acknowledged(sent.last),
                _ => {
                    lost.push(std::mem::take(&mut sent.entries));
                    false
                }
            };
            if !is_kept {
                self.bytes -= sent.bytes;
            }
            is_kept
        });
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(millis: u64) -> Cursor {
        format!("{millis}-0").parse().unwrap()
    }

    fn batch(text: &str) -> Vec<Value> {
        vec![text.into()]
    }

    /// Batches of ten bytes, taken at 1-0, 2-0 and so on, after server `a` has answered.
    fn sent(batches: u64, max_bytes: usize) -> (Unconfirmed, usize) {
        let (mut unconfirmed, mut dropped) = (Unconfirmed::new(max_bytes), 0);
        assert!(unconfirmed.on_progress("a", None).is_empty());
        for n in 1..=batches {
            dropped += unconfirmed.remember(batch(&format!("{n:010}")));
            unconfirmed.accepted(Some(cursor(n)));
        }
        (unconfirmed, dropped)
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again_when_another_server_answers() {
        let (mut unconfirmed, _) = sent(3, 1000);
        assert!(unconfirmed.on_progress("a", Some(Progress::Before(cursor(3)))).is_empty());
        assert_eq!(unconfirmed.on_progress("b", None), [batch("0000000003")]);
        assert!(unconfirmed.is_empty() && unconfirmed.bytes == 0);
    }

    #[test]
    fn another_servers_acknowledgement_is_worth_nothing() {
        let (mut unconfirmed, _) = sent(2, 1000);
        assert_eq!(unconfirmed.on_progress("b", Some(Progress::UpTo(cursor(9)))).len(), 2);
        // Sent again, and taken by it.
        unconfirmed.remember(batch("again"));
        unconfirmed.accepted(Some(cursor(10)));
        assert!(unconfirmed.on_progress("b", Some(Progress::UpTo(cursor(9)))).is_empty());
        assert!(!unconfirmed.is_empty());
        assert!(unconfirmed.on_progress("b", Some(Progress::UpTo(cursor(10)))).is_empty());
        assert!(unconfirmed.is_empty());
    }

    #[test]
    fn what_was_sent_before_any_server_answered_is_kept_until_that_one_acknowledges_it() {
        let mut unconfirmed = Unconfirmed::new(1000);
        unconfirmed.remember(batch("first"));
        unconfirmed.accepted(Some(cursor(1)));
        assert!(unconfirmed.on_progress("a", None).is_empty());
        assert_eq!(unconfirmed.on_progress("b", None), [batch("first")]);
    }

    #[test]
    fn nobody_can_have_acknowledged_what_was_not_taken() {
        let (mut unconfirmed, _) = sent(2, 1000);
        unconfirmed.remember(batch("under way"));
        assert!(unconfirmed.on_progress("a", Some(Progress::UpTo(cursor(99)))).is_empty());
        assert_eq!(unconfirmed.bytes, "under way".len());
        assert_eq!(unconfirmed.on_progress("b", None), [batch("under way")]);
    }

    #[test]
    fn the_oldest_are_forgotten_when_there_are_too_many_bytes() {
        let (mut unconfirmed, dropped) = sent(5, 30);
        assert_eq!((dropped, unconfirmed.bytes), (2, 30));
        assert_eq!(
            unconfirmed.remember(batch(&"x".repeat(31))),
            4,
            "those before it, and one that is too large for itself"
        );
        unconfirmed.accepted(Some(cursor(6)));
        assert!(unconfirmed.is_empty() && unconfirmed.bytes == 0);
    }
}
