//! Publishes outbox rows in batches, one relay of all instances at a time, and records the outcome of each row. The sweep finds
//! rows that no fast path publishes.

use std::sync::Arc;
use std::time::Duration;

use shared::contract::event::publish_batch::PublishMode;
use shared::kit::redis::ConnectionHealth;
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::confirmation::{PublishedBatch, PublishedSender};
use super::inbox_updates::{InboxUpdateError, InboxUpdates};
use super::reconnects::Reconnects;
use super::rejections::RejectionTracker;
use crate::outbox::broker::{Broker, PublishOutcome, PublishRequest};
use crate::store::{
    DeferredEntry, LeasedBatch, OutboxEntry, OutboxEvent, PartlyPublished, RelayOutcome, Store, StoreError,
};

/// Events per pipeline.
pub(super) const MAX_BATCH_EVENTS: usize = 500;
/// Delay after a failure.
pub(super) const RETRY_DELAY: Duration = Duration::from_millis(200);
/// Between two sweeps.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Younger rows are still on some instance's fast path.
const SWEEP_AGE_SECONDS: f64 = 3.0;
/// A row that is marked and not deleted for so long is an orphan: its instance has died. And the interval of that check.
const ORPHAN_AGE_SECONDS: f64 = 15.0;
const ORPHAN_CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// Deferred rows may belong to a rejection that no instance remembers. Some are retried at this interval, this many at a time.
const DEFERRED_RETRY_INTERVAL: Duration = Duration::from_secs(5);
const DEFERRED_RETRY_ROWS: i64 = 500;
/// Time limit of a batch. Shorter than the relay lease.
const ROUND_TIMEOUT: Duration = Duration::from_secs(6);

/// Why the relay could not continue.
#[derive(Debug, thiserror::Error)]
pub(super) enum RelayError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("Redis did not take the events: {0}")]
    Redis(#[from] fred::error::Error),
    #[error(transparent)]
    Inboxes(#[from] InboxUpdateError),
    #[error("Redis took too long for the events")]
    Timeout,
}

/// The state that the tasks of the outbox share.
pub(super) struct OutboxRelay {
    /// Names this instance as the holder of the relay lease.
    pub(super) instance: Uuid,
    /// The tasks of this instance take turns too.
    pub(super) relay_turn: Mutex<()>,
    pub(super) store: Store,
    pub(super) broker: Arc<Broker>,
    pub(super) inbox_updates: InboxUpdates,
    pub(super) published: PublishedSender,
    pub(super) health: watch::Receiver<ConnectionHealth>,
    pub(super) rejections: RejectionTracker,
    /// Redis accepts a rejected target again, so the sweep runs at once.
    pub(super) resumed: Notify,
    pub(super) reconnects: Reconnects,
}

/// The outcome of relaying one batch.
pub(super) struct RelayBatch {
    /// The batch was full, so there may be more rows.
    pub(super) is_full: bool,
}

impl OutboxRelay {
    pub(super) fn new(
        store: Store,
        broker: Broker,
        published: PublishedSender,
        health: watch::Receiver<ConnectionHealth>,
    ) -> Self {
        let broker = Arc::new(broker);
        Self {
            instance: Uuid::now_v7(),
            relay_turn: Mutex::new(()),
            reconnects: Reconnects::new(store.clone(), health.clone()),
            inbox_updates: InboxUpdates { store: store.clone(), broker: broker.clone() },
            store,
            broker,
            published,
            health,
            rejections: RejectionTracker::default(),
            resumed: Notify::new(),
        }
    }

    /// Sweeps periodically. Runs until it is dropped.
    pub(super) async fn sweep(&self) {
        let mut check_orphans_at = Instant::now();
        let mut retry_deferred_at = Instant::now();
        let mut retried_up_to = 0;
        loop {
            if Instant::now() >= check_orphans_at {
                check_orphans_at = Instant::now() + ORPHAN_CHECK_INTERVAL;
                if let Err(error) = self.store.requeue_older_than(ORPHAN_AGE_SECONDS).await {
                    tracing::debug!(%error, "orphan rows not requeued");
                }
            }
            if Instant::now() >= retry_deferred_at {
                retry_deferred_at = Instant::now() + DEFERRED_RETRY_INTERVAL;
                // Starts over after the last row.
                retried_up_to = match self.store.resume_deferred(retried_up_to, DEFERRED_RETRY_ROWS).await {
                    Ok(last) => last.unwrap_or(0),
                    Err(_) => retried_up_to,
                };
            }
            let is_draining = self.rejections.is_draining();
            let mut is_empty = false;
            loop {
                match self.relay(SWEEP_AGE_SECONDS).await {
                    Ok(Some(RelayBatch { is_full: true })) => {}
                    Ok(batch) => {
                        is_empty = batch.is_some();
                        break;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "outbox sweep failed");
                        break;
                    }
                }
            }
            if is_draining && is_empty {
                self.reconnects.request_catch_up();
            }
            if let Ok(depth) = self.store.outbox_depth().await {
                metrics::gauge!("ehr_chat_outbox_events").set(depth.events as f64);
                metrics::gauge!("ehr_chat_outbox_age_seconds").set(depth.age);
                metrics::gauge!("ehr_chat_outbox_failed").set(depth.failed as f64);
            }
            let _sooner = timeout(SWEEP_INTERVAL, self.resumed.notified()).await;
        }
    }

    /// Publishes the oldest rows. `None` when another instance holds the lease.
    pub(super) async fn relay(&self, age_seconds: f64) -> Result<Option<RelayBatch>, RelayError> {
        let _turn = self.relay_turn.lock().await;
        let connection = self.health.borrow().generation;
        let Some(leased) = self.store.lease_oldest(self.instance, MAX_BATCH_EVENTS as i64, age_seconds).await? else {
            return Ok(None);
        };
        for (row, reason) in &leased.failed {
            tracing::error!(row, reason, "outbox row cannot be rebuilt");
            metrics::counter!("ehr_chat_outbox_failed_total", "reason" => *reason).increment(1);
        }
        let batch = RelayBatch { is_full: leased.is_full };
        if leased.entries.is_empty() {
            return Ok(Some(batch));
        }
        // A process that was paused may be late: it gives the lease back instead.
        let published = match fits_in_lease(leased.until, Instant::now()) {
            true => timeout(ROUND_TIMEOUT, self.republish(&leased)).await.unwrap_or(Err(RelayError::Timeout)),
            false => Err(RelayError::Timeout),
        };
        let relayed = published.as_ref().map_or_else(|_| RelayOutcome::default(), |(relayed, _)| relayed.clone());
        let ids = self.store.finish_relay(self.instance, &relayed).await?;
        let (_, events) = published?;
        metrics::counter!("ehr_chat_events_published_total", "path" => "outbox").increment(events);
        self.reconnects.requeue_if_lost(connection, &ids).await;
        let updates = Vec::new(); // Published already, before the rows were marked.
        self.published.send(PublishedBatch { ids, updates, connection, at: Instant::now(), is_marked: true });
        Ok(Some(batch))
    }

    /// Publishes the events of these entries, except rejected ones. Returns the outcome per entry, and the number of published
    /// events.
    async fn republish(&self, leased: &LeasedBatch) -> Result<(RelayOutcome, u64), RelayError> {
        let entries = &leased.entries;
        let map = self.rejections.is_active().then(|| self.broker.node_map());
        // Predecessors are published, precede in this batch, or are deferred. In the last case this event is deferred behind
        // them.
        let is_behind =
            |entry, event: &OutboxEvent| event.conversation().is_some_and(|one| leased.is_behind(entry, one));
        let events = entries.iter().flat_map(|entry| &entry.events);
        let is_attempted: Vec<bool> = entries
            .iter()
            .flat_map(|entry| entry.events.iter().map(move |event| (entry, event)))
            .map(|(entry, event)| {
                !is_behind(entry, event)
                    && map.as_ref().is_none_or(|map| !self.rejections.is_backing_off(&event.channel, map))
            })
            .collect();
        let due: Vec<PublishRequest<'_>> = events
            .clone()
            .zip(&is_attempted)
            .filter(|(_, is_attempted)| **is_attempted)
            .map(|(event, _)| (event, PublishMode::Deduplicate))
            .collect();
        let mut outcomes = publish_by_conversation(&self.broker, &due).await?.into_iter();
        let mut is_published = Vec::with_capacity(is_attempted.len());
        for (event, is_attempted) in events.zip(is_attempted) {
            let outcome = if is_attempted { outcomes.next() } else { None };
            if let Some(PublishOutcome::Rejected(rejection)) = &outcome {
                self.rejections.record(&event.channel, rejection, &self.broker);
            }
            if !is_attempted {
                self.rejections.add_waiting_channel(&event.channel, &self.broker);
            }
            is_published.push(outcome == Some(PublishOutcome::Published));
        }
        let relayed = relay_outcome(entries, &is_published);
        self.inbox_updates.publish(entries.iter().flat_map(|entry| entry.updates.clone()).collect()).await?;
        Ok((relayed, is_published.into_iter().filter(|is_published| *is_published).count() as u64))
    }
}

/// Publishes the events of each conversation together and in order, because the script reads each log once per call. Returns the
/// outcomes in the order of `due`.
async fn publish_by_conversation(
    broker: &Broker,
    due: &[PublishRequest<'_>],
) -> Result<Vec<PublishOutcome>, RelayError> {
    let mut order: Vec<usize> = (0..due.len()).collect();
    order.sort_by_key(|index| due[*index].0.channel.as_str());
    let sorted: Vec<_> = order.iter().map(|index| due[*index]).collect();
    let mut outcomes: Vec<_> = order.into_iter().zip(broker.publish(&sorted).await?).collect();
    outcomes.sort_unstable_by_key(|(index, _)| *index);
    Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
}

/// Whether a batch that starts now ends within the lease.
fn fits_in_lease(until: Instant, now: Instant) -> bool {
    now + ROUND_TIMEOUT <= until
}

/// The outcome per entry, from the outcome per event.
fn relay_outcome(entries: &[OutboxEntry], is_published: &[bool]) -> RelayOutcome {
    let mut relayed = RelayOutcome::default();
    let mut is_published = is_published.iter();
    for entry in entries {
        let of_entry: Vec<bool> = is_published.by_ref().take(entry.events.len()).copied().collect();
        if of_entry.iter().all(|is_published| *is_published) {
            relayed.published.push(entry.id);
            continue;
        }
        let refused = || entry.events.iter().zip(&of_entry).filter(|(_, is_published)| !**is_published);
        let conversations = refused().filter_map(|(event, _)| event.conversation()).collect();
        let deferred = DeferredEntry { id: entry.id, conversations };
        if of_entry.iter().all(|is_published| !is_published) {
            relayed.deferred.push(deferred);
        } else {
            let refused = refused().filter_map(|(event, _)| Some(event.draft.recipient.as_ref()?.message_id)).collect();
            relayed.partly.push(PartlyPublished { refused, deferred });
        }
    }
    relayed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::OutboxEvent;
    use shared::contract::event::{OutgoingEvent, Recipient};
    use shared::contract::redis::keys::Channel;
    use uuid::Uuid;

    fn entry(id: i64, messages: std::ops::Range<u128>) -> OutboxEntry {
        let event = |n| {
            let addressed = Recipient { participant: "user:a".parse().unwrap(), message_id: Uuid::from_u128(n) };
            let channel = Channel::new(&"loc1".parse().unwrap(), Uuid::from_u128(n));
            OutboxEvent { channel, draft: OutgoingEvent::message("{}", addressed, 1) }
        };
        OutboxEntry { id, events: messages.map(event).collect(), updates: Vec::new() }
    }

    #[test]
    fn relay_without_remaining_lease_publishes_nothing() {
        let until = Instant::now() + Duration::from_secs(8);
        assert!(fits_in_lease(until, until - Duration::from_secs(8)) && fits_in_lease(until, until - ROUND_TIMEOUT));
        assert!(
            !fits_in_lease(until, until - ROUND_TIMEOUT + Duration::from_millis(1)) && !fits_in_lease(until, until)
        );
    }

    #[test]
    fn partly_rejected_entry_keeps_rejected_messages() {
        let entries = [entry(1, 0..2), entry(2, 2..5), entry(3, 5..6)];
        let relayed = relay_outcome(&entries, &[true, true, true, false, true, false]);
        assert_eq!(relayed.published, [1]);
        assert_eq!(relayed.deferred, [DeferredEntry { id: 3, conversations: vec![Uuid::from_u128(5)] }]);
        let deferred = DeferredEntry { id: 2, conversations: vec![Uuid::from_u128(3)] };
        assert_eq!(relayed.partly, [PartlyPublished { refused: vec![Uuid::from_u128(3)], deferred }]);
    }
}
