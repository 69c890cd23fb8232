//! What arrived: how many, how late, and what is missing.

use std::time::{Duration, Instant};

use crate::figures::Durations;
use crate::stamp::{Stamp, WARM_UP};

/// Counts of one run.
#[derive(Debug)]
pub(crate) struct DeliveryCounts {
    /// What stamps count their time from.
    pub(crate) epoch: Instant,
    pub(crate) delivered: u64,
    /// Events that were jumped over, counted when a later one of the same channel arrived at the same socket.
    pub(crate) skipped: u64,
    /// Events that came again or too late.
    pub(crate) repeated: u64,
    /// Sockets that have had their first frame of a warm-up.
    pub(crate) warm: usize,
    pub(crate) ages: Durations,
}

impl DeliveryCounts {
    pub(crate) fn new(epoch: Instant) -> Self {
        Self { epoch, delivered: 0, skipped: 0, repeated: 0, warm: 0, ages: Durations::new() }
    }

    /// Takes note of an event at a socket that expects the number `expected` next.
    pub(crate) fn note(&mut self, stamp: Stamp, expected: &mut u32, is_warm: &mut bool) {
        if stamp.number == WARM_UP {
            self.warm += usize::from(!std::mem::replace(is_warm, true));
            return;
        }
        match stamp.number.checked_sub(*expected) {
            None => self.repeated += 1,
            Some(skipped) => {
                self.skipped += u64::from(skipped);
                *expected = stamp.number + 1;
                self.delivered += 1;
                self.ages.record(stamp.age(self.epoch));
            }
        }
    }

    /// Forgets what was counted so far.
    pub(crate) fn reset(&mut self) {
        let Self { epoch, warm, .. } = *self;
        *self = Self { warm, ..Self::new(epoch) };
    }

    /// Since the epoch.
    pub(crate) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_and_repeats_are_counted() {
        let (mut counts, mut expected, mut warm) = (DeliveryCounts::new(Instant::now()), 0, false);
        for number in [WARM_UP, WARM_UP, 0, 1, 4, 3, 5] {
            counts.note(Stamp { number, due: Duration::ZERO }, &mut expected, &mut warm);
        }
        assert_eq!((counts.delivered, counts.skipped, counts.repeated, counts.warm), (4, 2, 1, 1));
    }
}
