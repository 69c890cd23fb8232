//! What Redis has taken stays in the outbox for a moment longer: until the very servers that took it have answered some
//! seconds later, and so had the time to pass it on to their replicas.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shared::redis::Health;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Outbox;
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

/// Notes and forgets.
pub(super) struct Settling {
    store: Store,
    health: watch::Receiver<Health>,
    wants_catch_up: Arc<AtomicBool>,
}

impl Settling {
    pub(super) fn new(outbox: &Outbox) -> Self {
        let (store, health) = (outbox.store.clone(), outbox.health.clone());
        Self { store, health, wants_catch_up: outbox.wants_catch_up.clone() }
    }

    /// Notes what was published and forgets what has settled, until nobody publishes any more and all of it has. A few times a
    /// second, everything at once: what a crash leaves unnoted is found in the log when it is published again.
    pub(super) async fn run(self, mut published: mpsc::Receiver<Published>) {
        let mut settling: VecDeque<Published> = VecDeque::new();
        let mut news: Vec<(u64, Instant, Vec<i64>)> = Vec::new();
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
                    let unnoted = fresh.iter().filter(|batch| !batch.noted);
                    news.extend(unnoted.map(|batch| (batch.connection, batch.at, batch.ids.clone())));
                    settling.extend(fresh.drain(..));
                }
                _ = looks.tick() => {
                    let health = *self.health.borrow();
                    let settled = take_settled(&mut settling, health);
                    metrics::gauge!("outbox_settling").set(settling.len() as f64);
                    let noted = to_note(std::mem::take(&mut news), health);
                    self.settle(health, &noted, &settled).await;
                }
            }
        }
    }

    async fn settle(&self, health: Health, noted: &[(i64, f64)], settled: &[i64]) {
        if noted.is_empty() && settled.is_empty() {
            return;
        }
        if self.store.settle(noted, settled).await.is_err() {
            tracing::debug!("published events stay in the outbox and will be published again");
        }
        // The connection has broken meanwhile, and whoever looked for what it took may have looked before this was noted.
        if self.health.borrow().connection != health.connection && !noted.is_empty() {
            let ids: Vec<i64> = noted.iter().map(|(id, _)| *id).collect();
            if let Err(error) = self.store.unsettle_these(&ids).await {
                tracing::warn!(%error, "what Redis may have lost is published again later");
            }
            self.wants_catch_up.store(true, Ordering::Release);
        }
    }
}

/// What the present connection has taken, each entry with its age in seconds. What an old one took is not noted: it waits in
/// the outbox, from which it is published again at once.
fn to_note(news: Vec<(u64, Instant, Vec<i64>)>, health: Health) -> Vec<(i64, f64)> {
    let present = news.into_iter().filter(|(connection, ..)| *connection == health.connection);
    present.flat_map(|(_, at, ids)| ids.into_iter().map(move |id| (id, at.elapsed().as_secs_f64()))).collect()
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
    async fn what_a_lost_connection_took_a_moment_ago_is_not_noted_as_published() {
        let now = Instant::now();
        let health = Health { connection: 1, since: now, proven: now };
        let noted = to_note(vec![(0, now, vec![1, 2]), (1, now, vec![3])], health);
        assert_eq!(noted.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [3]);
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
