//! Redis subscriptions: what is published goes to the hub, what may have been lost is read from the logs.
//!
//! Delivery: as long as a conversation's log holds the event its sockets saw last, they get every event after it, once
//! and in order, whatever happens to connections or to this task. If it does not, they are told (`resync`).
//!
//! A session is one connection, in a cluster one to each master. When one breaks, by word or by silence, every socket hears
//! `degraded`, and the next session subscribes anew: subscribe, wait for Redis to confirm, only then read the logs.

mod subscriptions;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use metrics::{counter, gauge};
use shared::channel::{Channel, presence};
use shared::event::{self, Cursor, Event, Header};
use shared::shutdown::Shutdown;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::hub::{Backfill, Hub};
use crate::presence::Everybody;
use crate::redis::{Ear, HEARTBEAT, Heard, Link, LinkError, Redis, Subscriber};
use crate::replay::Logs;
use crate::unsealing::{Unsealing, Unusable};
use subscriptions::Subscriptions;

/// Channels in one SUBSCRIBE.
const CHUNK: usize = 1000;
/// Logs read at a time.
pub(crate) const LOGS: usize = 256;
/// Between two attempts to connect; doubled each time, up to [`LONGEST_PAUSE`].
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(1600);
/// How long an event may be on its way: a room that has not caught up with its log by then is behind.
const GRACE: Duration = Duration::from_secs(1);

/// Starts to relay into `hub`, until `shutdown`.
pub(crate) fn start(
    redis: Redis,
    logs: Logs,
    unsealing: Arc<Unsealing>,
    hub: &Arc<Hub>,
    everybody: Everybody,
    position_check: Duration,
    shutdown: &Shutdown,
) {
    shutdown.spawn_until("subscriber", sessions(redis, unsealing, hub.clone(), everybody));
    shutdown.spawn_until("backfill", backfill(logs.clone(), hub.clone()));
    shutdown.spawn_until("position check", check_positions(logs, hub.clone(), position_check));
}

async fn sessions(redis: Redis, unsealing: Arc<Unsealing>, hub: Arc<Hub>, everybody: Everybody) {
    let mut pause = SHORTEST_PAUSE;
    loop {
        match timeout(redis.timeout(), redis.subscriber()).await {
            Ok(Ok(subscriber)) => {
                tracing::info!("live relay is up");
                gauge!("gateway_redis_up").set(1.0);
                pause = SHORTEST_PAUSE;
                hub.connected();
                everybody.reconnected();
                let why = session(subscriber, &unsealing, &hub, &everybody).await;
                gauge!("gateway_redis_up").set(0.0);
                counter!("gateway_redis_losses_total").increment(1);
                hub.disconnected();
                tracing::warn!(%why, "live relay is cut");
            }
            Ok(Err(error)) => tracing::warn!(%error, "redis is out of reach"),
            Err(_) => tracing::warn!("redis does not answer"),
        }
        // Spread, so that all gateways do not knock at the same instant: the clock's last digits differ enough.
        let jitter = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.subsec_micros() % 50);
        sleep(pause + Duration::from_millis(jitter.into())).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Why a session has ended.
#[derive(Debug, thiserror::Error)]
enum Loss {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("redis: {0}")]
    Refused(String),
    #[error("redis has not confirmed what was asked")]
    Unconfirmed,
    #[error("a slot has moved to a node that is new to us")]
    Moved,
    #[error("a slot is served by nobody")]
    Unserved,
}

async fn session(subscriber: Subscriber, unsealing: &Unsealing, hub: &Hub, everybody: &Everybody) -> Loss {
    let (links, ears): (Vec<_>, Vec<_>) = subscriber.nodes.into_iter().unzip();
    let mut hearts: FuturesUnordered<_> = links.iter().cloned().map(keep_alive).collect();
    let subscriptions = Subscriptions::new(links, subscriber.slots);
    let listen = |ear| listen(ear, unsealing, hub, everybody);
    let mut listening: FuturesUnordered<_> = ears.into_iter().map(listen).collect();
    tokio::select! {
        loss = keep(subscriptions, hub, everybody) => loss,
        // Of any: what the others still have is soon subscribed again, and nobody has to remember whose was whose.
        Some(loss) = listening.next() => loss,
        Some(loss) = hearts.next() => loss,
    }
}

/// Asks a server again and again whether it is there, until it does not answer.
async fn keep_alive(link: Link) -> Loss {
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        heartbeat.tick().await;
        if let Err(error) = link.ask(Vec::new()).await {
            return error.into();
        }
    }
}

/// Passes on what a server says, until it says no more.
async fn listen(mut ear: Ear, unsealing: &Unsealing, hub: &Hub, everybody: &Everybody) -> Loss {
    loop {
        let heard = match ear.listen().await {
            Ok(()) => ear.hear(|heard| match heard {
                Heard::Event { channel, payload } => match presence::location(channel) {
                    Some(location) => everybody.hear(location, payload),
                    None => pass_on(hub, unsealing, everybody, channel, payload),
                },
                Heard::Unsubscribed(channel) => hub.unsubscribed(channel),
            }),
            Err(error) => Err(error),
        };
        if let Err(error) = heard {
            return error.into();
        }
        let_sockets_write().await;
    }
}

/// Goes to the end of the queue of tasks, behind the sockets that were just woken. So what they can write, and not what Redis
/// can say, is the measure: no queue fills up because the gateway itself is behind.
async fn let_sockets_write() {
    let mut waited = false;
    poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        // Not tokio's own: that one waits until the runtime has looked for what came over the network.
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Subscribes and unsubscribes as the hub wants. One change is under way at a time; what is wanted meanwhile goes together
/// into the next.
async fn keep(mut subscriptions: Subscriptions, hub: &Hub, everybody: &Everybody) -> Loss {
    loop {
        let interest = hub.take_interest(CHUNK);
        if interest.is_empty() {
            hub.interest_changed().await;
            continue;
        }
        match subscriptions.change(interest).await {
            Ok(channels) => {
                hub.subscribed(&channels);
                everybody.hears(&channels);
            }
            Err(loss) => return loss,
        }
    }
}

fn pass_on(hub: &Hub, unsealing: &Unsealing, everybody: &Everybody, channel: &str, payload: &[u8]) {
    tracing::debug!(channel, request_id = event::request_id(payload), "an event");
    match unsealing.live(channel, payload) {
        Ok(Event { header: Header::Refused { by, is_over }, .. }) => hub.announced(channel, by, is_over),
        Ok(event) => {
            if hub.dispatch(channel, event) {
                everybody.ask_about(channel);
            }
        }
        // The log may open; if it does not either, there is a `resync`.
        Err(Unusable::Sealed) => hub.lost(channel),
        Err(Unusable::Invalid(_)) => unsealing.malformed(channel),
    }
}

/// Reads the logs of rooms that are behind, again and again until it has succeeded.
async fn backfill(logs: Logs, hub: Arc<Hub>) {
    loop {
        let behind = hub.take_behind(LOGS);
        if behind.is_empty() {
            hub.fell_behind().await;
            continue;
        }
        let read = join_all(behind.iter().map(|(channel, position)| logs.backfill(channel, *position))).await;
        let mut failed = false;
        for ((channel, _), result) in behind.iter().zip(read) {
            match result {
                Ok(backfill) => {
                    let outcome = if matches!(backfill, Backfill::Lost(_)) { "resync" } else { "replayed" };
                    counter!("gateway_backfills_total", "outcome" => outcome).increment(1);
                    hub.backfilled(channel, backfill);
                }
                Err(error) => {
                    if !failed {
                        tracing::warn!(%error, "cannot read a log");
                    }
                    failed = true;
                    hub.not_backfilled(channel);
                }
            }
        }
        if failed {
            counter!("gateway_backfills_total", "outcome" => "failed").increment(1);
            sleep(SHORTEST_PAUSE * 4).await;
        }
    }
}

/// Compares where the rooms stand with where their logs end: it finds what publish/subscribe lost without a sign and
/// no later event has given away, and it keeps the logs of silent conversations alive, so that their sockets can resume.
async fn check_positions(logs: Logs, hub: Arc<Hub>, every: Duration) {
    let mut rounds = interval(every);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    rounds.tick().await;
    loop {
        rounds.tick().await;
        hub.forget_announcements();
        let mut suspects: Vec<(Channel, Cursor)> = Vec::new();
        for chunk in hub.positions().chunks(LOGS) {
            let tails = join_all(chunk.iter().map(|(channel, _)| logs.tail(channel))).await;
            let differ = |(seen, tail): &(&(Channel, Cursor), _)| matches!(tail, Ok(tail) if *tail != seen.1);
            suspects.extend(chunk.iter().zip(tails).filter(differ).map(|(seen, _)| seen.clone()));
        }
        if suspects.is_empty() {
            continue;
        }
        // Events may have been on their way just then.
        sleep(GRACE).await;
        for (channel, position) in &suspects {
            if hub.suspect(channel, *position) {
                counter!("gateway_silent_losses_total", "noticed" => "comparison").increment(1);
            }
        }
    }
}
