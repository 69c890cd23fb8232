//! Relays Redis publish/subscribe to the hub, and reads the event logs behind it.
//!
//! Guarantee: as long as a conversation's log holds the last event that its sockets received, they receive every
//! later event, once and in order, despite failures. Otherwise they receive `resync`.
//!
//! There is one connection, or in a cluster one per master. When it fails or times out, the sockets of its
//! conversations receive `degraded`. The next connection subscribes again, waits for the confirmation, and only then
//! reads the logs.
//!
//! - `single` and `cluster` keep the connections; `routes` maps slots to them; `subscriber`: what they share
//! - `receiver`: what a connection receives; `subscriptions`: what is sent on it
//! - `backfill_reader`: reads logs for rooms with a gap
//! - `event_log_reader`: reads event logs; `replay_budget` bounds replays in memory
//! - [`event_decoder`]: decodes and decrypts events
//! - `typing`: publishes typing notices

mod backfill_reader;
mod cluster;
pub(crate) mod event_decoder;
mod event_log_reader;
mod receiver;
mod replay_budget;
mod routes;
mod single;
mod subscriber;
mod subscriptions;
mod typing;

use std::sync::Arc;
use std::time::Duration;

use shared::kit::redis::Topology;
use shared::kit::shutdown::Shutdown;
use tokio::sync::Notify;

use crate::hub::Hub;
use crate::presence::PresenceRegistry;
use crate::redis::{MasterWatch, RedisConnector};
pub(crate) use backfill_reader::BACKFILL_CONCURRENCY;
use event_decoder::EventDecoder;
pub(crate) use event_log_reader::{EventLog, EventLogError, LogTtl, Replay};
pub(crate) use replay_budget::{ReplayBudget, ReplayReservation};
use subscriber::Subscriber;
pub(crate) use typing::TYPING_QUEUE_CAPACITY;
pub(crate) use typing::TypingPublisher;

/// Starts the subscriber and the backfills, until `shutdown`.
pub(crate) fn start(
    (redis, master): (RedisConnector, MasterWatch),
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
        Topology::Single => shutdown.spawn_until("subscriber", single::reconnect_loop(subscriber, master)),
        Topology::Cluster => {
            shutdown.spawn_until("subscriber", cluster::reconnect_loop(subscriber, map_refresh.clone()));
        }
    }
    shutdown.spawn_until("backfill", backfill_reader::run_backfills(event_log.clone(), hub.clone()));
    let checking = backfill_reader::reconcile_positions(event_log, hub.clone(), reconcile_interval, map_refresh);
    shutdown.spawn_until("position check", checking);
}
