//! The task that publishes what was committed: at least once, never zero times, in order within a conversation.
//!
//! While Redis takes everything, events go from memory. Once it does not, memory is ignored and the outbox is
//! published, oldest first, until it is empty. A sweep finds what another instance left behind when it died.

use std::time::Duration;

use shared::shutdown::Shutdown;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::publisher::{Broker, Committed};
use crate::store::{Store, StoreError};

/// Events in one pipeline.
const BATCH: usize = 500;
/// How often to look for what a dead instance left behind.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Events younger than this are still on some instance's fast path.
const SWEEP_AGE_SECONDS: f64 = 3.0;
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

/// Publishes until nobody can commit any more: the queue is closed and empty.
pub async fn run(store: Store, broker: Broker, mut committed: Committed, shutdown: Shutdown) {
    let (forget, forgotten) = mpsc::channel(FORGET_QUEUE);
    shutdown.spawn(forget_published(store.clone(), forgotten));
    let mut sweep_at = Instant::now();
    while !committed.is_closed() {
        if committed.overflowed() {
            catch_up(&store, &broker, &mut committed, &shutdown).await;
        }
        let events = tokio::select! {
            events = committed.next(BATCH) => events,
            () = tokio::time::sleep_until(sweep_at) => {
                sweep(&store, &broker).await;
                sweep_at = Instant::now() + SWEEP_EVERY;
                continue;
            }
        };
        if let Err(error) = broker.publish(&events).await {
            tracing::warn!(
                error = error.details(),
                events = events.len(),
                "Redis does not take events; the outbox holds them"
            );
            catch_up(&store, &broker, &mut committed, &shutdown).await;
            continue;
        }
        metrics::counter!("events_published_total", "path" => "fast").increment(events.len() as u64);
        if forget.try_send(events.iter().map(|event| event.id).collect()).is_err() {
            // They stay in the outbox and are published once more, which clients ignore.
            metrics::counter!("forget_queue_overflows_total").increment(1);
        }
    }
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
            Ok(Some(events)) if events == BATCH => {}
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
        .relay(BATCH as i64, age_seconds, async |events| Ok::<_, RelayError>(broker.publish(events).await?))
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
