//! Reads logs: of rooms that are behind, and of all now and then. Each is read for itself: one that does not answer holds up no
//! other.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, FuturesUnordered};
use metrics::counter;
use shared::channel::Channel;
use shared::event::Cursor;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::event_log::{Logs, ReplayError};
use super::subscriber::SHORTEST_PAUSE;
use crate::hub::{Backfill, Hub};

/// Logs read at a time.
pub(crate) const LOGS: usize = 256;
/// After which a log that could not be read is tried again.
const PAUSE: Duration = SHORTEST_PAUSE.saturating_mul(4);
/// How long an event may be on its way: a room that has not caught up with its log by then is behind.
const GRACE: Duration = Duration::from_secs(1);

/// Between two lines that say so: all logs of a node fail together.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// Reads the logs of rooms that are behind, each again and again until it has succeeded.
pub(super) async fn read_behind(logs: Logs, hub: Arc<Hub>) {
    let read = async |(channel, position): (Channel, Cursor)| {
        let result = logs.backfill(&channel, position).await;
        (channel, result)
    };
    let mut reading = FuturesUnordered::new();
    // Whatever waits here counts as being read, so each room is here once.
    let mut failed = FuturesUnordered::new();
    let mut logged_at: Option<Instant> = None;
    loop {
        reading.extend(hub.take_behind(LOGS - reading.len()).into_iter().map(&read));
        tokio::select! {
            Some((channel, result)) = reading.next() => {
                if let Err(error) = finish(&hub, &channel, result) {
                    if logged_at.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
                        logged_at = Some(Instant::now());
                        tracing::warn!(%error, "cannot read a log");
                    }
                    failed.push(async move {
                        sleep(PAUSE).await;
                        channel
                    });
                }
            }
            Some(channel) = failed.next() => hub.not_backfilled(&channel),
            () = hub.fell_behind() => {}
        }
    }
}

fn finish(hub: &Hub, channel: &Channel, result: Result<Backfill, ReplayError>) -> Result<(), ReplayError> {
    let outcome = match &result {
        Ok(Backfill::Lost(_)) => "resync",
        Ok(Backfill::Missed(_)) => "replayed",
        Err(_) => "failed",
    };
    counter!("gateway_backfills_total", "outcome" => outcome).increment(1);
    hub.backfilled(channel, result?);
    Ok(())
}

/// Compares where the rooms stand with where their logs end: it finds what publish/subscribe lost without a sign and
/// no later event has given away, and it keeps the logs of silent conversations alive, so that their sockets can resume.
pub(super) async fn check_positions(logs: Logs, hub: Arc<Hub>, every: Duration, map_wanted: Arc<Notify>) {
    let mut rounds = interval(every);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    rounds.tick().await;
    loop {
        rounds.tick().await;
        hub.forget_announcements();
        let differs = async |(channel, position): (Channel, Cursor)| {
            let tail = logs.tail(&channel).await;
            matches!(tail, Ok(tail) if tail != position).then_some((channel, position))
        };
        // Rooms that were cut meanwhile are left out: a whole round would wait for their node.
        let live = stream::iter(hub.positions()).filter(|(channel, _)| ready(hub.is_live(channel)));
        let looks = live.map(differs).buffer_unordered(LOGS);
        let suspects: Vec<_> = looks.filter_map(ready).collect().await;
        if suspects.is_empty() {
            continue;
        }
        // Events may have been on their way just then.
        sleep(GRACE).await;
        for (channel, position) in &suspects {
            if hub.suspect(channel, *position) {
                counter!("gateway_silent_losses_total", "noticed" => "comparison").increment(1);
                // We may listen to a node that has a successor and does not know it.
                map_wanted.notify_one();
            }
        }
    }
}
