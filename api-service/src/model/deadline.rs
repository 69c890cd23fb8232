//! The deadline of a request. All of its steps share it.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// From the arrival of a request to its response. The load balancer's timeout is later: it would hide the outcome from the
/// client.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_millis(8_500);

/// Why a step of a request failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError<E> {
    /// It was not done in time. The step must change nothing, so the caller may repeat the request.
    #[error("the deadline of the request has passed")]
    DeadlineExceeded,
    /// It failed.
    #[error(transparent)]
    Failed(E),
}

/// The deadline of a request.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// For a request that arrived at this time.
    #[must_use]
    pub fn from_arrival(arrived: std::time::Instant) -> Self {
        Self(Instant::from_std(arrived) + REQUEST_TIMEOUT)
    }

    /// Runs one step, which must change nothing, until the deadline.
    ///
    /// # Errors
    /// [`StepError`]
    pub async fn limit<T, E>(self, step: impl Future<Output = Result<T, E>>) -> Result<T, StepError<E>> {
        match timeout_at(self.0, step).await {
            Ok(done) => done.map_err(StepError::Failed),
            Err(_) => {
                metrics::counter!("ehr_chat_http_late_requests_total").increment(1);
                Err(StepError::DeadlineExceeded)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadline_precedes_balancer_timeout() {
        let balancer = include_str!("../../../deploy/haproxy.cfg").split_once("backend apis").unwrap().1;
        let balancer = balancer.split_once("timeout server ").unwrap().1.split_once("s\n").unwrap().0;
        let balancer = Duration::from_secs(balancer.parse().unwrap());
        assert!(REQUEST_TIMEOUT <= balancer - Duration::from_secs(1), "{balancer:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn steps_share_one_deadline() {
        let arrived = Instant::now();
        let deadline = Deadline::from_arrival(arrived.into_std());
        let step = |seconds| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok::<_, String>(())
        };
        deadline.limit(step(6)).await.unwrap();
        assert!(matches!(deadline.limit(step(6)).await, Err(StepError::DeadlineExceeded)));
        assert_eq!(arrived.elapsed(), REQUEST_TIMEOUT);
        let failed = async { Err::<(), _>("at once") };
        assert!(matches!(
            Deadline::from_arrival(Instant::now().into_std()).limit(failed).await,
            Err(StepError::Failed(_))
        ));
    }
}
