//! Limits repeated warnings and errors: each callsite may write [`LINE_BURST`] lines at once and [`LINES_PER_SECOND`] from then
//! on. Further lines are counted, and the log reports the count.
//!
//! Lines of lower levels are one for each thing that they tell of, and are all written.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::callsite::Identifier;
use tracing::{Level, Metadata};

/// Lines of one kind at once.
const LINE_BURST: u32 = 50;
/// Lines of one kind in a second, once there were too many.
const LINES_PER_SECOND: f64 = 2.0;
/// Bytes that are kept of a line that was left out.
const SAMPLE_BYTES: usize = 512;
/// How often the log says what was left out.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Target of the lines that report on other lines. They are bounded already.
pub(super) const OWN_TARGET: &str = "shared::log_lines";

/// Where lines come from, and how many. Clones share it. Its size is bounded by the code: one entry for each place that logs.
#[derive(Clone, Default)]
pub(super) struct RepeatLimiter {
    sites: Arc<Mutex<HashMap<Identifier, CallsiteBudget>>>,
}

struct CallsiteBudget {
    /// Lines that may be written now.
    tokens: f64,
    refilled_at: Instant,
    suppressed: u64,
    /// The last of them.
    sample: String,
    reported_at: Instant,
}

/// Lines that were left out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Suppressed {
    pub(super) count: u64,
    /// The beginning of the last of them.
    pub(super) sample: String,
}

impl CallsiteBudget {
    fn new(now: Instant) -> Self {
        Self { tokens: f64::from(LINE_BURST), refilled_at: now, suppressed: 0, sample: String::new(), reported_at: now }
    }

    fn try_acquire(&mut self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.refilled_at).as_secs_f64() * LINES_PER_SECOND;
        self.tokens = (self.tokens + earned).min(f64::from(LINE_BURST));
        self.refilled_at = now;
        let is_taken = self.tokens >= 1.0;
        if is_taken {
            self.tokens -= 1.0;
        }
        is_taken
    }
}

impl RepeatLimiter {
    /// Whether a line from this place may be written.
    pub(super) fn try_acquire(&self, metadata: &Metadata<'_>, now: Instant) -> bool {
        if *metadata.level() > Level::WARN || metadata.target() == OWN_TARGET {
            return true;
        }
        self.sites.lock().entry(metadata.callsite()).or_insert_with(|| CallsiteBudget::new(now)).try_acquire(now)
    }

    /// Counts a line that was not taken.
    pub(super) fn record_suppressed(&self, place: &Identifier, line: &[u8]) {
        let mut sites = self.sites.lock();
        let Some(site) = sites.get_mut(place) else { return };
        site.suppressed += 1;
        let sample = line.get(..SAMPLE_BYTES).unwrap_or(line);
        site.sample = String::from_utf8_lossy(sample).trim_end().to_owned();
    }

    /// Takes the counts of suppressed lines that are due for a report; all of them if `last` is set.
    pub(super) fn take_suppressed(&self, now: Instant, last: bool) -> Vec<Suppressed> {
        let is_due =
            |site: &&mut CallsiteBudget| last || now.saturating_duration_since(site.reported_at) >= LOG_INTERVAL;
        let mut sites = self.sites.lock();
        let due = sites.values_mut().filter(|site| site.suppressed > 0).filter(is_due);
        due.map(|site| {
            site.reported_at = now;
            Suppressed { count: std::mem::take(&mut site.suppressed), sample: std::mem::take(&mut site.sample) }
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_lines_have_a_bounded_rate() {
        let start = Instant::now();
        let mut site = CallsiteBudget::new(start);
        let taken = |site: &mut CallsiteBudget, at: Instant| (0..1_000).filter(|_| site.try_acquire(at)).count();
        assert_eq!(taken(&mut site, start), LINE_BURST as usize);
        assert_eq!(taken(&mut site, start + Duration::from_secs(10)), 20);
        assert_eq!(taken(&mut site, start + Duration::from_secs(3_600)), LINE_BURST as usize);
    }
}
