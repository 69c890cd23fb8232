//! What Redis has taken stays in the outbox for a moment longer: until the very servers that took it have answered some
//! seconds later, and so had the time to pass it on to their replicas.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shared::redis::Health;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::OutboxRelay;
use crate::store::Store;

/// How long a server must have lived after it took something.
const CONFIRM_AFTER: Duration = Duration::from_secs(2);
/// Between two looks at what has settled.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How long the last of it may take at the end. What has not settled by then is published once more by another instance.
const FINAL_CONFIRM_TIMEOUT: Duration = Duration::from_secs(4);
/// Batches that may wait to be noted. What finds no room stays in the outbox and is published once more.
pub(super) const QUEUE_CAPACITY: usize = 256;

/// Rows of the outbox whose events Redis has taken.
#[derive(Debug)]
pub(super) struct PublishedBatch {
    pub(super) ids: Vec<i64>,
    /// On which connection, see [`Health`].
    pub(super) connection: u64,
    pub(super) at: Instant,
    /// Whether the outbox says so already.
    pub(super) is_marked: bool,
}

/// Notes and forgets.
pub(super) struct Confirmation {
    store: Store,
    health: watch::Receiver<Health>,
    catch_up_requested: Arc<AtomicBool>,
}

impl Confirmation {
    pub(super) fn new(outbox: &OutboxRelay) -> Self {
        let (store, health) = (outbox.store.clone(), outbox.health.clone());
        Self { store, health, catch_up_requested: outbox.catch_up_requested.clone() }
    }

    /// Notes what was published and forgets what has settled, until nobody publishes any more and all of it has. A few times a
    /// second, everything at once: what a crash leaves unmarked is found in the log when it is published again.
    pub(super) async fn run(self, mut published: mpsc::Receiver<PublishedBatch>) {
        let mut unconfirmed: VecDeque<PublishedBatch> = VecDeque::new();
        let mut unmarked: Vec<(u64, Instant, Vec<i64>)> = Vec::new();
        let mut ticks = interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut fresh = Vec::new();
        let mut closed_at: Option<Instant> = None;
        while closed_at.is_none_or(|at| !unconfirmed.is_empty() && at.elapsed() < FINAL_CONFIRM_TIMEOUT) {
            tokio::select! {
                count = published.recv_many(&mut fresh, QUEUE_CAPACITY), if closed_at.is_none() => {
                    if count == 0 {
                        closed_at = Some(Instant::now());
                    }
                    let new = fresh.iter().filter(|batch| !batch.is_marked);
                    unmarked.extend(new.map(|batch| (batch.connection, batch.at, batch.ids.clone())));
                    unconfirmed.extend(fresh.drain(..));
                }
                _ = ticks.tick() => {
                    let health = *self.health.borrow();
                    let confirmed = take_confirmed(&mut unconfirmed, health);
                    metrics::gauge!("outbox_settling").set(unconfirmed.len() as f64);
                    let marked = entries_to_mark(std::mem::take(&mut unmarked), health);
                    self.mark_and_prune(health, &marked, &confirmed).await;
                }
            }
        }
    }

    async fn mark_and_prune(&self, health: Health, marked: &[(i64, f64)], confirmed: &[i64]) {
        if marked.is_empty() && confirmed.is_empty() {
            return;
        }
        if self.store.mark_and_prune(marked, confirmed).await.is_err() {
            tracing::debug!("published events stay in the outbox and will be published again");
        }
        // The connection has broken meanwhile, and whoever looked for what it took may have looked before this was noted.
        if self.health.borrow().connection != health.connection && !marked.is_empty() {
            let ids: Vec<i64> = marked.iter().map(|(id, _)| *id).collect();
            if let Err(error) = self.store.requeue(&ids).await {
                tracing::warn!(%error, "what Redis may have lost is published again later");
            }
            self.catch_up_requested.store(true, Ordering::Release);
        }
    }
}

/// What the present connection has taken, each entry with its age in seconds. What an old one took is not marked: it waits in
/// the outbox, from which it is published again at once.
fn entries_to_mark(unmarked: Vec<(u64, Instant, Vec<i64>)>, health: Health) -> Vec<(i64, f64)> {
    let present = unmarked.into_iter().filter(|(connection, ..)| *connection == health.connection);
    present.flat_map(|(_, at, ids)| ids.into_iter().map(move |id| (id, at.elapsed().as_secs_f64()))).collect()
}

/// Those that have settled. Those of a connection that is gone are let go: they are published again, and come back.
fn take_confirmed(unconfirmed: &mut VecDeque<PublishedBatch>, health: Health) -> Vec<i64> {
    let mut confirmed = Vec::new();
    while let Some(oldest) = unconfirmed.front() {
        let is_lost = oldest.connection != health.connection;
        if !is_lost && health.proven < oldest.at + CONFIRM_AFTER {
            break;
        }
        if let Some(oldest) = unconfirmed.pop_front()
            && !is_lost
        {
            confirmed.extend(oldest.ids);
        }
    }
    confirmed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(id: i64, connection: u64, at: Instant) -> PublishedBatch {
        PublishedBatch { ids: vec![id], connection, at, is_marked: false }
    }

    #[tokio::test]
    async fn what_redis_took_is_forgotten_once_it_has_lived_on_for_a_while() {
        let begin = Instant::now();
        let seconds = |seconds| begin + Duration::from_secs(seconds);
        let mut unconfirmed = VecDeque::from([published(1, 0, begin), published(2, 0, seconds(1))]);
        let mut confirmed = |proven| take_confirmed(&mut unconfirmed, Health { connection: 0, since: begin, proven });
        assert_eq!(confirmed(seconds(1)), [0_i64; 0]);
        assert_eq!(confirmed(seconds(2)), [1]);
        assert_eq!(confirmed(seconds(9)), [2]);
    }

    #[tokio::test]
    async fn what_a_lost_connection_took_a_moment_ago_is_not_noted_as_published() {
        let now = Instant::now();
        let health = Health { connection: 1, since: now, proven: now };
        let marked = entries_to_mark(vec![(0, now, vec![1, 2]), (1, now, vec![3])], health);
        assert_eq!(marked.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [3]);
    }

    #[tokio::test]
    async fn what_another_connection_took_is_never_forgotten() {
        let begin = Instant::now();
        let mut unconfirmed = VecDeque::from([published(1, 0, begin), published(2, 1, begin)]);
        let health = Health { connection: 1, since: begin, proven: begin + Duration::from_secs(9) };
        assert_eq!(take_confirmed(&mut unconfirmed, health), [2]);
        assert!(unconfirmed.is_empty());
    }
}
