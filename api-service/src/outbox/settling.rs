//! What Redis has taken stays in the outbox for a moment longer: until the very servers that took it have answered some
//! seconds later, and so had the time to pass it on to their replicas.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::redis::Health;
use crate::store::Store;

/// How long a server must have lived after it took something.
const SETTLED_AFTER: Duration = Duration::from_secs(2);
/// Between two looks at what has settled.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the last of it may take at the end. What has not settled by then is published once more by another instance.
const LAST_LOOKS: Duration = Duration::from_secs(4);
/// Batches that may wait to be noted. What finds no room stays in the outbox and is published once more.
pub(super) const QUEUE: usize = 256;

/// Rows of the outbox whose events Redis has taken.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) ids: Vec<i64>,
    /// On which connection, see [`Health`].
    pub(super) connection: u64,
    pub(super) at: Instant,
    /// Whether the outbox says so already.
    pub(super) noted: bool,
}

/// Notes what was published and forgets what has settled, until nobody publishes any more and all of it has. A few times a
/// second, everything at once: what a crash leaves unnoted is found in the log when it is published again.
pub(super) async fn run(store: Store, mut published: mpsc::Receiver<Published>, health: watch::Receiver<Health>) {
    let mut settling: VecDeque<Published> = VecDeque::new();
    let mut news: Vec<i64> = Vec::new();
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut fresh = Vec::new();
    let mut closed_at: Option<Instant> = None;
    while closed_at.is_none_or(|at| !settling.is_empty() && at.elapsed() < LAST_LOOKS) {
        tokio::select! {
            count = published.recv_many(&mut fresh, QUEUE), if closed_at.is_none() => {
                if count == 0 {
                    closed_at = Some(Instant::now());
                }
                news.extend(fresh.iter().filter(|batch| !batch.noted).flat_map(|batch| &batch.ids));
                settling.extend(fresh.drain(..));
            }
            _ = looks.tick() => {
                let settled = take_settled(&mut settling, *health.borrow());
                metrics::gauge!("outbox_settling").set(settling.len() as f64);
                if !(news.is_empty() && settled.is_empty()) && store.settle(&news, &settled).await.is_err() {
                    tracing::debug!("published events stay in the outbox and will be published again");
                }
                news.clear();
            }
        }
    }
}

/// Those that have settled. Those of a connection that is gone are let go: they are published again, and come back.
fn take_settled(settling: &mut VecDeque<Published>, health: Health) -> Vec<i64> {
    let mut settled = Vec::new();
    while let Some(oldest) = settling.front() {
        let is_lost = oldest.connection != health.connection;
        if !is_lost && health.proven < oldest.at + SETTLED_AFTER {
            break;
        }
        if let Some(oldest) = settling.pop_front()
            && !is_lost
        {
            settled.extend(oldest.ids);
        }
    }
    settled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(id: i64, connection: u64, at: Instant) -> Published {
        Published { ids: vec![id], connection, at, noted: false }
    }

    #[tokio::test]
    async fn what_redis_took_is_forgotten_once_it_has_lived_on_for_a_while() {
        let begin = Instant::now();
        let seconds = |seconds| begin + Duration::from_secs(seconds);
        let mut settling = VecDeque::from([published(1, 0, begin), published(2, 0, seconds(1))]);
        let mut settled = |proven| take_settled(&mut settling, Health { connection: 0, since: begin, proven });
        assert_eq!(settled(seconds(1)), [0_i64; 0]);
        assert_eq!(settled(seconds(2)), [1]);
        assert_eq!(settled(seconds(9)), [2]);
    }

    #[tokio::test]
    async fn what_another_connection_took_is_never_forgotten() {
        let begin = Instant::now();
        let mut settling = VecDeque::from([published(1, 0, begin), published(2, 1, begin)]);
        let health = Health { connection: 1, since: begin, proven: begin + Duration::from_secs(9) };
        assert_eq!(take_settled(&mut settling, health), [2]);
        assert!(settling.is_empty());
    }
}
