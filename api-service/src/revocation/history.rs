//! Where a process stands in the order of the revocations, and which came last.

use std::collections::VecDeque;

use shared::revocation::RevocationEntry;
use tokio::time::Instant;

use crate::store::Position;

/// The newest revocations that are kept with their position: a copy in Redis that lacks no more than these is completed, any
/// other is written anew.
const RECENT_CAPACITY: usize = 10_000;

/// Where a process stands.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The newest row that was read.
    newest: Position,
    /// Whether everything before it was read as well.
    is_complete: bool,
    /// When the last reading began that found nothing more.
    read_at: Option<Instant>,
    /// The rows up to `newest`, without a gap, …
    recent: VecDeque<(Position, RevocationEntry)>,
    /// … and the one in front of them.
    before_recent: Position,
}

impl History {
    /// The newest row that was read.
    pub(super) fn newest(&self) -> Position {
        self.newest
    }

    /// Whether all rows up to the newest were read.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// When the last reading began that came to the end.
    pub(super) fn read_at(&self) -> Option<Instant> {
        self.read_at
    }

    /// Takes note of rows that were read, in their order. Until [`mark_complete`](Self::mark_complete) there may be more.
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

    /// Takes note that a reading that began then came to the end.
    pub(super) fn mark_complete(&mut self, started: Instant) {
        self.is_complete = true;
        self.read_at = Some(started);
    }

    /// Begins anew: the order is another one.
    pub(super) fn reset(&mut self) {
        *self = Self { read_at: self.read_at, ..Self::default() };
    }

    /// The rows behind a position, or `None` when it is not one of this history, or too long ago.
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
    use shared::revocation::Revocation;

    fn at(id: i64) -> Position {
        Position { id, stamp: 7 * id }
    }

    fn rows(ids: std::ops::RangeInclusive<i64>) -> Vec<(Position, RevocationEntry)> {
        let entry = |id: i64| Revocation::Token { jti: id.to_string(), expires_at: None }.entry(id);
        ids.map(|id| (at(id), entry(id))).collect()
    }

    #[test]
    fn what_stands_behind_a_position_is_known_from_the_beginning_on() {
        let mut history = History::default();
        assert_eq!(history.after(Position::default()), Some(vec![]));
        history.add(rows(3..=5));
        assert_eq!(history.newest(), at(5));
        assert_eq!(history.after(Position::default()), Some(rows(3..=5)));
        assert_eq!(history.after(at(3)), Some(rows(4..=5)));
        assert_eq!(history.after(at(5)), Some(vec![]));
    }

    #[test]
    fn a_position_of_another_history_is_not_known() {
        let mut history = History::default();
        history.add(rows(3..=5));
        for position in [at(2), at(6), Position { id: 4, stamp: 1 }] {
            assert_eq!(history.after(position), None, "{position:?}");
        }
        history.reset();
        assert_eq!((history.newest(), history.after(at(4))), (Position::default(), None));
    }

    #[test]
    fn only_so_many_are_kept_and_what_is_older_is_not_known() {
        let mut history = History::default();
        let last = RECENT_CAPACITY as i64 + 10;
        history.add(rows(1..=last));
        assert_eq!(history.after(at(9)), None);
        assert_eq!(history.after(at(10)).unwrap().len(), RECENT_CAPACITY);
        assert_eq!(history.after(at(11)).unwrap().len(), RECENT_CAPACITY - 1);
    }

    #[test]
    fn a_history_is_complete_when_a_reading_came_to_the_end_until_it_begins_anew() {
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
