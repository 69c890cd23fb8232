//! Redis subscriptions: what is published goes to the hub, what may have been lost is read from the logs.
//!
//! Delivery: as long as a conversation's log holds the event its sockets saw last, they get every event after it, once
//! and in order, whatever happens to connections or to this task. If it does not, they are told (`resync`).
//!
//! Each connection is a session of its own. When it breaks, by word or by silence, every socket hears `degraded`, and the
//! next session subscribes anew: subscribe, wait for Redis to confirm, only then read the logs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientLike, PubsubInterface};
use fred::types::Message;
use futures_util::future::{OptionFuture, join_all};
use metrics::{counter, gauge};
use shared::channel::Channel;
use shared::event::{Cursor, Event};
use shared::shutdown::Shutdown;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::hub::{Backfill, Hub, Interest};
use crate::redis::{HEARTBEAT, Redis, Subscriber};
use crate::replay::Logs;

/// Channels in one SUBSCRIBE.
const CHUNK: usize = 1000;
/// Logs read at a time.
const LOGS: usize = 256;
/// Between two attempts to connect; doubled each time, up to [`LONGEST_PAUSE`].
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(1600);
/// How long an event may be on its way: a room that has not caught up with its log by then is behind.
const GRACE: Duration = Duration::from_secs(1);

/// Starts to relay into `hub`, until `shutdown`.
pub fn start(redis: Redis, logs: Logs, hub: &Arc<Hub>, position_check: Duration, shutdown: &Shutdown) {
    until(shutdown, sessions(redis, hub.clone()));
    until(shutdown, backfill(logs.clone(), hub.clone()));
    until(shutdown, check_positions(logs, hub.clone(), position_check));
}

fn until(shutdown: &Shutdown, task: impl Future<Output = ()> + Send + 'static) {
    let ended = shutdown.clone();
    shutdown.spawn(async move {
        tokio::select! {
            () = task => {}
            () = ended.begun() => {}
        }
    });
}

async fn sessions(redis: Redis, hub: Arc<Hub>) {
    let mut pause = SHORTEST_PAUSE;
    loop {
        match timeout(redis.timeout(), redis.subscriber()).await {
            Ok(Ok(subscriber)) => {
                tracing::info!("live relay is up");
                gauge!("gateway_redis_up").set(1.0);
                pause = SHORTEST_PAUSE;
                hub.connected();
                let why = session(subscriber, &hub, redis.timeout()).await;
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
    #[error("redis: {0}")]
    Redis(#[from] Error),
    #[error("redis closed the connection")]
    Closed,
    #[error("redis does not answer")]
    Silent,
}

type Subscribing = Pin<Box<dyn Future<Output = Result<Vec<Channel>, Loss>> + Send>>;
type Asking = Pin<Box<dyn Future<Output = Result<(), Loss>> + Send>>;

async fn session(mut subscriber: Subscriber, hub: &Hub, patience: Duration) -> Loss {
    // One change of subscriptions is under way at a time; what is wanted meanwhile goes together into the next.
    let mut subscribing: OptionFuture<Subscribing> = None.into();
    let mut idle = true;
    let mut asking: OptionFuture<Asking> = None.into();
    let mut answered = true;
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = subscriber.messages.recv() => match message {
                Ok(message) => {
                    pass_on(hub, message);
                    // What is there already goes on without asking the others each time.
                    while let Ok(message) = subscriber.messages.try_recv() {
                        pass_on(hub, message);
                    }
                }
                Err(RecvError::Lagged(missed)) => {
                    counter!("gateway_relay_lagged_total").increment(missed);
                    tracing::warn!(missed, "relay lags: reading all logs again");
                    hub.lagged();
                }
                Err(RecvError::Closed) => return Loss::Closed,
            },
            Some(subscribed) = &mut subscribing => {
                idle = true;
                subscribing = None.into();
                match subscribed {
                    Ok(channels) => hub.subscribed(&channels),
                    Err(loss) => return loss,
                }
                // What came meanwhile was not waited for.
                if let Some(next) = change(&subscriber.client, hub.take_interest(CHUNK), patience) {
                    idle = false;
                    subscribing = Some(next).into();
                }
            }
            () = hub.interest_changed(), if idle => {
                if let Some(next) = change(&subscriber.client, hub.take_interest(CHUNK), patience) {
                    idle = false;
                    subscribing = Some(next).into();
                }
            }
            Some(alive) = &mut asking => {
                answered = true;
                asking = None.into();
                if let Err(loss) = alive {
                    return loss;
                }
            }
            _ = heartbeat.tick(), if answered => {
                answered = false;
                asking = Some(Box::pin(ask(subscriber.client.clone(), patience)) as Asking).into();
            }
            _ = &mut subscriber.task => return Loss::Closed,
        }
    }
}

fn pass_on(hub: &Hub, message: Message) {
    let Some(payload) = message.value.into_bytes() else { return };
    match Event::from_channel(&payload) {
        Ok(event) => hub.dispatch(&message.channel, event),
        // Never its content.
        Err(error) => tracing::error!(channel = %message.channel, %error, "ignored what came on a channel"),
    }
}

/// Sends the changes and waits until Redis has confirmed them.
fn change(client: &Client, interest: Interest, patience: Duration) -> Option<Subscribing> {
    if interest.is_empty() {
        return None;
    }
    let client = client.clone();
    let names = |channels: &[Channel]| channels.iter().map(|c| c.as_str().to_owned()).collect::<Vec<_>>();
    Some(Box::pin(async move {
        if !interest.unsubscribe.is_empty() {
            client.unsubscribe(names(&interest.unsubscribe)).await?;
        }
        if !interest.subscribe.is_empty() {
            client.subscribe(names(&interest.subscribe)).await?;
        }
        // The library returns before Redis has answered, even before the command is written. An answer to what was sent
        // after it on the same connection is the proof.
        ask(client, patience).await?;
        Ok(interest.subscribe)
    }))
}

async fn ask(client: Client, patience: Duration) -> Result<(), Loss> {
    match timeout(patience, client.ping::<()>(None)).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Loss::Silent),
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
