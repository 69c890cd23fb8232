//! The task that publishes what was committed: at least once, never zero times, in order within a conversation.
//!
//! While Redis takes everything, events go from memory. Once it does not, memory is ignored and the outbox is
//! published, oldest first, until it is empty. A sweep finds what another instance left behind when it died. And what a
//! Redis took shortly before its connection broke is published once more: it may have died with it.
//!
//! A message whose predecessor another instance has in hand waits for it, a moment at most: should that instance have
//! died, its message comes late, and it is better to have this one now.
//!
//! Behind the events, inboxes are told how the conversations stand: `inboxes`.

mod inboxes;
mod settling;

use std::sync::Arc;
use std::time::Duration;

use shared::publication::Manner;
use shared::shutdown::Shutdown;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::publisher::{Broker, Committed, Due};
use crate::redis::Health;
use crate::store::{OutboxEntry, Store, StoreError};
use inboxes::Told;
use settling::Published;

/// Events in one pipeline.
const BATCH: usize = 500;
/// How often to look for what a dead instance left behind.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Events younger than this are still on some instance's fast path.
const SWEEP_AGE_SECONDS: f64 = 3.0;
/// How long a message waits for the one before it.
const PREDECESSOR_PATIENCE: Duration = Duration::from_secs(1);
/// Between two attempts at it; doubled each time. Two instances that take turns in one conversation wait this long for each
/// turn, so it bounds how many messages a second they get through there.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(8);
/// Entries that may wait so. Past it none does.
const MOST_WAITING: usize = 1_000;
/// Pause after a failure.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// Published and still not forgotten after so long: whoever published it has died. And how often to look for that.
const ABANDONED_AFTER_SECONDS: f64 = 15.0;
const LOOK_FOR_ABANDONED_EVERY: Duration = Duration::from_secs(10);

/// Why the relay got no further.
#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("Redis did not take the events: {0}")]
    Redis(#[from] fred::error::Error),
}

/// Publishes until nobody can commit any more: the queue is closed and empty.
pub async fn run(
    store: Store,
    broker: Broker,
    committed: Committed,
    health: watch::Receiver<Health>,
    shutdown: Shutdown,
) {
    let (settle, published) = mpsc::channel(settling::QUEUE);
    shutdown.spawn(settling::run(store.clone(), published, health.clone()));
    let connection = health.borrow().connection;
    let outbox = Arc::new(Outbox { store, broker, settle, health });
    let (tell, told) = mpsc::channel(inboxes::QUEUE);
    shutdown.spawn(inboxes::run(outbox.clone(), told));
    let (swept, ended) = (outbox.clone(), shutdown.clone());
    shutdown.spawn(async move {
        tokio::select! {
            () = swept.sweep() => {}
            () = ended.begun() => {}
        }
    });
    FastPath { outbox, tell, committed, waiting: Vec::new(), connection, shutdown }.run().await;
}

/// The outbox, and the way from there to Redis.
struct Outbox {
    store: Store,
    broker: Broker,
    settle: mpsc::Sender<Published>,
    health: watch::Receiver<Health>,
}

impl Outbox {
    /// Looks for what nobody else publishes, for ever.
    async fn sweep(&self) {
        let mut look_for_abandoned_at = Instant::now();
        loop {
            if Instant::now() >= look_for_abandoned_at {
                look_for_abandoned_at = Instant::now() + LOOK_FOR_ABANDONED_EVERY;
                if let Err(error) = self.store.unsettle(ABANDONED_AFTER_SECONDS).await {
                    tracing::debug!(%error, "what a dead instance has published stays in the outbox");
                }
            }
            loop {
                match self.relay(SWEEP_AGE_SECONDS).await {
                    Ok(Some(Round { is_full: true })) => {}
                    Ok(_) => break,
                    Err(error) => {
                        tracing::debug!(%error, "sweeping the outbox failed");
                        break;
                    }
                }
            }
            if let Ok((events, age)) = self.store.outbox_depth().await {
                metrics::gauge!("outbox_events").set(events as f64);
                metrics::gauge!("outbox_age_seconds").set(age);
            }
            sleep(SWEEP_EVERY).await;
        }
    }

    /// Publishes the oldest entries. `None` when another instance is at it.
    async fn relay(&self, age_seconds: f64) -> Result<Option<Round>, RelayError> {
        let connection = self.health.borrow().connection;
        let relayed = self
            .store
            .relay(BATCH as i64, age_seconds, async |entries| {
                // What comes before is published, or stands before it here.
                let events = entries.iter().flat_map(|entry| &entry.events);
                let events: Vec<Due<'_>> = events.map(|event| (event, Manner::Again)).collect();
                self.broker.publish(&events).await?;
                self.tell(entries.iter().flat_map(|entry| entry.changed.clone()).collect()).await
            })
            .await?;
        let Some((entries, is_full)) = relayed else { return Ok(None) };
        let events: usize = entries.iter().map(|entry| entry.events.len()).sum();
        metrics::counter!("events_published_total", "path" => "outbox").increment(events as u64);
        let ids = entries.iter().map(|entry| entry.id).collect();
        self.settle(Published { ids, connection, at: Instant::now(), noted: true });
        Ok(Some(Round { is_full }))
    }

    fn settle(&self, published: Published) {
        if !published.ids.is_empty() && self.settle.try_send(published).is_err() {
            // They stay in the outbox and are published once more, which clients ignore.
            metrics::counter!("settle_queue_overflows_total").increment(1);
        }
    }
}

/// What a round of relaying has found.
struct Round {
    /// As many as it takes at once: there may be more.
    is_full: bool,
}

/// An entry that waits to be published, as a whole or in part.
struct Waiting {
    entry: OutboxEntry,
    since: Instant,
    retry_at: Instant,
    pause: Duration,
}

impl Waiting {
    fn new(entry: OutboxEntry) -> Self {
        let now = Instant::now();
        Self { entry, since: now, retry_at: now, pause: SHORTEST_PAUSE }
    }
}

/// From the commit to Redis without a detour.
struct FastPath {
    outbox: Arc<Outbox>,
    tell: mpsc::Sender<Told>,
    committed: Committed,
    waiting: Vec<Waiting>,
    /// The newest connection to Redis of which everything that it may lack was published again.
    connection: u64,
    shutdown: Shutdown,
}

impl FastPath {
    async fn run(mut self) {
        while !(self.committed.is_closed() && self.waiting.is_empty()) {
            if self.committed.overflowed() || self.outbox.health.borrow().connection != self.connection {
                self.catch_up().await;
            }
            let is_open = !self.committed.is_closed();
            let retry_at = self.waiting.iter().map(|waiting| waiting.retry_at).min();
            let fresh = tokio::select! {
                entries = self.committed.next(BATCH), if is_open => entries,
                () = sleep_until(retry_at.unwrap_or_else(Instant::now)), if retry_at.is_some() => Vec::new(),
                // Another connection, perhaps.
                () = sleep(RETRY_AFTER) => Vec::new(),
            };
            self.waiting.extend(fresh.into_iter().map(Waiting::new));
            if let Err(error) = self.publish().await {
                let events: usize = self.waiting.iter().map(|waiting| waiting.entry.events.len()).sum();
                tracing::warn!(error = error.details(), events, "Redis does not take events; the outbox holds them");
                self.catch_up().await;
            }
        }
    }

    /// Publishes what waits and is due, all but what comes too early.
    async fn publish(&mut self) -> Result<(), fred::error::Error> {
        let now = Instant::now();
        let hurry = self.waiting.len() > MOST_WAITING;
        let is_due = |retry_at: Instant| hurry || retry_at <= now;
        let events: Vec<Due<'_>> = self
            .waiting
            .iter()
            .filter(|waiting| is_due(waiting.retry_at))
            .flat_map(|Waiting { entry, since, .. }| {
                let is_late = hurry || now.duration_since(*since) >= PREDECESSOR_PATIENCE;
                let manner = if is_late { Manner::Anyway } else { Manner::Behind };
                entry.events.iter().map(move |event| (event, manner))
            })
            .collect();
        if events.is_empty() {
            return Ok(());
        }
        let out = self.outbox.broker.publish(&events).await?;
        let count = out.iter().filter(|is_out| **is_out).count();
        metrics::counter!("events_published_total", "path" => "fast").increment(count as u64);
        metrics::counter!("events_too_early_total").increment((out.len() - count) as u64);
        let mut out = out.into_iter();
        let (mut ids, mut changed) = (Vec::new(), Vec::new());
        self.waiting.retain_mut(|waiting| {
            if !is_due(waiting.retry_at) {
                return true;
            }
            let before = waiting.entry.events.len();
            waiting.entry.events.retain(|_| !out.next().unwrap_or(false));
            let is_stuck = waiting.entry.events.len() == before;
            waiting.pause = if is_stuck { (waiting.pause * 2).min(LONGEST_PAUSE) } else { SHORTEST_PAUSE };
            waiting.retry_at = now + waiting.pause;
            if waiting.entry.events.is_empty() {
                ids.push(waiting.entry.id);
                changed.append(&mut waiting.entry.changed);
            }
            !waiting.entry.events.is_empty()
        });
        let published = Published { ids, connection: self.connection, at: Instant::now(), noted: false };
        if !published.ids.is_empty() && self.tell.try_send(Told { changed, published }).is_err() {
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
        while !self.catch_up_round().await {
            if self.shutdown.has_begun() {
                tracing::info!("the rest of the outbox is left to another instance, or to the next start of this one");
                break;
            }
        }
        metrics::gauge!("outbox_behind").set(0);
        tracing::info!(after_ms = since.elapsed().as_millis() as u64, "the fast path goes on");
    }

    /// Returns whether that was all.
    async fn catch_up_round(&mut self) -> bool {
        // What waits in memory is committed, and so among what is relayed next.
        self.waiting.clear();
        self.committed.skip();
        let health = *self.outbox.health.borrow();
        if health.connection != self.connection {
            match self.outbox.store.unsettle(health.since.elapsed().as_secs_f64()).await {
                Ok(()) => self.connection = health.connection,
                Err(error) => tracing::warn!(%error, "what Redis may have lost is not published again yet"),
            }
        }
        match self.outbox.relay(0.0).await {
            Ok(Some(Round { is_full: true })) => return false,
            Ok(Some(Round { is_full: false })) if health.connection == self.connection => return true,
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the outbox is not published yet"),
        }
        sleep(RETRY_AFTER).await;
        false
    }
}
