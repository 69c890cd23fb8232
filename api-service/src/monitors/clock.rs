//! Compares this machine's clock with the database's. A wrong clock would reject valid tokens or accept expired ones, unnoticed.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::{Instant, sleep};

use crate::store::Store;

/// Between two comparisons.
const POLL_INTERVAL: Duration = Duration::from_secs(10);
/// Between two warnings in the log.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// The tolerance with which `nbf` and `iat` of tokens are checked.
const TOLERANCE: Duration = Duration::from_secs(30);
const UNKNOWN: i64 = i64::MIN;

/// How far this machine's clock is ahead of the database's. Clones share it.
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

    /// A warning for operators when the offset exceeds the tolerance.
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

    /// Records the database's time, which was read between two local times.
    fn compare(&self, before: OffsetDateTime, after: OffsetDateTime, database: OffsetDateTime) {
        let middle = before + (after - before) / 2;
        let ahead: time::Duration = middle - database;
        let millis = i64::try_from(ahead.whole_milliseconds()).unwrap_or(i64::MAX);
        self.0.store(millis, Ordering::Relaxed);
        metrics::gauge!("ehr_chat_clock_offset_seconds").set(millis as f64 / 1_000.0);
    }
}

/// Compares periodically. Runs until it is dropped.
pub async fn watch(store: Store, offset: ClockOffset) {
    let mut logged_at: Option<Instant> = None;
    loop {
        let (before, started) = (OffsetDateTime::now_utc(), Instant::now());
        // A late answer says nothing about the clock.
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
            None if logged_at.take().is_some() => tracing::info!("clock offset back within tolerance"),
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
    fn clock_warning_names_offset_and_direction() {
        let offset = ClockOffset::default();
        assert_eq!((offset.millis(), offset.warning()), (None, None), "no comparison yet");
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
