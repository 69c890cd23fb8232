//! Until when a request is to be answered: one moment for all of its steps, however many they are and whatever each of them may take.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::domain::error::DomainError;

/// From the arrival of a request to its answer. The balancer gives up later, and could say no more than that it does not know what
/// became of the request.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_millis(8_500);

/// Until when a request is to be answered.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline of a request that arrived at this moment.
    #[must_use]
    pub fn of(arrived: std::time::Instant) -> Self {
        Self(Instant::from_std(arrived) + ANSWER_WITHIN)
    }

    /// Takes a step of the request, which must change nothing: if it is not done in time, the caller gets 503 and may repeat the request.
    ///
    /// # Errors
    /// [`DomainError::DeadlineExceeded`], or what `step` fails with.
    pub async fn limit<T, E: Into<DomainError>>(
        self,
        step: impl Future<Output = Result<T, E>>,
    ) -> Result<T, DomainError> {
        match timeout_at(self.0, step).await {
            Ok(done) => done.map_err(Into::into),
            Err(_) => {
                metrics::counter!("http_late_requests_total").increment(1);
                Err(DomainError::DeadlineExceeded)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreError;

    #[test]
    fn a_request_is_answered_before_the_balancer_gives_up() {
        let balancer = include_str!("../../../deploy/haproxy.cfg").split_once("backend apis").unwrap().1;
        let balancer = balancer.split_once("timeout server ").unwrap().1.split_once("s\n").unwrap().0;
        let balancer = Duration::from_secs(balancer.parse().unwrap());
        assert!(ANSWER_WITHIN <= balancer - Duration::from_secs(1), "{balancer:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_steps_of_a_request_share_one_deadline() {
        let arrived = Instant::now();
        let deadline = Deadline::of(arrived.into_std());
        let step = |seconds| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok::<_, StoreError>(())
        };
        deadline.limit(step(6)).await.unwrap();
        assert!(matches!(deadline.limit(step(6)).await, Err(DomainError::DeadlineExceeded)));
        assert_eq!(arrived.elapsed(), ANSWER_WITHIN);
        let failed = async { Err::<(), _>(StoreError::internal("at once")) };
        assert!(matches!(Deadline::of(Instant::now().into_std()).limit(failed).await, Err(DomainError::Store(_))));
    }
}
