//! The task that publishes what was committed: at least once, never zero times, in order within a conversation.
//!
//! While Redis takes everything, events go from memory. Once it does not, memory is ignored and the outbox is
//! published, oldest first, until it is empty. A sweep finds what another instance left behind when it died.
//!
//! A message whose predecessor another instance has in hand waits for it, a moment at most: should that instance have
//! died, its message comes late, and it is better to have this one now.

use std::time::Duration;

use shared::shutdown::Shutdown;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use crate::publisher::{Broker, Committed, Due};
use crate::store::{OutboxEntry, Store, StoreError};

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
/// Batches of published events that may wait to be forgotten.
const FORGET_QUEUE: usize = 256;

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
pub async fn run(store: Store, broker: Broker, mut committed: Committed, shutdown: Shutdown) {
    let (forget, forgotten) = mpsc::channel(FORGET_QUEUE);
    shutdown.spawn(forget_published(store.clone(), forgotten));
    let mut sweep_at = Instant::now();
    let mut waiting: Vec<Early> = Vec::new();
    while !(committed.is_closed() && waiting.is_empty()) {
        if committed.overflowed() {
            waiting.clear();
            catch_up(&store, &broker, &mut committed, &shutdown).await;
        }
        let is_open = !committed.is_closed();
        let fresh = tokio::select! {
            entries = committed.next(BATCH), if is_open => entries,
            () = sleep(PREDECESSOR_PAUSE), if !waiting.is_empty() => Vec::new(),
            () = sleep_until(sweep_at) => {
                sweep(&store, &broker).await;
                sweep_at = Instant::now() + SWEEP_EVERY;
                continue;
            }
        };
        let now = Instant::now();
        waiting.extend(fresh.into_iter().map(|entry| Early { entry, since: now }));
        match publish(&broker, &mut waiting).await {
            Ok(published) => {
                // What is not taken stays in the outbox and is published once more, which clients ignore.
                if !published.is_empty() && forget.try_send(published).is_err() {
                    metrics::counter!("forget_queue_overflows_total").increment(1);
                }
            }
            Err(error) => {
                let events: usize = waiting.iter().map(|early| early.entry.events.len()).sum();
                tracing::warn!(error = error.details(), events, "Redis does not take events; the outbox holds them");
                waiting.clear();
                catch_up(&store, &broker, &mut committed, &shutdown).await;
            }
        }
    }
}

/// Publishes what waits, all but what comes too early. Returns the rows of entries that are published as a whole.
async fn publish(broker: &Broker, waiting: &mut Vec<Early>) -> Result<Vec<i64>, fred::error::Error> {
    let events: Vec<Due<'_>> = waiting
        .iter()
        .flat_map(|Early { entry, since }| {
            let anyway = since.elapsed() >= PREDECESSOR_PATIENCE;
            entry.events.iter().map(move |event| (event, anyway))
        })
        .collect();
    let out = broker.publish(&events).await?;
    let count = out.iter().filter(|is_out| **is_out).count();
    metrics::counter!("events_published_total", "path" => "fast").increment(count as u64);
    metrics::counter!("events_too_early_total").increment((out.len() - count) as u64);
    let mut out = out.into_iter();
    let mut published = Vec::new();
    waiting.retain_mut(|Early { entry, .. }| {
        entry.events.retain(|_| !out.next().unwrap_or(false));
        if entry.events.is_empty() {
            published.push(entry.id);
        }
        !entry.events.is_empty()
    });
    Ok(published)
}

/// Publishes the outbox until it is empty, then lets the fast path go on.
async fn catch_up(store: &Store, broker: &Broker, committed: &mut Committed, shutdown: &Shutdown) {
    metrics::gauge!("outbox_behind").set(1);
    let since = Instant::now();
    loop {
        // What waits in memory now is in the outbox, too, and so among what is relayed next.
        committed.skip();
        match relay(store, broker, 0.0).await {
            Ok(Some(0)) => break,
            Ok(Some(_)) => continue,
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the outbox is not published yet"),
        }
        if shutdown.has_begun() {
            // Another instance, or this one when it is back, publishes the rest.
            break;
        }
        sleep(RETRY_AFTER).await;
    }
    metrics::gauge!("outbox_behind").set(0);
    tracing::info!(after_ms = since.elapsed().as_millis() as u64, "the outbox is published");
}

async fn sweep(store: &Store, broker: &Broker) {
    loop {
        match relay(store, broker, SWEEP_AGE_SECONDS).await {
            Ok(Some(events)) if events >= BATCH => {}
            Ok(_) => break,
            Err(error) => {
                tracing::debug!(%error, "sweeping the outbox failed");
                break;
            }
        }
    }
    if let Ok((events, age)) = store.outbox_depth().await {
        metrics::gauge!("outbox_events").set(events as f64);
        metrics::gauge!("outbox_age_seconds").set(age);
    }
}

async fn relay(store: &Store, broker: &Broker, age_seconds: f64) -> Result<Option<usize>, RelayError> {
    let relayed = store
        .relay(BATCH as i64, age_seconds, async |entries| {
            // What comes before is published, or stands before it here.
            let events: Vec<Due<'_>> =
                entries.iter().flat_map(|entry| &entry.events).map(|event| (event, true)).collect();
            broker.publish(&events).await?;
            Ok::<_, RelayError>(())
        })
        .await?;
    metrics::counter!("events_published_total", "path" => "outbox").increment(relayed.unwrap_or(0) as u64);
    Ok(relayed)
}

/// Removes published events from the outbox, everything that waits at once.
async fn forget_published(store: Store, mut published: mpsc::Receiver<Vec<i64>>) {
    let mut batches: Vec<Vec<i64>> = Vec::new();
    while published.recv_many(&mut batches, FORGET_QUEUE).await > 0 {
        if let Err(error) = store.forget(&batches.concat()).await {
            tracing::debug!(%error, "published events stay in the outbox and will be published again");
        }
        batches.clear();
    }
}
