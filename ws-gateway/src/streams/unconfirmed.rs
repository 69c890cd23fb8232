//! Batches that Redis has accepted but no API service has applied yet. They are sent again if Redis loses them.
//!
//! The progress script returns the consumer group's position and an id of the server. If the id changes, a failover
//! may have lost the batches of the earlier server, so they are sent again. Duplicates are harmless; losses are not.

use std::collections::VecDeque;
use std::sync::Arc;

use fred::types::Value;
use shared::contract::event::Cursor;

/// Batches in the order in which they were sent.
#[derive(Debug)]
pub(super) struct Unconfirmed {
    sent: VecDeque<SentBatch>,
    bytes: usize,
    max_bytes: usize,
    /// The server of the last reply.
    server: Option<Arc<str>>,
}

#[derive(Debug)]
struct SentBatch {
    entries: Vec<Value>,
    bytes: usize,
    /// The id of its last entry, once Redis has accepted it.
    last: Option<Cursor>,
    /// The server of the last reply before it was sent; `None` before the first.
    server: Option<Arc<str>>,
}

/// The position of a consumer group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// All entries up to this one are acknowledged.
    UpTo(Cursor),
    /// All entries before this one are acknowledged.
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
    /// Keeps at most `max_bytes` of entries.
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { sent: VecDeque::new(), bytes: 0, max_bytes, server: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Whether a server has replied yet.
    pub(super) fn has_server(&self) -> bool {
        self.server.is_some()
    }

    /// Keeps a batch that is about to be sent. Returns how many entries were dropped to make room, oldest first.
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

    /// Redis has accepted the last batch.
    pub(super) fn accepted(&mut self, last: Option<Cursor>) {
        if let Some(newest) = self.sent.back_mut() {
            newest.last = last;
        }
    }

    /// Applies a progress reply: releases acknowledged batches, and returns those that this server may not have.
    pub(super) fn on_progress(&mut self, server: &str, progress: Option<Progress>) -> Vec<Vec<Value>> {
        let server = match &self.server {
            Some(current) if **current == *server => current.clone(),
            _ => self.server.insert(server.into()).clone(),
        };
        let mut lost = Vec::new();
        let is_acknowledged =
            |last: Option<Cursor>| last.zip(progress).is_some_and(|(last, progress)| progress.includes(last));
        self.sent.retain_mut(|sent| {
            // The first server that replies most likely has the batch.
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

    /// Batches of ten bytes, accepted at 1-0, 2-0 and so on, after server `a` has replied.
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
    fn unacknowledged_batch_is_resent_to_new_server() {
        let (mut unconfirmed, _) = sent(3, 1000);
        assert!(unconfirmed.on_progress("a", Some(Progress::Before(cursor(3)))).is_empty());
        assert_eq!(unconfirmed.on_progress("b", None), [batch("0000000003")]);
        assert!(unconfirmed.is_empty() && unconfirmed.bytes == 0);
    }

    #[test]
    fn acknowledgement_of_another_server_is_ignored() {
        let (mut unconfirmed, _) = sent(2, 1000);
        assert_eq!(unconfirmed.on_progress("b", Some(Progress::UpTo(cursor(9)))).len(), 2);
        // Sent again, and accepted.
        unconfirmed.remember(batch("again"));
        unconfirmed.accepted(Some(cursor(10)));
        assert!(unconfirmed.on_progress("b", Some(Progress::UpTo(cursor(9)))).is_empty());
        assert!(!unconfirmed.is_empty());
        assert!(unconfirmed.on_progress("b", Some(Progress::UpTo(cursor(10)))).is_empty());
        assert!(unconfirmed.is_empty());
    }

    #[test]
    fn first_batch_is_kept_until_its_server_acknowledges() {
        let mut unconfirmed = Unconfirmed::new(1000);
        unconfirmed.remember(batch("first"));
        unconfirmed.accepted(Some(cursor(1)));
        assert!(unconfirmed.on_progress("a", None).is_empty());
        assert_eq!(unconfirmed.on_progress("b", None), [batch("first")]);
    }

    #[test]
    fn unaccepted_batch_is_never_acknowledged() {
        let (mut unconfirmed, _) = sent(2, 1000);
        unconfirmed.remember(batch("under way"));
        assert!(unconfirmed.on_progress("a", Some(Progress::UpTo(cursor(99)))).is_empty());
        assert_eq!(unconfirmed.bytes, "under way".len());
        assert_eq!(unconfirmed.on_progress("b", None), [batch("under way")]);
    }

    #[test]
    fn oldest_batches_are_dropped_beyond_byte_limit() {
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
