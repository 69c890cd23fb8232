//! What follows a publication, and why an outbox row outlives it.
//!
//! 1. The inbox rows of the changed conversations are published. If that fails, the outbox row stays as it is, and the sweep
//!    publishes it again.
//! 2. The outbox row is *marked* as published. It must not be deleted yet: Redis replicates asynchronously. A master that accepted
//!    an event may fail before a replica has it, and the event is lost.
//! 3. The row is *confirmed* and deleted once the same connection has answered [`CONFIRM_AFTER`] later: the master was alive long
//!    enough to replicate. With Sentinels, its replicas must also have what it held then. If the connection is lost earlier, the marked rows are requeued and published again. The event log in
//!    Redis recognizes events that it already holds, so nothing is delivered twice.
//!
//! One task and one bounded queue do all three. Redis (1) and PostgreSQL (2, 3) are used at the same time, so neither waits for
//! the other. The fast path waits for neither.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Fuse, FusedFuture};
use shared::kit::redis::ConnectionHealth;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::inbox_updates::InboxUpdates;
use super::reconnects::Reconnects;
use crate::model::inbox::InboxUpdate;
use crate::store::Store;

/// How long a server must stay alive after it accepted an event.
const CONFIRM_AFTER: Duration = Duration::from_secs(2);
/// Between two rounds of marking and deleting.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Time limit of the last confirmations at shutdown. Another instance publishes the rest again.
const FINAL_CONFIRM_TIMEOUT: Duration = Duration::from_secs(4);
/// Batches that may wait in the queue, and as many for their inbox rows.
const QUEUE_CAPACITY: usize = 256;

/// Outbox rows whose events Redis has accepted.
#[derive(Debug)]
pub(super) struct PublishedBatch {
    pub(super) ids: Vec<i64>,
    /// Inbox updates that follow the events, in any order.
    pub(super) updates: Vec<InboxUpdate>,
    /// The connection that accepted them, see [`ConnectionHealth::generation`].
    pub(super) connection: u64,
    pub(super) at: Instant,
    /// True for batches of the relay. It has published their inbox rows and marked their outbox rows.
    pub(super) is_marked: bool,
}

/// The sending end of the queue. Never waits.
pub(super) struct PublishedSender(mpsc::Sender<PublishedBatch>);

/// Creates the queue.
pub(super) fn queue() -> (PublishedSender, mpsc::Receiver<PublishedBatch>) {
    let (sender, receiver) = mpsc::channel(QUEUE_CAPACITY);
    (PublishedSender(sender), receiver)
}

impl PublishedSender {
    /// Queues a batch. One that finds no room stays in the outbox and is published again, which clients ignore.
    pub(super) fn send(&self, batch: PublishedBatch) {
        let is_empty = batch.ids.is_empty() && batch.updates.is_empty();
        if !is_empty && self.0.try_send(batch).is_err() {
            count_overflow();
        }
    }
}

/// Publishes inbox rows, marks published rows and deletes confirmed ones.
pub(super) struct Confirmation {
    pub(super) store: Store,
    pub(super) inbox_updates: InboxUpdates,
    pub(super) health: watch::Receiver<ConnectionHealth>,
    pub(super) reconnects: Reconnects,
}

impl Confirmation {
    /// Runs until the queue is closed and all rows are confirmed. Marks and deletes in rounds, a few per second: rows that a crash
    /// leaves unmarked are published again and recognized by the event log.
    pub(super) async fn run(self, mut queue: mpsc::Receiver<PublishedBatch>) {
        let mut waiting: Vec<PublishedBatch> = Vec::new();
        let mut unconfirmed: VecDeque<PublishedBatch> = VecDeque::new();
        let mut unmarked: Vec<(u64, Instant, Vec<i64>)> = Vec::new();
        let mut ticks = interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ends_at: Option<Instant> = None;
        // At most one of each is in progress.
        let mut publishing = pin!(Fuse::terminated());
        let mut marking = pin!(Fuse::terminated());
        loop {
            if publishing.is_terminated() && !waiting.is_empty() {
                publishing.set(self.publish_inboxes(std::mem::take(&mut waiting)).fuse());
            }
            let is_idle = publishing.is_terminated() && marking.is_terminated() && unconfirmed.is_empty();
            if ends_at.is_some_and(|at| is_idle || Instant::now() >= at) {
                return;
            }
            tokio::select! {
                batches = next_batches(&mut queue), if ends_at.is_none() => {
                    if batches.is_empty() {
                        ends_at = Some(Instant::now() + FINAL_CONFIRM_TIMEOUT);
                    }
                    batches.into_iter().for_each(|batch| accept(batch, &mut waiting, &mut unconfirmed));
                }
                batches = &mut publishing => {
                    unmarked.extend(batches.iter().map(|batch| (batch.connection, batch.at, batch.ids.clone())));
                    unconfirmed.extend(batches);
                }
                _ = ticks.tick(), if marking.is_terminated() => {
                    let health = *self.health.borrow();
                    let confirmed = take_confirmed(&mut unconfirmed, health);
                    metrics::gauge!("ehr_chat_outbox_unconfirmed").set(unconfirmed.len() as f64);
                    let marked = entries_to_mark(std::mem::take(&mut unmarked), health);
                    marking.set(self.mark_and_prune(health, marked, confirmed).fuse());
                }
                () = &mut marking => {}
                () = sleep_until(ends_at.unwrap_or_else(Instant::now)), if ends_at.is_some() => {}
            }
        }
    }

    /// Publishes the inbox rows of these batches, each conversation once. Returns the batches that may be confirmed: none after a
    /// failure.
    async fn publish_inboxes(&self, mut batches: Vec<PublishedBatch>) -> Vec<PublishedBatch> {
        let updates = batches.iter_mut().flat_map(|batch| std::mem::take(&mut batch.updates)).collect();
        if let Err(error) = self.inbox_updates.publish(updates).await {
            tracing::warn!(%error, "inbox rows not published, outbox rows stay");
            return Vec::new();
        }
        batches
    }

    async fn mark_and_prune(&self, health: ConnectionHealth, marked: Vec<(i64, f64)>, confirmed: Vec<i64>) {
        if marked.is_empty() && confirmed.is_empty() {
            return;
        }
        if let Err(error) = self.store.mark_and_prune(&marked, &confirmed).await {
            let (marks, deletions) = (marked.len(), confirmed.len());
            tracing::warn!(%error, marks, deletions, "outbox rows not confirmed, their events are published again");
        }
        let ids: Vec<i64> = marked.iter().map(|(id, _)| *id).collect();
        self.reconnects.requeue_if_lost(health.generation, &ids).await;
    }
}

/// Takes a batch from the queue. A batch of the relay waits for nothing, so slow inbox rows do not delay it. Another one waits for
/// its inbox rows, or stays in the outbox when too many wait.
fn accept(batch: PublishedBatch, waiting: &mut Vec<PublishedBatch>, unconfirmed: &mut VecDeque<PublishedBatch>) {
    if batch.is_marked {
        unconfirmed.push_back(batch);
    } else if waiting.len() < QUEUE_CAPACITY {
        waiting.push(batch);
    } else {
        count_overflow();
    }
}

fn count_overflow() {
    metrics::counter!("ehr_chat_outbox_confirm_overflows_total").increment(1);
}

/// The batches that wait; none once the queue is closed and empty.
async fn next_batches(queue: &mut mpsc::Receiver<PublishedBatch>) -> Vec<PublishedBatch> {
    let mut batches = Vec::new();
    queue.recv_many(&mut batches, QUEUE_CAPACITY).await;
    batches
}

/// Entries that the current connection accepted, with their age in seconds. Entries of a lost connection stay unmarked, so that
/// they are published again at once.
fn entries_to_mark(unmarked: Vec<(u64, Instant, Vec<i64>)>, health: ConnectionHealth) -> Vec<(i64, f64)> {
    let present = unmarked.into_iter().filter(|(connection, ..)| *connection == health.generation);
    present.flat_map(|(_, at, ids)| ids.into_iter().map(move |id| (id, at.elapsed().as_secs_f64()))).collect()
}

/// Removes the confirmed batches and returns their ids. Batches of a lost connection are dropped: they are published again and
/// come back.
fn take_confirmed(unconfirmed: &mut VecDeque<PublishedBatch>, health: ConnectionHealth) -> Vec<i64> {
    let mut confirmed = Vec::new();
    while let Some(oldest) = unconfirmed.front() {
        let is_lost = oldest.connection != health.generation;
        if !is_lost && health.verified_at < oldest.at + CONFIRM_AFTER {
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
        PublishedBatch { ids: vec![id], updates: Vec::new(), connection, at, is_marked: false }
    }

    #[tokio::test]
    async fn relay_batch_waits_for_no_inbox_rows() {
        let (mut waiting, mut unconfirmed) = (Vec::new(), VecDeque::new());
        let now = Instant::now();
        for id in 0..=QUEUE_CAPACITY as i64 {
            accept(published(id, 0, now), &mut waiting, &mut unconfirmed);
        }
        assert_eq!((waiting.len(), unconfirmed.len()), (QUEUE_CAPACITY, 0), "the last one stays in the outbox");
        accept(PublishedBatch { is_marked: true, ..published(-1, 0, now) }, &mut waiting, &mut unconfirmed);
        assert_eq!((waiting.len(), unconfirmed.len()), (QUEUE_CAPACITY, 1));
    }

    #[tokio::test]
    async fn batch_is_confirmed_after_server_stayed_alive() {
        let begin = Instant::now();
        let seconds = |seconds| begin + Duration::from_secs(seconds);
        let mut unconfirmed = VecDeque::from([published(1, 0, begin), published(2, 0, seconds(1))]);
        let mut confirmed = |verified_at| {
            take_confirmed(&mut unconfirmed, ConnectionHealth { generation: 0, since: begin, verified_at })
        };
        assert_eq!(confirmed(seconds(1)), [0_i64; 0]);
        assert_eq!(confirmed(seconds(2)), [1]);
        assert_eq!(confirmed(seconds(9)), [2]);
    }

    #[tokio::test]
    async fn batch_of_lost_connection_is_not_marked() {
        let now = Instant::now();
        let health = ConnectionHealth { generation: 1, since: now, verified_at: now };
        let marked = entries_to_mark(vec![(0, now, vec![1, 2]), (1, now, vec![3])], health);
        assert_eq!(marked.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [3]);
    }

    #[tokio::test]
    async fn batch_of_lost_connection_is_not_confirmed() {
        let begin = Instant::now();
        let mut unconfirmed = VecDeque::from([published(1, 0, begin), published(2, 1, begin)]);
        let health = ConnectionHealth { generation: 1, since: begin, verified_at: begin + Duration::from_secs(9) };
        assert_eq!(take_confirmed(&mut unconfirmed, health), [2]);
        assert!(unconfirmed.is_empty());
    }
}
