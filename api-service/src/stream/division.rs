//! Entries that cannot be taken together. They are divided until those that cannot be taken are alone: what others have locked
//! is left for later, what the database refuses is dropped, and all others are taken.

use std::collections::HashSet;

use super::Taker;
use crate::store::StoreError;

/// How often entries are tried as they are, when it may be somebody else's doing that they cannot be taken.
const ATTEMPTS: usize = 2;

/// What became of entries.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Places of those that cannot be taken now.
    pub(super) later: HashSet<usize>,
    /// How many never can be.
    pub(super) never: usize,
}

/// Some of the entries, by their places, and how often they were tried as they are.
struct Part {
    places: Vec<usize>,
    attempts: usize,
}

impl Part {
    fn new(places: Vec<usize>) -> Self {
        Self { places, attempts: 0 }
    }
}

/// Takes entries, together if that works.
///
/// # Errors
/// [`StoreError::Unavailable`]: some may have been taken, and all are to be tried again.
pub(super) async fn take<T: Taker>(taker: &T, entries: &[T::Entry]) -> Result<Taken, StoreError> {
    let mut taken = Taken::default();
    let mut parts = Vec::new();
    match taker.take(entries).await {
        Ok(()) => return Ok(taken),
        Err(error) => {
            let whole = Part { places: (0..entries.len()).collect(), attempts: 1 };
            divide(taker, entries, whole, error, &mut parts, &mut taken).await?;
        }
    }
    while let Some(mut part) = parts.pop() {
        let some: Vec<T::Entry> = part.places.iter().filter_map(|place| entries.get(*place)).cloned().collect();
        if some.is_empty() {
            continue;
        }
        part.attempts += 1;
        if let Err(error) = taker.take(&some).await {
            divide(taker, entries, part, error, &mut parts, &mut taken).await?;
        }
    }
    Ok(taken)
}

/// Finds out what to do with entries that could not be taken together.
async fn divide<T: Taker>(
    taker: &T,
    entries: &[T::Entry],
    part: Part,
    error: StoreError,
    parts: &mut Vec<Part>,
    taken: &mut Taken,
) -> Result<(), StoreError> {
    let may_pass = match error {
        StoreError::Unavailable(_) | StoreError::Abandoned => return Err(error),
        StoreError::Locked(_) | StoreError::Contended(_) | StoreError::TimedOut(_) => true,
        StoreError::Internal(_) | StoreError::Unreadable(_) | StoreError::DataKey(..) => false,
    };
    tracing::warn!(stream = T::STREAM, %error, entries = part.places.len(), "entries cannot be taken together");
    let Part { mut places, attempts } = part;
    if matches!(error, StoreError::Locked(_)) {
        let some: Vec<T::Entry> = places.iter().filter_map(|place| entries.get(*place)).cloned().collect();
        let locked = taker.locked(&some).await;
        if !locked.is_empty() {
            let (later, free) = split(&places, &locked);
            taken.later.extend(later);
            parts.push(Part::new(free));
            return Ok(());
        }
    }
    let attempts_owed = match (may_pass, places.len()) {
        (true, _) => ATTEMPTS,
        (false, 1) => T::ATTEMPTS,
        (false, _) => 1,
    };
    if attempts < attempts_owed {
        parts.push(Part { places, attempts });
    } else if places.len() > 1 {
        let second = places.split_off(places.len() / 2);
        parts.push(Part::new(second));
        parts.push(Part::new(places));
    } else if may_pass {
        taken.later.extend(places);
    } else {
        tracing::error!(stream = T::STREAM, %error, "an entry is dropped");
        taken.never += places.len();
    }
    Ok(())
}

/// Divides places by their position among them.
fn split(places: &[usize], chosen: &HashSet<usize>) -> (Vec<usize>, Vec<usize>) {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for (position, place) in places.iter().enumerate() {
        if chosen.contains(&position) { first.push(*place) } else { second.push(*place) }
    }
    (first, second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    /// A database that behaves like this.
    #[derive(Default)]
    struct Fake {
        locked: HashSet<u32>,
        refused: HashSet<u32>,
        is_away: bool,
        applied: Mutex<Vec<u32>>,
        calls: Mutex<usize>,
    }

    impl Taker for Fake {
        const STREAM: &'static str = "fake";
        const TAKEN: &'static str = "fake_taken_total";
        const DROPPED: &'static str = "fake_dropped_total";
        const ATTEMPTS: usize = 3;
        type Entry = u32;

        fn decode(text: &str) -> Option<u32> {
            text.parse().ok()
        }

        async fn take(&self, entries: &[u32]) -> Result<(), StoreError> {
            *self.calls.lock() += 1;
            if self.is_away {
                return Err(StoreError::Unavailable("away".into()));
            }
            if entries.iter().any(|entry| self.locked.contains(entry)) {
                return Err(StoreError::Locked("held".into()));
            }
            if entries.iter().any(|entry| self.refused.contains(entry)) {
                return Err(StoreError::internal("refused"));
            }
            self.applied.lock().extend(entries);
            Ok(())
        }

        async fn locked(&self, entries: &[u32]) -> HashSet<usize> {
            (0..entries.len()).filter(|place| self.locked.contains(&entries[*place])).collect()
        }
    }

    #[tokio::test]
    async fn what_is_refused_is_dropped_alone_and_what_is_locked_is_left_for_later() {
        let fake = Fake { locked: [7, 300].into(), refused: [100, 499].into(), ..Fake::default() };
        let entries: Vec<u32> = (0..500).collect();
        let taken = take(&fake, &entries).await.unwrap();
        assert_eq!(taken, Taken { later: [7, 300].into(), never: 2 });
        let mut applied = fake.applied.lock().clone();
        applied.sort_unstable();
        let expected: Vec<u32> = entries.into_iter().filter(|entry| ![7, 300, 100, 499].contains(entry)).collect();
        assert_eq!(applied, expected, "each of the others once");
        assert!(*fake.calls.lock() < 60, "{} transactions", fake.calls.lock());
    }

    #[tokio::test]
    async fn what_works_together_takes_one_transaction_and_a_database_that_is_away_drops_nothing() {
        let fake = Fake::default();
        assert_eq!(take(&fake, &[1, 2, 3]).await.unwrap(), Taken::default());
        assert_eq!(*fake.calls.lock(), 1);
        let away = Fake { is_away: true, ..Fake::default() };
        assert!(matches!(take(&away, &[1, 2, 3]).await, Err(StoreError::Unavailable(_))));
    }

    #[tokio::test]
    async fn a_lock_that_nobody_finds_drops_nothing() {
        /// Somebody holds what is not looked at.
        struct Blind(Fake);
        impl Taker for Blind {
            const STREAM: &'static str = "blind";
            const TAKEN: &'static str = "blind_taken_total";
            const DROPPED: &'static str = "blind_dropped_total";
            const ATTEMPTS: usize = 3;
            type Entry = u32;

            fn decode(text: &str) -> Option<u32> {
                text.parse().ok()
            }

            async fn take(&self, entries: &[u32]) -> Result<(), StoreError> {
                self.0.take(entries).await
            }
        }
        let blind = Blind(Fake { locked: [2].into(), ..Fake::default() });
        let taken = take(&blind, &[1, 2, 3, 4]).await.unwrap();
        assert_eq!(taken, Taken { later: [1].into(), never: 0 });
        let mut applied = blind.0.applied.lock().clone();
        applied.sort_unstable();
        assert_eq!(applied, [1, 3, 4]);
    }
}
