//! Relays Redis publish/subscribe to the hub.
//!
//! Guarantee: as long as a conversation's log holds the last event that its sockets received, they receive every
//! later event, once and in order, despite failures. Otherwise they receive `resync`.
//!
//! There is one connection, or in a cluster one per master. When it fails or times out, the sockets of its
//! conversations receive `degraded`. The next connection subscribes again, waits for the confirmation, and only then
//! reads the logs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use shared::kit::redis::Topology;
use shared::kit::shutdown::Shutdown;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::event_decoder::EventDecoder;
use super::event_log::EventLog;
use super::{backfill, cluster, single};
use crate::hub::Hub;
use crate::presence::PresenceRegistry;
use crate::redis::{ConnectionError, RedisConnector};

/// Channels per SUBSCRIBE.
pub(super) const CHANNELS_PER_COMMAND: usize = 1000;
/// Delay between two connection attempts. It doubles up to [`MAX_BACKOFF`].
pub(super) const MIN_BACKOFF: Duration = Duration::from_millis(50);
pub(super) const MAX_BACKOFF: Duration = Duration::from_millis(1600);

/// What every connection needs.
pub(super) struct Subscriber {
    pub(super) redis: RedisConnector,
    pub(super) decoder: Arc<EventDecoder>,
    pub(super) hub: Arc<Hub>,
    pub(super) presence: PresenceRegistry,
}

/// Starts the subscriber and the backfills, until `shutdown`.
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
            shutdown.spawn_until("subscriber", cluster::reconnect_loop(subscriber, map_refresh.clone()));
        }
    }
    shutdown.spawn_until("backfill", backfill::run_backfills(event_log.clone(), hub.clone()));
    let checking = backfill::reconcile_positions(event_log, hub.clone(), reconcile_interval, map_refresh);
    shutdown.spawn_until("position check", checking);
}

/// Why a connection failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SubscriberError {
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error("redis: {0}")]
    Rejected(String),
    #[error("redis did not confirm the subscription")]
    Unconfirmed,
}

/// Exponential backoff between connection attempts.
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) fn new() -> Self {
        Self(MIN_BACKOFF)
    }

    pub(super) async fn wait(&mut self) {
        // Jitter, so that gateways do not reconnect at the same time.
        let jitter = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.subsec_micros() % 50);
        sleep(self.0 + Duration::from_millis(jitter.into())).await;
        self.0 = (self.0 * 2).min(MAX_BACKOFF);
    }

    pub(super) fn reset(&mut self) {
        self.0 = MIN_BACKOFF;
    }
}
