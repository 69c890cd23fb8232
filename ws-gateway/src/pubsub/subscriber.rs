//! Redis subscriptions: what is published goes to the hub, what may have been lost is read from the logs.
//!
//! Delivery: as long as a conversation's log holds the event its sockets saw last, they get every event after it, once
//! and in order, whatever happens to connections or to this task. If it does not, they are told (`resync`).
//!
//! There is one connection, in a cluster one to each master. When one breaks, by word or by silence, the sockets whose
//! conversations it served hear `degraded`, and no others; the next one subscribes anew: subscribe, wait for Redis to
//! confirm, only then read the logs.
//!
//! - `single`: the connection to a server that is no cluster
//! - `cluster`: a connection to each master; `routes` knows which of them serves which slot
//! - `listening`: what a connection says; `subscriptions`: what is asked of it
//! - `backfill`: reads logs, of rooms that are behind and of those that may be

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use shared::channel::Topology;
use shared::shutdown::Shutdown;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::event_decoder::EventDecoder;
use super::event_log::EventLog;
use super::{backfill, cluster, single};
use crate::hub::Hub;
use crate::presence::PresenceRegistry;
use crate::redis::{ConnectionError, RedisConnector};

/// Channels in one SUBSCRIBE.
pub(super) const CHANNELS_PER_COMMAND: usize = 1000;
/// Between two attempts to connect; doubled each time, up to [`MAX_BACKOFF`].
pub(super) const MIN_BACKOFF: Duration = Duration::from_millis(50);
pub(super) const MAX_BACKOFF: Duration = Duration::from_millis(1600);

/// Where everything comes from, and where it goes.
pub(super) struct Subscriber {
    pub(super) redis: RedisConnector,
    pub(super) decoder: Arc<EventDecoder>,
    pub(super) hub: Arc<Hub>,
    pub(super) presence: PresenceRegistry,
}

/// Starts to relay into `hub`, until `shutdown`.
pub(crate) fn start(
    redis: RedisConnector,
    event_log: EventLog,
    decoder: Arc<EventDecoder>,
    hub: &Arc<Hub>,
    presence: PresenceRegistry,
    reconcile_interval: Duration,
    shutdown: &Shutdown,
) {
    let topology = redis.topology();
    let subscriber = Subscriber { redis, decoder, hub: hub.clone(), presence };
    let map_refresh = Arc::new(Notify::new());
    match topology {
        Topology::Single => shutdown.spawn_until("subscriber", single::reconnect_loop(subscriber)),
        Topology::Cluster => {
            shutdown.spawn_until("subscriber", cluster::reconnect_loop(subscriber, map_refresh.clone()))
        }
    }
    shutdown.spawn_until("backfill", backfill::run_backfills(event_log.clone(), hub.clone()));
    let checking = backfill::reconcile_positions(event_log, hub.clone(), reconcile_interval, map_refresh);
    shutdown.spawn_until("position check", checking);
}

/// Why a connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum SubscriberError {
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error("redis: {0}")]
    Refused(String),
    #[error("redis has not confirmed what was asked")]
    Unconfirmed,
}

/// Pauses between attempts, each twice as long as the one before.
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) fn new() -> Self {
        Self(MIN_BACKOFF)
    }

    pub(super) async fn wait(&mut self) {
        // Spread, so that all gateways do not knock at the same instant: the clock's last digits differ enough.
        let jitter = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.subsec_micros() % 50);
        sleep(self.0 + Duration::from_millis(jitter.into())).await;
        self.0 = (self.0 * 2).min(MAX_BACKOFF);
    }

    pub(super) fn reset(&mut self) {
        self.0 = MIN_BACKOFF;
    }
}
