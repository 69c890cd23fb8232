//! The circuit breaker of the replica. It opens at a failure that would meet other reads too, so that they do not pay for it. Only a
//! check ([`super::monitor`]) closes it.

use std::fmt::Display;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::fallback::Fallback;
use crate::store::audit::position::AuditPosition;

/// From the first failure to the check that may close the breaker. It doubles with each failure until a read succeeds.
const MIN_BACKOFF: Duration = Duration::from_millis(250);
/// The bound of this delay.
const MAX_BACKOFF: Duration = Duration::from_secs(8);
/// How long a check asks for a position that a read did not find. The primary itself may have lost it in a failover.
const LACKING_TTL: Duration = Duration::from_secs(30);
/// Between two log lines about the same reason.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Whether reads may go to the replica. It is open at first.
pub(super) struct CircuitBreaker {
    state: Mutex<BreakerState>,
    opened: Notify,
}

struct BreakerState {
    /// Why no read goes there; `None` while the breaker is closed.
    reason: Option<Fallback>,
    /// Failures since the last read that succeeded.
    failures: u32,
    /// The newest position that a read did not find there.
    lacking: Option<(AuditPosition, Instant)>,
    /// The reason that was logged last, and when.
    logged: Option<(Fallback, Instant)>,
    /// Whether the end of this outage is logged: only if its beginning was. A replica that fails often would fill the log.
    logs_recovery: bool,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        let state = BreakerState {
            reason: Some(Fallback::Unreachable),
            failures: 0,
            lacking: None,
            logged: None,
            logs_recovery: true,
        };
        Self { state: Mutex::new(state), opened: Notify::new() }
    }
}

impl CircuitBreaker {
    /// Fails with the reason while the breaker is open.
    pub(super) fn check(&self) -> Result<(), Fallback> {
        self.state.lock().reason.map_or(Ok(()), Err)
    }

    /// Opens it after a read. Reads that fail at the same time count as one failure.
    pub(super) fn open(&self, reason: Fallback, cause: &dyn Display, lacking: Option<AuditPosition>) {
        let mut state = self.state.lock();
        if let Some(position) = lacking {
            state.lacking = Some((position, Instant::now()));
        }
        if state.reason.is_none() {
            state.fail(reason, cause);
            self.opened.notify_one();
        }
    }

    /// Opens it, or keeps it open, after a check.
    pub(super) fn check_failed(&self, reason: Fallback, cause: &dyn Display) {
        self.state.lock().fail(reason, cause);
    }

    /// Closes it after a check.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        let was_open = state.reason.take().is_some();
        state.lacking = None;
        metrics::gauge!("ehr_chat_replica_in_use").set(1.0);
        if was_open && std::mem::take(&mut state.logs_recovery) {
            tracing::info!("read replica in use");
        }
    }

    /// A read succeeded.
    pub(super) fn succeeded(&self) {
        let mut state = self.state.lock();
        if state.reason.is_none() {
            state.failures = 0;
        }
    }

    /// Waits until a read opens it.
    pub(super) async fn opened(&self) {
        self.opened.notified().await;
    }

    /// The delay before the next check while it is open.
    pub(super) fn backoff(&self) -> Option<Duration> {
        let state = self.state.lock();
        let doublings = state.failures.saturating_sub(1).min(16);
        state.reason.map(|_| MIN_BACKOFF.saturating_mul(1 << doublings).min(MAX_BACKOFF))
    }

    /// The position that the replica must show before it is used again.
    pub(super) fn lacking(&self) -> Option<AuditPosition> {
        let lacking = self.state.lock().lacking;
        lacking.filter(|(_, since)| since.elapsed() < LACKING_TTL).map(|(position, _)| position)
    }
}

impl BreakerState {
    fn fail(&mut self, reason: Fallback, cause: &dyn Display) {
        self.reason = Some(reason);
        self.failures = self.failures.saturating_add(1);
        metrics::gauge!("ehr_chat_replica_in_use").set(0.0);
        if !self.logged.is_some_and(|(logged, at)| logged == reason && at.elapsed() < LOG_INTERVAL) {
            tracing::warn!(reason = reason.label(), %cause, "read replica not in use, the primary answers all reads");
            self.logged = Some((reason, Instant::now()));
            self.logs_recovery = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_check_closes_the_breaker() {
        let breaker = CircuitBreaker::default();
        assert_eq!(breaker.check(), Err(Fallback::Unreachable), "it was never checked");
        breaker.close();
        assert_eq!((breaker.check(), breaker.backoff()), (Ok(()), None));
        breaker.open(Fallback::Behind, &"it lags", None);
        breaker.succeeded();
        assert_eq!(breaker.check(), Err(Fallback::Behind), "a read that was under way does not close it");
        breaker.opened().await;
        breaker.close();
        assert_eq!(breaker.check(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn backoff_doubles_until_a_read_succeeds() {
        let breaker = CircuitBreaker::default();
        breaker.close();
        let fail = || {
            // Reads that fail together are one failure.
            for _ in 0..3 {
                breaker.open(Fallback::Behind, &"it lags", None);
            }
            let backoff = breaker.backoff();
            breaker.close();
            backoff.unwrap().as_millis()
        };
        assert_eq!([(); 8].map(|()| fail()), [250, 500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000]);
        breaker.succeeded();
        assert_eq!(fail(), 250);
        breaker.check_failed(Fallback::Unreachable, &"it is away");
        assert_eq!((breaker.check(), breaker.backoff()), (Err(Fallback::Unreachable), Some(MIN_BACKOFF * 2)));
    }
}
