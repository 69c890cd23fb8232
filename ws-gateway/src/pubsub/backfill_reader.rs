//! Reads event logs: of rooms with a gap, and of all rooms at intervals to find unnoticed gaps.
//!
//! Reads are independent, so a node that does not respond delays only its own rooms.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, FuturesUnordered};
use metrics::counter;
use shared::contract::event::Cursor;
use shared::contract::redis::keys::Channel;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::event_log_reader::{EventLog, EventLogError};
use super::subscriber::MIN_BACKOFF;
use crate::hub::{Backfill, Hub};

/// Concurrent reads.
pub(crate) const BACKFILL_CONCURRENCY: usize = 256;
/// Delay after a failed read.
const RETRY_DELAY: Duration = MIN_BACKOFF.saturating_mul(4);
/// How long an event may be under way. A room that is still behind its log after this has a gap.
const PROPAGATION_GRACE: Duration = Duration::from_secs(1);

/// Between two log lines. All logs of a node fail at the same time.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Reads the logs of rooms with a gap, and retries failed reads.
pub(super) async fn run_backfills(event_log: EventLog, hub: Arc<Hub>) {
    let read = async |(channel, position): (Channel, Cursor)| {
        let result = event_log.backfill(&channel, position).await;
        (channel, result)
    };
    let mut reading = FuturesUnordered::new();
    // The hub counts these rooms as being read, so each is here once.
    let mut failed = FuturesUnordered::new();
    let mut logged_at: Option<Instant> = None;
    loop {
        reading.extend(hub.take_backfills(BACKFILL_CONCURRENCY - reading.len()).into_iter().map(&read));
        tokio::select! {
            Some((channel, result)) = reading.next() => {
                if let Err(error) = finish(&hub, &channel, result) {
                    if logged_at.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
                        logged_at = Some(Instant::now());
                        tracing::warn!(%error, "backfill failed, will retry");
                    }
                    failed.push(async move {
                        sleep(RETRY_DELAY).await;
                        channel
                    });
                }
            }
            Some(channel) = failed.next() => hub.backfill_failed(&channel),
            () = hub.backfill_requested() => {}
        }
    }
}

fn finish(hub: &Hub, channel: &Channel, result: Result<Backfill, EventLogError>) -> Result<(), EventLogError> {
    let outcome = match &result {
        Ok(Backfill::Gap(_)) => "resync",
        Ok(Backfill::Events(_)) => "replayed",
        Err(_) => "failed",
    };
    counter!("ehr_chat_gateway_backfills_total", "outcome" => outcome).increment(1);
    hub.apply_backfill(channel, result?);
    Ok(())
}

/// Compares the position of each room with the end of its log. This finds events that pub/sub lost when no later
/// event reveals it. It also renews the logs of silent conversations, so that their sockets can resume.
pub(super) async fn reconcile_positions(event_log: EventLog, hub: Arc<Hub>, every: Duration, map_refresh: Arc<Notify>) {
    let mut rounds = interval(every);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    rounds.tick().await;
    loop {
        rounds.tick().await;
        hub.expire_publish_outages();
        let differs = async |(channel, position): (Channel, Cursor)| {
            let tail = event_log.read_tail(&channel).await;
            matches!(tail, Ok(tail) if tail != position).then_some((channel, position))
        };
        // Skips rooms that have disconnected since: the whole round would wait for their node.
        let live = stream::iter(hub.positions()).filter(|(channel, _)| ready(hub.is_active(channel)));
        let looks = live.map(differs).buffer_unordered(BACKFILL_CONCURRENCY);
        let suspects: Vec<_> = looks.filter_map(ready).collect().await;
        if suspects.is_empty() {
            continue;
        }
        // Events may still be under way.
        sleep(PROPAGATION_GRACE).await;
        for (channel, position) in &suspects {
            if hub.resubscribe_if_at(channel, *position) {
                counter!("ehr_chat_gateway_pubsub_gaps_total", "detected_by" => "reconciliation").increment(1);
                // The connected node may have been replaced without noticing.
                map_refresh.notify_one();
            }
        }
    }
}
