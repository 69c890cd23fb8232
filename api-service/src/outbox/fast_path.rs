//! The fast path: publishes committed events from memory while Redis accepts all of them. After a failure it catches up with the
//! outbox first.

use std::sync::Arc;
use std::time::Duration;

use shared::contract::event::publish_batch::PublishMode;
use shared::kit::shutdown::Shutdown;
use shared::kit::telemetry::log_throttle::LogThrottle;
use tokio::time::{Instant, sleep, sleep_until};

use super::confirmation::PublishedBatch;
use super::relay::{MAX_BATCH_EVENTS, OutboxRelay, RETRY_DELAY, RelayBatch};
use crate::outbox::broker::{PublishOutcome, PublishRequest};
use crate::outbox::event_queue::EventReceiver;
use crate::store::OutboxEntry;

/// How long a message waits for its predecessor.
const PREDECESSOR_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two attempts; doubled each time. Two instances that alternate in one conversation wait this long per turn, which
/// bounds their common rate.
const MIN_BACKOFF: Duration = Duration::from_millis(1);
const MAX_BACKOFF: Duration = Duration::from_millis(8);
/// Entries that may wait for predecessors. Beyond this none waits.
const MAX_PENDING: usize = 1_000;

/// An entry that is published only in part, or not yet.
struct PendingEntry {
    entry: OutboxEntry,
    /// Some events are left to the outbox, so its row must stay.
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

/// The state of the fast path.
pub(super) struct FastPath {
    outbox: Arc<OutboxRelay>,
    events: EventReceiver,
    pending: Vec<PendingEntry>,
    /// The latest connection to Redis for which everything that may be lost was requeued.
    connection: u64,
    relay_failures: LogThrottle,
    shutdown: Shutdown,
}

impl FastPath {
    pub(super) fn new(outbox: Arc<OutboxRelay>, events: EventReceiver, connection: u64, shutdown: Shutdown) -> Self {
        Self { outbox, events, pending: Vec::new(), connection, relay_failures: LogThrottle::default(), shutdown }
    }

    pub(super) async fn run(mut self) {
        while !(self.events.is_closed() && self.pending.is_empty()) {
            if self.events.overflowed()
                || self.outbox.health.borrow().generation != self.connection
                || self.outbox.reconnects.take_catch_up_request()
            {
                self.catch_up().await;
            }
            let is_open = !self.events.is_closed();
            let retry_at = self.pending.iter().map(|pending| pending.retry_at).min();
            let fresh = tokio::select! {
                entries = self.events.next(MAX_BATCH_EVENTS), if is_open => entries,
                () = sleep_until(retry_at.unwrap_or_else(Instant::now)), if retry_at.is_some() => Vec::new(),
                // Checks for a new connection.
                () = sleep(RETRY_DELAY) => Vec::new(),
            };
            self.pending.extend(fresh.into_iter().map(PendingEntry::new));
            self.leave_rejected();
            if let Err(error) = self.publish().await {
                let events: usize = self.pending.iter().map(|pending| pending.entry.events.len()).sum();
                tracing::warn!(error = error.details(), events, "publishing failed, catching up with the outbox");
                self.catch_up().await;
            }
        }
    }

    /// Leaves events of rejected targets to the outbox, behind their older rows.
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

    /// Publishes the entries that are due, except messages whose predecessor is missing.
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
        metrics::counter!("ehr_chat_events_published_total", "path" => "fast")
            .increment(count(PublishOutcome::Published));
        metrics::counter!("ehr_chat_publish_order_retries_total").increment(count(PublishOutcome::PredecessorMissing));
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
                // A row with events left for the outbox is published from there.
                if !pending.stays_in_outbox {
                    ids.push(pending.entry.id);
                }
                updates.append(&mut pending.entry.updates);
            }
            !pending.entry.events.is_empty()
        });
        let connection = self.connection;
        self.outbox.published.send(PublishedBatch { ids, updates, connection, at: Instant::now(), is_marked: false });
        Ok(())
    }

    /// Publishes the outbox until it is empty except for rows of other instances. After a new connection, requeues what the old
    /// one may have lost.
    async fn catch_up(&mut self) {
        metrics::gauge!("ehr_chat_outbox_catching_up").set(1);
        let since = Instant::now();
        // Redis accepts these again. Their older rows are in the outbox and come first.
        let draining = self.outbox.rejections.draining();
        while !self.catch_up_once().await {
            if self.shutdown.has_begun() {
                tracing::info!("catch-up ended by shutdown, rows stay in the outbox");
                break;
            }
        }
        self.outbox.finish_draining(draining).await;
        metrics::gauge!("ehr_chat_outbox_catching_up").set(0);
        tracing::info!(after_ms = since.elapsed().as_millis() as u64, "fast path resumed");
    }

    /// Returns whether the outbox was empty.
    async fn catch_up_once(&mut self) -> bool {
        // Entries in memory are committed, so the relay publishes them from the outbox.
        self.pending.clear();
        self.events.discard();
        let health = *self.outbox.health.borrow();
        if health.generation != self.connection {
            match self.outbox.store.requeue_older_than(health.since.elapsed().as_secs_f64()).await {
                Ok(()) => self.connection = health.generation,
                Err(error) => tracing::warn!(%error, "republish after Redis reconnect failed, will retry"),
            }
        }
        match self.outbox.relay(0.0).await {
            Ok(Some(RelayBatch { is_full: true })) => return false,
            Ok(Some(RelayBatch { is_full: false })) if health.generation == self.connection => return true,
            Ok(_) => {}
            Err(error) => {
                if let Some(times) = self.relay_failures.record(1) {
                    tracing::warn!(%error, times, "outbox relay failed, will retry");
                }
            }
        }
        sleep(RETRY_DELAY).await;
        false
    }
}
