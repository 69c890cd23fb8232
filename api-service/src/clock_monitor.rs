//! Compares this machine's clock with the database's. A token is new or expired by this machine's clock: one that is far off refuses
//! good tokens, or accepts expired ones, while everything else looks well.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::{Instant, sleep};

use crate::store::Store;

/// Between two comparisons.
const POLL_INTERVAL: Duration = Duration::from_secs(10);
/// How often the log repeats that the clocks differ.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// As far as clocks may differ: `nbf` and `iat` of tokens are read with this tolerance.
const TOLERANCE: Duration = Duration::from_secs(30);
const UNKNOWN: i64 = i64::MIN;

/// How far this machine's clock is ahead of the database's. Clones are one.
#[derive(Debug, Clone)]
pub struct ClockOffset(Arc<AtomicI64>);

impl Default for ClockOffset {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(UNKNOWN)))
    }
}

impl ClockOffset {
    /// In milliseconds, once it is known.
    #[must_use]
    pub fn millis(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|millis| *millis != UNKNOWN)
    }

    /// What operators must know, when the clocks differ by more than tokens bear.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let millis = self.millis()?;
        let seconds = millis.unsigned_abs() / 1_000;
        let direction = if millis > 0 { "ahead of" } else { "behind" };
        let is_wrong = u128::from(millis.unsigned_abs()) > TOLERANCE.as_millis();
        is_wrong.then(|| {
            format!("this machine's clock is {seconds} s {direction} the database's: good tokens may be refused, or expired ones accepted")
        })
    }

    /// Notes what the database's clock showed, between two moments of this one.
    fn compare(&self, before: OffsetDateTime, after: OffsetDateTime, database: OffsetDateTime) {
        let middle = before + (after - before) / 2;
        let ahead: time::Duration = middle - database;
        let millis = i64::try_from(ahead.whole_milliseconds()).unwrap_or(i64::MAX);
        self.0.store(millis, Ordering::Relaxed);
        metrics::gauge!("clock_offset_seconds").set(millis as f64 / 1_000.0);
    }
}

/// Compares again and again; never returns.
pub async fn watch(store: Store, offset: ClockOffset) {
    let mut logged_at: Option<Instant> = None;
    loop {
        let (before, started) = (OffsetDateTime::now_utc(), Instant::now());
        // Who answers late says nothing of its clock.
        if let Ok(database) = store.clock().await
            && started.elapsed() < Duration::from_secs(1)
        {
            offset.compare(before, OffsetDateTime::now_utc(), database);
        }
        match offset.warning() {
            Some(warning) if logged_at.is_none_or(|logged_at| logged_at.elapsed() >= LOG_INTERVAL) => {
                tracing::warn!(offset_ms = offset.millis(), "{warning}");
                logged_at = Some(Instant::now());
            }
            Some(_) => {}
            None if logged_at.take().is_some() => tracing::info!("this machine's clock and the database's agree again"),
            None => {}
        }
        sleep(POLL_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration as Span;

    #[test]
    fn a_clock_that_is_far_off_is_named_with_its_direction() {
        let offset = ClockOffset::default();
        assert_eq!((offset.millis(), offset.warning()), (None, None), "nobody has looked yet");
        let now = OffsetDateTime::now_utc();
        offset.compare(now, now + Span::seconds(2), now + Span::seconds(1));
        assert_eq!((offset.millis(), offset.warning()), (Some(0), None));
        offset.compare(now, now, now + Span::seconds(600));
        assert!(offset.warning().unwrap().contains("600 s behind"), "{:?}", offset.warning());
        offset.compare(now, now, now - Span::seconds(31));
        assert!(offset.warning().unwrap().contains("31 s ahead of"), "{:?}", offset.warning());
        offset.compare(now, now, now - Span::seconds(30));
        assert_eq!(offset.warning(), None, "tokens bear that");
    }
}
