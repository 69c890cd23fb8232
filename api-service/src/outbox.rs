//! The task that publishes what was committed: at least once, never zero times, in order within a conversation.
//!
//! While Redis takes everything, events go from memory. Once it does not, memory is ignored and the outbox is
//! published, oldest first, until it is empty. A sweep finds what another instance left behind when it died. And what a
//! Redis took shortly before its connection broke is published once more: it may have died with it.
//!
//! A message whose predecessor another instance has in hand waits for it, a moment at most: should that instance have
//! died, its message comes late, and it is better to have this one now.

mod settling;

use std::time::Duration;

use shared::shutdown::Shutdown;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::publisher::{Broker, Committed, Due};
use crate::redis::Health;
use crate::store::{OutboxEntry, Store, StoreError};
use settling::Published;

/// Events in one pipeline.
const BATCH: usize = 500;
/// How often to look for what a dead instance left behind.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Events younger than this are still on some instance's fast path.
const SWEEP_AGE_SECONDS: f64 = 3.0;
/// How long a message waits for the one before it, and between two attempts.
const PREDECESSOR_PATIENCE: Duration = Duration::from_millis(250);
const PREDECESSOR_PAUSE: Duration = Duration::from_millis(2);
/// Pause after a failure.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// Published and still not forgotten after so long: whoever published it has died.
const ABANDONED_AFTER_SECONDS: f64 = 15.0;

/// Why the relay got no further.
#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("Redis did not take the events: {0}")]
    Redis(#[from] fred::error::Error),
}

/// An entry of which some events came too early.
struct Early {
    entry: OutboxEntry,
    since: Instant,
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
    Relay { store, broker, committed, waiting: Vec::new(), settle, health, shutdown }.run().await;
}

struct Relay {
    store: Store,
    broker: Broker,
    committed: Committed,
    waiting: Vec<Early>,
    settle: mpsc::Sender<Published>,
    health: watch::Receiver<Health>,
    shutdown: Shutdown,
}

impl Relay {
    async fn run(mut self) {
        let mut sweep_at = Instant::now();
        let mut connection = self.health.borrow().connection;
        while !(self.committed.is_closed() && self.waiting.is_empty()) {
            let now_connected = self.health.borrow().connection;
            if self.committed.overflowed() || now_connected != connection {
                connection = now_connected;
                self.catch_up().await;
            }
            let is_open = !self.committed.is_closed();
            let fresh = tokio::select! {
                entries = self.committed.next(BATCH), if is_open => entries,
                () = sleep(PREDECESSOR_PAUSE), if !self.waiting.is_empty() => Vec::new(),
                () = sleep_until(sweep_at) => {
                    self.sweep().await;
                    sweep_at = Instant::now() + SWEEP_EVERY;
                    continue;
                }
            };
            let now = Instant::now();
            self.waiting.extend(fresh.into_iter().map(|entry| Early { entry, since: now }));
            if let Err(error) = self.publish(connection).await {
                let events: usize = self.waiting.iter().map(|early| early.entry.events.len()).sum();
                tracing::warn!(error = error.details(), events, "Redis does not take events; the outbox holds them");
                self.catch_up().await;
            }
        }
    }

    /// Publishes what waits, all but what comes too early.
    async fn publish(&mut self, connection: u64) -> Result<(), fred::error::Error> {
        let events: Vec<Due<'_>> = self
            .waiting
            .iter()
            .flat_map(|Early { entry, since }| {
                let anyway = since.elapsed() >= PREDECESSOR_PATIENCE;
                entry.events.iter().map(move |event| (event, anyway))
            })
            .collect();
        let out = self.broker.publish(&events).await?;
        let count = out.iter().filter(|is_out| **is_out).count();
        metrics::counter!("events_published_total", "path" => "fast").increment(count as u64);
        metrics::counter!("events_too_early_total").increment((out.len() - count) as u64);
        let mut out = out.into_iter();
        let mut ids = Vec::new();
        self.waiting.retain_mut(|Early { entry, .. }| {
            entry.events.retain(|_| !out.next().unwrap_or(false));
            if entry.events.is_empty() {
                ids.push(entry.id);
            }
            !entry.events.is_empty()
        });
        self.settle(Published { ids, connection, at: Instant::now(), noted: false });
        Ok(())
    }

    fn settle(&self, published: Published) {
        if !published.ids.is_empty() && self.settle.try_send(published).is_err() {
            // They stay in the outbox and are published once more, which clients ignore.
            metrics::counter!("settle_queue_overflows_total").increment(1);
        }
    }

    /// Publishes the outbox until it is empty, with what Redis took last, then lets the fast path go on.
    async fn catch_up(&mut self) {
        metrics::gauge!("outbox_behind").set(1);
        let since = Instant::now();
        let mut unsettled = false;
        loop {
            // What waits in memory now is in the outbox, too, and so among what is relayed next.
            self.waiting.clear();
            self.committed.skip();
            if !unsettled {
                unsettled = self.store.unsettle(0.0).await.is_ok();
            }
            match self.relay(0.0).await {
                Ok(Some(0)) if unsettled => break,
                Ok(Some(1..)) => continue,
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the outbox is not published yet"),
            }
            if self.shutdown.has_begun() {
                // Another instance, or this one when it is back, publishes the rest.
                break;
            }
            sleep(RETRY_AFTER).await;
        }
        metrics::gauge!("outbox_behind").set(0);
        tracing::info!(after_ms = since.elapsed().as_millis() as u64, "the outbox is published");
    }

    async fn sweep(&self) {
        if let Err(error) = self.store.unsettle(ABANDONED_AFTER_SECONDS).await {
            tracing::debug!(%error, "what a dead instance has published stays in the outbox");
        }
        loop {
            match self.relay(SWEEP_AGE_SECONDS).await {
                Ok(Some(events)) if events >= BATCH => {}
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
    }

    /// Publishes the oldest entries of the outbox. Returns the number of their events, none when another instance is at it.
    async fn relay(&self, age_seconds: f64) -> Result<Option<usize>, RelayError> {
        let connection = self.health.borrow().connection;
        let relayed = self
            .store
            .relay(BATCH as i64, age_seconds, async |entries| {
                // What comes before is published, or stands before it here.
                let events: Vec<Due<'_>> =
                    entries.iter().flat_map(|entry| &entry.events).map(|event| (event, true)).collect();
                self.broker.publish(&events).await?;
                Ok::<_, RelayError>(())
            })
            .await?;
        let Some(entries) = relayed else { return Ok(None) };
        let events = entries.iter().map(|entry| entry.events.len()).sum();
        metrics::counter!("events_published_total", "path" => "outbox").increment(events as u64);
        let ids = entries.iter().map(|entry| entry.id).collect();
        self.settle(Published { ids, connection, at: Instant::now(), noted: true });
        Ok(Some(events))
    }
}
