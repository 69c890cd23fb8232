//! From the commit to Redis without a detour, as long as Redis takes everything; and the catch-up with the outbox when it did
//! not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shared::publication::PublishMode;
use shared::shutdown::Shutdown;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::confirmation::PublishedBatch;
use super::inbox_updates::InboxBatch;
use super::relay::RelayBatch;
use super::{MAX_BATCH_EVENTS, OutboxRelay, RETRY_DELAY};
use crate::outbox::broker::{PublishOutcome, PublishRequest};
use crate::outbox::event_queue::EventReceiver;
use crate::store::OutboxEntry;

/// How long a message waits for the one before it.
const PREDECESSOR_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two attempts at it; doubled each time. Two instances that take turns in one conversation wait this long for each
/// turn, so it bounds how many messages a second they get through there.
const MIN_BACKOFF: Duration = Duration::from_millis(1);
const MAX_BACKOFF: Duration = Duration::from_millis(8);
/// Entries that may wait so. Past it none does.
const MAX_PENDING: usize = 1_000;

/// An entry that waits to be published, as a whole or in part.
struct PendingEntry {
    entry: OutboxEntry,
    /// Some of its events are left to the outbox, and so its row must stay there.
    stays_in_outbox: bool,
    since: Instant,
    retry_at: Instant,
    backoff: Duration,
}

impl PendingEntry {
    fn new(entry: OutboxEntry) -> Self {
        let now = Instant::now();
        Self { entry, stays_in_outbox: false, since: now, retry_at: now, backoff: MIN_BACKOFF }
    }
}

/// From the commit to Redis without a detour.
pub(super) struct FastPath {
    outbox: Arc<OutboxRelay>,
    inbox_sender: mpsc::Sender<InboxBatch>,
    events: EventReceiver,
    pending: Vec<PendingEntry>,
    /// The newest connection to Redis of which everything that it may lack was published again.
    connection: u64,
    shutdown: Shutdown,
}

impl FastPath {
    pub(super) fn new(
        outbox: Arc<OutboxRelay>,
        inbox_sender: mpsc::Sender<InboxBatch>,
        events: EventReceiver,
        connection: u64,
        shutdown: Shutdown,
    ) -> Self {
        Self { outbox, inbox_sender, events, pending: Vec::new(), connection, shutdown }
    }

    pub(super) async fn run(mut self) {
        while !(self.events.is_closed() && self.pending.is_empty()) {
            if self.events.overflowed()
                || self.outbox.health.borrow().connection != self.connection
                || self.outbox.catch_up_requested.swap(false, Ordering::AcqRel)
            {
                self.catch_up().await;
            }
            let is_open = !self.events.is_closed();
            let retry_at = self.pending.iter().map(|pending| pending.retry_at).min();
            let fresh = tokio::select! {
                entries = self.events.next(MAX_BATCH_EVENTS), if is_open => entries,
                () = sleep_until(retry_at.unwrap_or_else(Instant::now)), if retry_at.is_some() => Vec::new(),
                // Another connection, perhaps.
                () = sleep(RETRY_DELAY) => Vec::new(),
            };
            self.pending.extend(fresh.into_iter().map(PendingEntry::new));
            self.leave_rejected();
            if let Err(error) = self.publish().await {
                let events: usize = self.pending.iter().map(|pending| pending.entry.events.len()).sum();
                tracing::warn!(error = error.details(), events, "Redis does not take events; the outbox holds them");
                self.catch_up().await;
            }
        }
    }

    /// Leaves to the outbox what is set aside: behind what waits there already.
    fn leave_rejected(&mut self) {
        let OutboxRelay { rejections, broker, .. } = &*self.outbox;
        if !rejections.is_active() {
            return;
        }
        let map = broker.node_map();
        for PendingEntry { entry, stays_in_outbox, .. } in &mut self.pending {
            entry.events.retain(|event| {
                let is_rejected = rejections.defers(&event.channel, &map);
                if is_rejected {
                    rejections.add_waiting_channel(&event.channel, broker);
                }
                *stays_in_outbox |= is_rejected;
                !is_rejected
            });
        }
    }

    /// Publishes what waits and is due, all but what comes too early.
    async fn publish(&mut self) -> Result<(), fred::error::Error> {
        let now = Instant::now();
        let is_overloaded = self.pending.len() > MAX_PENDING;
        let is_due = |retry_at: Instant| is_overloaded || retry_at <= now;
        let events: Vec<PublishRequest<'_>> = self
            .pending
            .iter()
            .filter(|pending| is_due(pending.retry_at))
            .flat_map(|PendingEntry { entry, since, .. }| {
                let is_late = is_overloaded || now.duration_since(*since) >= PREDECESSOR_TIMEOUT;
                let manner = if is_late { PublishMode::Force } else { PublishMode::AfterPredecessor };
                entry.events.iter().map(move |event| (event, manner))
            })
            .collect();
        let outcomes = if events.is_empty() { Vec::new() } else { self.outbox.broker.publish(&events).await? };
        let count = |wanted| outcomes.iter().filter(|outcome| **outcome == wanted).count() as u64;
        metrics::counter!("events_published_total", "path" => "fast").increment(count(PublishOutcome::Published));
        metrics::counter!("events_too_early_total").increment(count(PublishOutcome::PredecessorMissing));
        let mut outcomes = outcomes.into_iter();
        let (mut ids, mut updates) = (Vec::new(), Vec::new());
        self.pending.retain_mut(|pending| {
            if is_due(pending.retry_at) {
                let before = pending.entry.events.len();
                pending.entry.events.retain(|event| match outcomes.next() {
                    Some(PublishOutcome::Published) => false,
                    Some(PublishOutcome::Rejected(rejection)) => {
                        self.outbox.rejections.record(&event.channel, &rejection, &self.outbox.broker);
                        pending.stays_in_outbox = true;
                        false
                    }
                    Some(PublishOutcome::PredecessorMissing) | None => true,
                });
                let is_stuck = pending.entry.events.len() == before;
                pending.backoff = if is_stuck { (pending.backoff * 2).min(MAX_BACKOFF) } else { MIN_BACKOFF };
                pending.retry_at = now + pending.backoff;
            }
            if pending.entry.events.is_empty() {
                // The row of what is left to the outbox stays there, and is published from there.
                if !pending.stays_in_outbox {
                    ids.push(pending.entry.id);
                }
                updates.append(&mut pending.entry.updates);
            }
            !pending.entry.events.is_empty()
        });
        let published = PublishedBatch { ids, connection: self.connection, at: Instant::now(), is_marked: false };
        let is_any = !(published.ids.is_empty() && updates.is_empty());
        if is_any && self.inbox_sender.try_send(InboxBatch { updates, published }).is_err() {
            // They stay in the outbox, and the sweep finds them.
            metrics::counter!("inbox_queue_overflows_total").increment(1);
        }
        Ok(())
    }

    /// Publishes the outbox until it holds no more than what others have in hand; after a new connection with what the old
    /// one was given last. Then the fast path goes on.
    async fn catch_up(&mut self) {
        metrics::gauge!("outbox_behind").set(1);
        let since = Instant::now();
        // Redis takes these again. What waited of them is in the outbox, and goes first.
        let draining = self.outbox.rejections.draining();
        while !self.catch_up_once().await {
            if self.shutdown.has_begun() {
                tracing::info!("the rest of the outbox is left to another instance, or to the next start of this one");
                break;
            }
        }
        self.outbox.finish_draining(draining).await;
        metrics::gauge!("outbox_behind").set(0);
        tracing::info!(after_ms = since.elapsed().as_millis() as u64, "the fast path goes on");
    }

    /// Returns whether that was all.
    async fn catch_up_once(&mut self) -> bool {
        // What waits in memory is committed, and so among what is relayed next.
        self.pending.clear();
        self.events.discard();
        let health = *self.outbox.health.borrow();
        if health.connection != self.connection {
            match self.outbox.store.requeue_older_than(health.since.elapsed().as_secs_f64()).await {
                Ok(()) => self.connection = health.connection,
                Err(error) => tracing::warn!(%error, "what Redis may have lost is not published again yet"),
            }
        }
        match self.outbox.relay(0.0).await {
            Ok(Some(RelayBatch { is_full: true })) => return false,
            Ok(Some(RelayBatch { is_full: false })) if health.connection == self.connection => return true,
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the outbox is not published yet"),
        }
        sleep(RETRY_DELAY).await;
        false
    }
}
