//! Entries that cannot be taken together. They are divided until those that cannot be taken are alone: what others have locked
//! is left for later, what the database refuses is tried again after a pause and then dropped, and all others are taken.

use std::collections::HashSet;

use shared::shutdown::Shutdown;

use super::{Taker, pause};
use crate::store::StoreError;

/// How often entries are tried as they are, when it may be somebody else's doing that they cannot be taken.
const ATTEMPTS: usize = 2;
/// So many refusals in a row, and there is a pause: most likely it is not the entries, and the database has other things to do.
const REFUSALS_IN_A_ROW: usize = 16;

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

/// Where the division of entries stands.
#[derive(Default)]
struct Division {
    /// What is still to be tried; the last is next.
    parts: Vec<Part>,
    /// Single entries that the database has refused. They are tried again when everything else is done.
    refused: Vec<Part>,
    refusals_in_a_row: usize,
    taken: Taken,
}

/// Takes entries, together if that works. When the shutdown begins, what was not taken by then is left for later.
///
/// # Errors
/// [`StoreError::Unavailable`]: some may have been taken, and all are to be tried again.
pub(super) async fn take<T: Taker>(taker: &T, entries: &[T::Entry], shutdown: &Shutdown) -> Result<Taken, StoreError> {
    let mut division = Division::default();
    match taker.take(entries).await {
        Ok(()) => return Ok(division.taken),
        Err(error) => {
            tracing::warn!(stream = T::STREAM, %error, entries = entries.len(), "entries cannot be taken together");
            let whole = Part { places: (0..entries.len()).collect(), attempts: 1 };
            division.divide(taker, entries, whole, error).await?;
        }
    }
    loop {
        while let Some(mut part) = division.parts.pop() {
            if shutdown.has_begun() {
                division.taken.later.extend(part.places);
                continue;
            }
            let some: Vec<T::Entry> = part.places.iter().filter_map(|place| entries.get(*place)).cloned().collect();
            if some.is_empty() {
                continue;
            }
            part.attempts += 1;
            match taker.take(&some).await {
                Ok(()) => division.refusals_in_a_row = 0,
                Err(error) => division.divide(taker, entries, part, error).await?,
            }
            if division.refusals_in_a_row >= REFUSALS_IN_A_ROW {
                division.refusals_in_a_row = 0;
                pause(shutdown).await;
            }
        }
        if division.refused.is_empty() {
            return Ok(division.taken);
        }
        pause(shutdown).await;
        division.parts.append(&mut division.refused);
    }
}

impl Division {
    /// Finds out what to do with entries that could not be taken together.
    async fn divide<T: Taker>(
        &mut self,
        taker: &T,
        entries: &[T::Entry],
        part: Part,
        error: StoreError,
    ) -> Result<(), StoreError> {
        let may_pass = match error {
            StoreError::Unavailable(_) | StoreError::Abandoned => return Err(error),
            StoreError::Locked(_) | StoreError::Contended(_) | StoreError::TimedOut(_) => true,
            StoreError::Internal(_) | StoreError::Unreadable(_) | StoreError::DataKey(..) => false,
        };
        tracing::debug!(stream = T::STREAM, %error, entries = part.places.len(), "a part of them cannot be taken");
        let Part { mut places, attempts } = part;
        if matches!(error, StoreError::Locked(_)) {
            let some: Vec<T::Entry> = places.iter().filter_map(|place| entries.get(*place)).cloned().collect();
            let locked = taker.locked(&some).await;
            if !locked.is_empty() {
                let (later, free) = split(&places, &locked);
                self.taken.later.extend(later);
                self.parts.push(Part::new(free));
                return Ok(());
            }
        }
        if may_pass && attempts < ATTEMPTS {
            self.parts.push(Part { places, attempts });
        } else if places.len() > 1 {
            let second = places.split_off(places.len() / 2);
            self.parts.push(Part::new(second));
            self.parts.push(Part::new(places));
        } else if may_pass {
            self.taken.later.extend(places);
        } else {
            self.refusals_in_a_row += 1;
            match T::ATTEMPTS {
                Some(most) if attempts < most => self.refused.push(Part { places, attempts }),
                Some(_) => {
                    tracing::error!(stream = T::STREAM, %error, "an entry is dropped");
                    self.taken.never += places.len();
                }
                None => self.taken.later.extend(places),
            }
        }
        Ok(())
    }
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
        const ATTEMPTS: Option<usize> = Some(3);
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
        let taken = take(&fake, &entries, &Shutdown::new()).await.unwrap();
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
        assert_eq!(take(&fake, &[1, 2, 3], &Shutdown::new()).await.unwrap(), Taken::default());
        assert_eq!(*fake.calls.lock(), 1);
        let away = Fake { is_away: true, ..Fake::default() };
        assert!(matches!(take(&away, &[1, 2, 3], &Shutdown::new()).await, Err(StoreError::Unavailable(_))));
    }

    #[tokio::test]
    async fn what_is_refused_is_tried_again_after_pauses_and_behind_its_neighbours() {
        let fake = Fake { refused: [0].into(), ..Fake::default() };
        let start = tokio::time::Instant::now();
        let taken = take(&fake, &[0, 1], &Shutdown::new()).await.unwrap();
        assert_eq!(taken, Taken { later: HashSet::new(), never: 1 });
        assert_eq!(*fake.calls.lock(), 5, "both, the one, the other, and the one twice more");
        assert!(start.elapsed() >= 2 * super::super::RETRY_AFTER, "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn a_database_that_refuses_everything_is_asked_no_faster_than_it_can_bear_and_a_shutdown_ends_that() {
        let fake = Fake { refused: (0..500).collect(), ..Fake::default() };
        let entries: Vec<u32> = (0..500).collect();
        let shutdown = Shutdown::new();
        let (taken, ()) = tokio::join!(take(&fake, &entries, &shutdown), async {
            tokio::task::yield_now().await;
            shutdown.begin();
        });
        assert_eq!(taken.unwrap(), Taken { later: (0..500).collect(), never: 0 });
        assert!(*fake.calls.lock() < 50, "{} transactions before the first pause", fake.calls.lock());
    }

    #[tokio::test]
    async fn what_must_not_be_dropped_is_left_for_later_and_does_not_go_round() {
        /// Whose entries are never dropped.
        struct Patient(Fake);
        impl Taker for Patient {
            const STREAM: &'static str = "patient";
            const TAKEN: &'static str = "patient_taken_total";
            const DROPPED: &'static str = "patient_dropped_total";
            const ATTEMPTS: Option<usize> = None;
            type Entry = u32;

            fn decode(text: &str) -> Option<u32> {
                text.parse().ok()
            }

            async fn take(&self, entries: &[u32]) -> Result<(), StoreError> {
                self.0.take(entries).await
            }
        }
        let patient = Patient(Fake { refused: [3].into(), ..Fake::default() });
        let taken = take(&patient, &[1, 2, 3, 4], &Shutdown::new()).await.unwrap();
        assert_eq!(taken, Taken { later: [2].into(), never: 0 });
        let mut applied = patient.0.applied.lock().clone();
        applied.sort_unstable();
        assert_eq!(applied, [1, 2, 4]);
    }

    #[tokio::test]
    async fn a_lock_that_nobody_finds_drops_nothing() {
        /// Somebody holds what is not looked at.
        struct Blind(Fake);
        impl Taker for Blind {
            const STREAM: &'static str = "blind";
            const TAKEN: &'static str = "blind_taken_total";
            const DROPPED: &'static str = "blind_dropped_total";
            const ATTEMPTS: Option<usize> = Some(3);
            type Entry = u32;

            fn decode(text: &str) -> Option<u32> {
                text.parse().ok()
            }

            async fn take(&self, entries: &[u32]) -> Result<(), StoreError> {
                self.0.take(entries).await
            }
        }
        let blind = Blind(Fake { locked: [2].into(), ..Fake::default() });
        let taken = take(&blind, &[1, 2, 3, 4], &Shutdown::new()).await.unwrap();
        assert_eq!(taken, Taken { later: [1].into(), never: 0 });
        let mut applied = blind.0.applied.lock().clone();
        applied.sort_unstable();
        assert_eq!(applied, [1, 3, 4]);
    }
}
