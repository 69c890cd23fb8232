//! The position of this process in the table of revocations, and its latest rows.

use std::collections::VecDeque;

use shared::contract::revocation::RevocationEntry;
use tokio::time::Instant;

use crate::store::Position;

/// Latest revocations that are kept with their positions. A Redis copy that lacks no more is completed; an older copy is
/// rewritten.
const RECENT_CAPACITY: usize = 10_000;

/// The position of this process.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The latest row that was read.
    newest: Position,
    /// Whether all rows before it were read.
    is_complete: bool,
    /// Start of the latest read that found no further rows.
    read_at: Option<Instant>,
    /// The rows up to `newest`, without a gap.
    recent: VecDeque<(Position, RevocationEntry)>,
    /// The position just before them.
    before_recent: Position,
}

impl History {
    /// The latest row that was read.
    pub(super) fn newest(&self) -> Position {
        self.newest
    }

    /// Whether all rows up to the latest were read.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Start of the latest read that reached the end.
    pub(super) fn read_at(&self) -> Option<Instant> {
        self.read_at
    }

    /// Adds rows in order. More may follow until [`mark_complete`](Self::mark_complete).
    pub(super) fn add(&mut self, rows: Vec<(Position, RevocationEntry)>) {
        self.is_complete = self.is_complete && rows.is_empty();
        for (position, entry) in rows {
            self.newest = position;
            self.recent.push_back((position, entry));
            if self.recent.len() > RECENT_CAPACITY
                && let Some((position, _)) = self.recent.pop_front()
            {
                self.before_recent = position;
            }
        }
    }

    /// Records that a read reached the end.
    pub(super) fn mark_complete(&mut self, started: Instant) {
        self.is_complete = true;
        self.read_at = Some(started);
    }

    /// Starts over: the table has another history.
    pub(super) fn reset(&mut self) {
        *self = Self { read_at: self.read_at, ..Self::default() };
    }

    /// The rows after a position; `None` when it is not in this history or too old.
    pub(super) fn after(&self, position: Position) -> Option<Vec<(Position, RevocationEntry)>> {
        if position == self.before_recent {
            return Some(self.recent.iter().cloned().collect());
        }
        let index = self.recent.binary_search_by_key(&position.id, |(position, _)| position.id).ok()?;
        let is_it = self.recent.get(index).is_some_and(|(known, _)| *known == position);
        is_it.then(|| self.recent.range(index + 1..).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::contract::revocation::Revocation;

    fn at(id: i64) -> Position {
        Position { id, stamp: 7 * id }
    }

    fn rows(ids: std::ops::RangeInclusive<i64>) -> Vec<(Position, RevocationEntry)> {
        let entry = |id: i64| Revocation::Token { jti: id.to_string(), expires_at: None }.entry(id);
        ids.map(|id| (at(id), entry(id))).collect()
    }

    #[test]
    fn rows_after_known_position_are_returned() {
        let mut history = History::default();
        assert_eq!(history.after(Position::default()), Some(vec![]));
        history.add(rows(3..=5));
        assert_eq!(history.newest(), at(5));
        assert_eq!(history.after(Position::default()), Some(rows(3..=5)));
        assert_eq!(history.after(at(3)), Some(rows(4..=5)));
        assert_eq!(history.after(at(5)), Some(vec![]));
    }

    #[test]
    fn unknown_position_has_no_rows() {
        let mut history = History::default();
        history.add(rows(3..=5));
        for position in [at(2), at(6), Position { id: 4, stamp: 1 }] {
            assert_eq!(history.after(position), None, "{position:?}");
        }
        history.reset();
        assert_eq!((history.newest(), history.after(at(4))), (Position::default(), None));
    }

    #[test]
    fn history_keeps_bounded_rows() {
        let mut history = History::default();
        let last = RECENT_CAPACITY as i64 + 10;
        history.add(rows(1..=last));
        assert_eq!(history.after(at(9)), None);
        assert_eq!(history.after(at(10)).unwrap().len(), RECENT_CAPACITY);
        assert_eq!(history.after(at(11)).unwrap().len(), RECENT_CAPACITY - 1);
    }

    #[test]
    fn history_is_complete_until_rows_or_reset() {
        let mut history = History::default();
        history.add(rows(1..=2));
        assert!(!history.is_complete());
        let started = Instant::now();
        history.mark_complete(started);
        assert!(history.is_complete());
        history.add(rows(3..=3));
        assert!(!history.is_complete(), "there may be more");
        history.mark_complete(started);
        history.reset();
        assert!(!history.is_complete());
        assert_eq!(history.read_at(), Some(started));
    }
}
