//! Handles entries that cannot be handled together. They are split until the failing ones are alone. Locked ones are deferred,
//! rejected ones are retried after a delay and then dropped, and all others are handled.

use std::collections::HashSet;

use shared::kit::shutdown::Shutdown;

use super::handler::{StreamHandler, wait_before_retry};
use crate::store::StoreError;

/// Attempts of a part as a whole when another transaction may be to blame.
const MAX_ATTEMPTS: usize = 2;
/// After this many rejections in a row there is a delay: most likely the database is the problem, not the entries.
const MAX_CONSECUTIVE_REJECTIONS: usize = 16;

/// The outcome of a set of entries.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct HandleOutcome {
    /// Indexes of entries that are deferred.
    pub(super) deferred: HashSet<usize>,
    /// Number of entries that were dropped.
    pub(super) dropped: usize,
}

/// A part of the entries, by index.
struct Part {
    indexes: Vec<usize>,
    attempts: usize,
}

impl Part {
    fn new(indexes: Vec<usize>) -> Self {
        Self { indexes, attempts: 0 }
    }
}

/// The state of a bisection.
#[derive(Default)]
struct Bisection {
    /// Parts still to try; the last is next.
    parts: Vec<Part>,
    /// Single entries that PostgreSQL rejected. They are retried after everything else.
    refused: Vec<Part>,
    consecutive_rejections: usize,
    handled: HandleOutcome,
}

/// Handles entries, together if possible. When the shutdown begins, the rest is deferred.
///
/// # Errors
/// [`StoreError::Unavailable`]: some may have been handled; retry all.
pub(super) async fn handle<T: StreamHandler>(
    handler: &T,
    entries: &[T::Entry],
    shutdown: &Shutdown,
) -> Result<HandleOutcome, StoreError> {
    let mut bisection = Bisection::default();
    match handler.handle(entries).await {
        Ok(()) => return Ok(bisection.handled),
        Err(error) => {
            tracing::warn!(stream = T::STREAM, %error, entries = entries.len(), "stream entries rejected together");
            let whole = Part { indexes: (0..entries.len()).collect(), attempts: 1 };
            bisection.divide(handler, entries, whole, error).await?;
        }
    }
    loop {
        while let Some(mut part) = bisection.parts.pop() {
            if shutdown.has_begun() {
                bisection.handled.deferred.extend(part.indexes);
                continue;
            }
            let some: Vec<T::Entry> = part.indexes.iter().filter_map(|index| entries.get(*index)).cloned().collect();
            if some.is_empty() {
                continue;
            }
            part.attempts += 1;
            match handler.handle(&some).await {
                Ok(()) => bisection.consecutive_rejections = 0,
                Err(error) => bisection.divide(handler, entries, part, error).await?,
            }
            if bisection.consecutive_rejections >= MAX_CONSECUTIVE_REJECTIONS {
                bisection.consecutive_rejections = 0;
                wait_before_retry(shutdown).await;
            }
        }
        if bisection.refused.is_empty() {
            return Ok(bisection.handled);
        }
        wait_before_retry(shutdown).await;
        bisection.parts.append(&mut bisection.refused);
    }
}

impl Bisection {
    /// Decides what to do with a part that failed.
    async fn divide<T: StreamHandler>(
        &mut self,
        handler: &T,
        entries: &[T::Entry],
        part: Part,
        error: StoreError,
    ) -> Result<(), StoreError> {
        let may_pass = match error {
            StoreError::Unavailable(_) | StoreError::Abandoned => return Err(error),
            StoreError::Locked(_) | StoreError::Contended(_) | StoreError::TimedOut(_) => true,
            StoreError::Internal(_) | StoreError::Unreadable(_) | StoreError::DataKey(..) => false,
        };
        tracing::debug!(stream = T::STREAM, %error, entries = part.indexes.len(), "part of stream entries rejected");
        let Part { mut indexes, attempts } = part;
        if matches!(error, StoreError::Locked(_)) {
            let some: Vec<T::Entry> = indexes.iter().filter_map(|index| entries.get(*index)).cloned().collect();
            let locked = handler.locked(&some).await;
            if !locked.is_empty() {
                let (deferred, free) = split(&indexes, &locked);
                self.handled.deferred.extend(deferred);
                self.parts.push(Part::new(free));
                return Ok(());
            }
        }
        if may_pass && attempts < MAX_ATTEMPTS {
            self.parts.push(Part { indexes, attempts });
        } else if indexes.len() > 1 {
            let second = indexes.split_off(indexes.len() / 2);
            self.parts.push(Part::new(second));
            self.parts.push(Part::new(indexes));
        } else if may_pass {
            self.handled.deferred.extend(indexes);
        } else {
            self.consecutive_rejections += 1;
            match T::MAX_ATTEMPTS {
                Some(max) if attempts < max => self.refused.push(Part { indexes, attempts }),
                Some(_) => {
                    tracing::error!(stream = T::STREAM, %error, "stream entry dropped");
                    self.handled.dropped += indexes.len();
                }
                None => self.handled.deferred.extend(indexes),
            }
        }
        Ok(())
    }
}

/// Splits indexes by their position in the part.
fn split(indexes: &[usize], chosen: &HashSet<usize>) -> (Vec<usize>, Vec<usize>) {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for (position, index) in indexes.iter().enumerate() {
        if chosen.contains(&position) { first.push(*index) } else { second.push(*index) }
    }
    (first, second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    /// A database with this behaviour.
    #[derive(Default)]
    struct Fake {
        locked: HashSet<u32>,
        refused: HashSet<u32>,
        is_away: bool,
        applied: Mutex<Vec<u32>>,
        calls: Mutex<usize>,
    }

    impl StreamHandler for Fake {
        const STREAM: &'static str = "fake";
        const HANDLED_METRIC: &'static str = "fake_taken_total";
        const DROPPED_METRIC: &'static str = "fake_dropped_total";
        const MAX_ATTEMPTS: Option<usize> = Some(3);
        type Entry = u32;

        fn decode(text: &str) -> Option<u32> {
            text.parse().ok()
        }

        async fn handle(&self, entries: &[u32]) -> Result<(), StoreError> {
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
            (0..entries.len()).filter(|index| self.locked.contains(&entries[*index])).collect()
        }
    }

    #[tokio::test]
    async fn rejected_entries_are_dropped_locked_ones_deferred() {
        let fake = Fake { locked: [7, 300].into(), refused: [100, 499].into(), ..Fake::default() };
        let entries: Vec<u32> = (0..500).collect();
        let handled = handle(&fake, &entries, &Shutdown::new()).await.unwrap();
        assert_eq!(handled, HandleOutcome { deferred: [7, 300].into(), dropped: 2 });
        let mut applied = fake.applied.lock().clone();
        applied.sort_unstable();
        let expected: Vec<u32> = entries.into_iter().filter(|entry| ![7, 300, 100, 499].contains(entry)).collect();
        assert_eq!(applied, expected, "each of the others once");
        assert!(*fake.calls.lock() < 60, "{} transactions", fake.calls.lock());
    }

    #[tokio::test]
    async fn good_entries_share_one_transaction() {
        let fake = Fake::default();
        assert_eq!(handle(&fake, &[1, 2, 3], &Shutdown::new()).await.unwrap(), HandleOutcome::default());
        assert_eq!(*fake.calls.lock(), 1);
        let away = Fake { is_away: true, ..Fake::default() };
        assert!(matches!(handle(&away, &[1, 2, 3], &Shutdown::new()).await, Err(StoreError::Unavailable(_))));
    }

    #[tokio::test]
    async fn rejected_entry_is_retried_after_delay() {
        let fake = Fake { refused: [0].into(), ..Fake::default() };
        let start = tokio::time::Instant::now();
        let handled = handle(&fake, &[0, 1], &Shutdown::new()).await.unwrap();
        assert_eq!(handled, HandleOutcome { deferred: HashSet::new(), dropped: 1 });
        assert_eq!(*fake.calls.lock(), 5, "both, the one, the other, and the one twice more");
        assert!(start.elapsed() >= 2 * super::super::handler::RETRY_DELAY, "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn rejecting_database_is_called_slowly_until_shutdown() {
        let fake = Fake { refused: (0..500).collect(), ..Fake::default() };
        let entries: Vec<u32> = (0..500).collect();
        let shutdown = Shutdown::new();
        let (handled, ()) = tokio::join!(handle(&fake, &entries, &shutdown), async {
            tokio::task::yield_now().await;
            shutdown.begin();
        });
        assert_eq!(handled.unwrap(), HandleOutcome { deferred: (0..500).collect(), dropped: 0 });
        assert!(*fake.calls.lock() < 50, "{} transactions before the first pause", fake.calls.lock());
    }

    #[tokio::test]
    async fn undroppable_entry_is_deferred() {
        /// A handler whose entries are never dropped.
        struct Patient(Fake);
        impl StreamHandler for Patient {
            const STREAM: &'static str = "patient";
            const HANDLED_METRIC: &'static str = "patient_taken_total";
            const DROPPED_METRIC: &'static str = "patient_dropped_total";
            const MAX_ATTEMPTS: Option<usize> = None;
            type Entry = u32;

            fn decode(text: &str) -> Option<u32> {
                text.parse().ok()
            }

            async fn handle(&self, entries: &[u32]) -> Result<(), StoreError> {
                self.0.handle(entries).await
            }
        }
        let patient = Patient(Fake { refused: [3].into(), ..Fake::default() });
        let handled = handle(&patient, &[1, 2, 3, 4], &Shutdown::new()).await.unwrap();
        assert_eq!(handled, HandleOutcome { deferred: [2].into(), dropped: 0 });
        let mut applied = patient.0.applied.lock().clone();
        applied.sort_unstable();
        assert_eq!(applied, [1, 2, 4]);
    }

    #[tokio::test]
    async fn unfound_lock_drops_nothing() {
        /// A handler that does not find locks.
        struct Blind(Fake);
        impl StreamHandler for Blind {
            const STREAM: &'static str = "blind";
            const HANDLED_METRIC: &'static str = "blind_taken_total";
            const DROPPED_METRIC: &'static str = "blind_dropped_total";
            const MAX_ATTEMPTS: Option<usize> = Some(3);
            type Entry = u32;

            fn decode(text: &str) -> Option<u32> {
                text.parse().ok()
            }

            async fn handle(&self, entries: &[u32]) -> Result<(), StoreError> {
                self.0.handle(entries).await
            }
        }
        let blind = Blind(Fake { locked: [2].into(), ..Fake::default() });
        let handled = handle(&blind, &[1, 2, 3, 4], &Shutdown::new()).await.unwrap();
        assert_eq!(handled, HandleOutcome { deferred: [1].into(), dropped: 0 });
        let mut applied = blind.0.applied.lock().clone();
        applied.sort_unstable();
        assert_eq!(applied, [1, 3, 4]);
    }
}
