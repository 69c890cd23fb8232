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

use super::event_decoder::Unsealing;
use super::event_log::Logs;
use super::{backfill, cluster, single};
use crate::hub::Hub;
use crate::presence::Everybody;
use crate::redis::{LinkError, Redis};

/// Channels in one SUBSCRIBE.
pub(super) const CHUNK: usize = 1000;
/// Between two attempts to connect; doubled each time, up to [`LONGEST_PAUSE`].
pub(super) const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_millis(1600);

/// Where everything comes from, and where it goes.
pub(super) struct Relay {
    pub(super) redis: Redis,
    pub(super) unsealing: Arc<Unsealing>,
    pub(super) hub: Arc<Hub>,
    pub(super) everybody: Everybody,
}

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
    let topology = redis.topology();
    let relay = Relay { redis, unsealing, hub: hub.clone(), everybody };
    let map_wanted = Arc::new(Notify::new());
    match topology {
        Topology::Single => shutdown.spawn_until("subscriber", single::sessions(relay)),
        Topology::Cluster => shutdown.spawn_until("subscriber", cluster::sessions(relay, map_wanted.clone())),
    }
    shutdown.spawn_until("backfill", backfill::read_behind(logs.clone(), hub.clone()));
    let checking = backfill::check_positions(logs, hub.clone(), position_check, map_wanted);
    shutdown.spawn_until("position check", checking);
}

/// Why a connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Loss {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("redis: {0}")]
    Refused(String),
    #[error("redis has not confirmed what was asked")]
    Unconfirmed,
}

/// Pauses between attempts, each twice as long as the one before.
pub(super) struct Pauses(Duration);

impl Pauses {
    pub(super) fn new() -> Self {
        Self(SHORTEST_PAUSE)
    }

    pub(super) async fn pause(&mut self) {
        // Spread, so that all gateways do not knock at the same instant: the clock's last digits differ enough.
        let jitter = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.subsec_micros() % 50);
        sleep(self.0 + Duration::from_millis(jitter.into())).await;
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
    }

    pub(super) fn start_again(&mut self) {
        self.0 = SHORTEST_PAUSE;
    }
}
