//! The gateway of the chat: holds WebSockets and relays events from Redis to them.
//!
//! It knows Redis and the key of the tokens, and nothing else: whatever it has to say to the database goes through
//! Redis to the API service.
//!
//! # Layout
//! - [`config`]: the settings, and what is wrong with them
//! - `server`: accepts connections on the public port
//! - `handshake`: HTTP, token, rights, limits; its refusals are HTTP answers
//! - `rate_limits`: how many sockets and handshakes somebody may have
//! - `connection`: one task a socket, with its [`protocol`], its [`outbound`] queue and its [`close`] codes
//! - `wire`: WebSocket frames as bytes
//! - `timer_wheel`: wakes sockets at their time
//! - [`hub`]: which sockets hear which conversation; knows neither Redis nor TCP
//! - [`relay`]: Redis subscriptions → hub; notices whatever was lost
//! - [`replay`]: reads the logs, for sockets that resume and for the relay
//! - [`receipts`]: proven deliveries and reads, and [`audit`]: what happens to sockets; both by way of [`uplink`] → Redis
//! - [`revocations`]: Redis → which tokens are refused, and whose sockets are closed
//! - [`tickets`]: Redis → whose ticket it is, once
//! - [`typing`]: somebody types → Redis
//! - `presence`: somebody comes or goes → Redis → whoever shares a conversation
//! - `view`: what a socket shows
//! - [`unsealing`]: opens events that Redis may not read
//! - [`redis`]: how connections to Redis behave
//! - `meters`: every metric
//! - `admin`: metrics and health on a port of their own

mod admin;
pub mod auth;
pub mod config;
mod http;
pub mod hub;
mod metrics;
mod presence;
pub mod pubsub;
mod rate_limit;
pub mod redis;
pub mod session;
mod state;
pub mod streams;
mod websocket;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use shared::descriptors;
use shared::net;
use shared::relay_keys::RelayKeys;
use shared::shutdown::{Shutdown, TaskError};
use shared::telemetry;
use shared::token::{KeySetCache, NoVerificationKeysError, Verifier};
use shared::trace::Tracing;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::task::TaskTracker;

use crate::auth::{RevocationSync, TicketRedeemer};
use crate::config::Config;
use crate::hub::Hub;
use crate::presence::{PresenceRegistry, PresenceTiming};
use crate::pubsub::TypingPublisher;
use crate::pubsub::event_decoder::EventDecoder;
use crate::pubsub::{EventLog, LogTtl, ReplayBudget};
use crate::rate_limit::RateLimits;
use crate::redis::RedisConnector;
use crate::session::timer_wheel::TimerWheel;
use crate::state::AppState;
use crate::streams::StreamProducer;
use crate::streams::audit::AuditProducer;
use crate::streams::receipts::ReceiptProducer;

/// What is kept of [`Config::process`] for the last spans, and for the end of the connections to Redis.
const FINAL_WRITE_TIMEOUT: Duration = Duration::from_millis(500);

/// What may wait of the logs for all resuming sockets of one participant, in full queues of one.
pub(crate) const REPLAY_QUEUES_PER_PARTICIPANT: usize = 8;
/// Descriptors that are kept for connections to Redis and from the admin port, log files and such.
const RESERVED_DESCRIPTORS: usize = 64;

/// What is kept of it for tasks that others need to the last, and that end after all sockets have.
const BACKGROUND_TIMEOUT: Duration = Duration::from_secs(1);

/// How long sockets have to close when a task has failed: what it did nobody does any more.
const FAILURE_TIMEOUT: Duration = Duration::from_secs(10);

/// Whoever sends commands bounds how many are under way: handshakes, typing, reading and comparing logs, telling and looking
/// who is online, receipts, entries of the audit trail, questions, and the look for revocations. So no client's own queue can overflow, and needs no metric.
const _: () = assert!(
    http::server::MAX_PENDING_HANDSHAKES
        + pubsub::TYPING_QUEUE_CAPACITY
        + 2 * pubsub::BACKFILL_CONCURRENCY
        + 2 * presence::CONCURRENCY
        + 4
        < shared::redis::QUEUED_COMMANDS,
    "the queue of commands could overflow"
);

/// Why a gateway could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The admin port is taken, or not ours.
    #[error("cannot listen on ADMIN_ADDR: {0}")]
    Admin(io::Error),
    /// The Redis client refuses its configuration.
    #[error("redis: {0}")]
    RedisConnector(#[from] redis::Error),
    /// Traces are wanted, and cannot be sent.
    #[error(transparent)]
    Traces(#[from] shared::trace::TraceError),
    /// TLS is wanted, and there is nobody to vouch for the server.
    #[error("REDIS_CA_FILE: {0}")]
    Authority(#[from] shared::tls::CaError),
    /// No token could be verified.
    #[error(transparent)]
    Keys(#[from] NoVerificationKeysError),
    /// A task has ended that must not.
    #[error(transparent)]
    Task(#[from] TaskError),
}

/// Runs a gateway on `listener` until `shutdown` begins and its sockets are closed, or
/// [`Config::process`] has passed since.
///
/// Redis need not be there yet: until it is, `/readyz` and every handshake answer 503.
///
/// # Errors
/// [`RunError`], before anything is accepted; [`RunError::Task`] when a task has ended too early, after the sockets are closed.
pub async fn run(config: Config, listener: TcpListener, shutdown: Shutdown) -> Result<(), RunError> {
    if config.http.origins.allows_any() {
        tracing::warn!("ALLOWED_ORIGINS is *: any page may open sockets");
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    // Ends after the sockets have: they need it to the last.
    let background = shutdown.later_phase();
    // Metrics are of a process: a second gateway in it adds to those of the first.
    let metrics = telemetry::init_metrics(crate::metrics::METRICS, &background).ok();
    let admin_listener = net::listen(config.http.admin_addr).map_err(RunError::Admin)?;
    let keys = KeySetCache::open(&config.tokens, &background).await?;
    let redis = RedisConnector::new(&config.redis.url, config.redis.ca.as_ref(), config.redis.timeout)?;
    let traces = config.process.traces.as_ref().map(|traces| Tracing::start("ws-gateway", traces)).transpose()?;
    // The tasks in the background need it to their last.
    let connections = background.later_phase();
    let commands = redis.commands(&connections)?;
    let mut relay_keys = config.events.relay_keys.as_ref().map(RelayKeys::new).unwrap_or_default();
    if config.events.rejects_unsealed {
        relay_keys = relay_keys.rejecting_unsealed();
    } else if config.events.relay_keys.is_some() {
        tracing::warn!(
            "RELAY_UNSEALED is accept: whoever writes to Redis can have sockets show messages that nobody sent"
        );
    }
    let unsealing = Arc::new(EventDecoder::new(relay_keys));
    let lives = LogTtl { with_events: config.events.log_ttl, marker_only: config.events.marker_ttl() };
    let event_log = EventLog::new(commands.clone(), lives, config.session.outbound_queue_bytes, unsealing.clone());
    let hub = Hub::new();
    let timing = PresenceTiming {
        lease: config.presence.lease,
        grace: config.presence.grace,
        poll_interval: config.events.reconcile_interval,
    };
    let presence = PresenceRegistry::start(&commands, &hub, timing, &background);
    pubsub::start(
        redis,
        event_log.clone(),
        unsealing,
        &hub,
        presence.clone(),
        config.events.reconcile_interval,
        &background,
    );
    let revocations = RevocationSync::start(commands.clone(), hub.clone(), &background);
    let (held, hearing) = (keys.clone(), hub.clone());
    background.spawn_until("sockets of old keys", async move { close_sockets_of_removed_keys(&held, &hearing).await });
    let timer_wheel = TimerWheel::new();
    let wheel = timer_wheel.clone();
    background.spawn_until("timers", async move { wheel.run().await });
    // Sockets, and connections that are none yet, are strangers' both.
    let affordable = descriptors::connection_budget(RESERVED_DESCRIPTORS);
    let handshakes = http::server::MAX_PENDING_HANDSHAKES.min(affordable.div_ceil(8));
    let max_sockets =
        descriptors::cap_setting("MAX_SOCKETS", config.http.max_sockets, (affordable - handshakes).max(1));
    let audit = AuditProducer::start(StreamProducer::start(commands.clone(), &background), &background);
    let app = Arc::new(AppState {
        verifier: Verifier::new(&config.tokens, keys).with_revocations(revocations.revocations().clone()),
        revocations,
        tickets: TicketRedeemer::new(commands.clone()),
        hub: hub.clone(),
        event_log,
        replay_budget: ReplayBudget::new(
            config.session.outbound_queue_bytes.saturating_mul(REPLAY_QUEUES_PER_PARTICIPANT),
        ),
        receipts: ReceiptProducer::start(commands.clone(), &background),
        audit: audit.clone(),
        typing: TypingPublisher::start(commands, &background),
        presence,
        socket_permits: Arc::new(Semaphore::new(max_sockets)),
        rate_limits: RateLimits::new(&config.rate_limit),
        handshake_permits: Arc::new(Semaphore::new(handshakes)),
        max_handshakes: handshakes,
        traces: traces.clone(),
        started_at: Instant::now(),
        shutdown: shutdown.clone(),
        frames_sent: ::metrics::counter!("gateway_frames_sent_total"),
        open_sockets: ::metrics::gauge!("gateway_sockets"),
        delivery_latency: ::metrics::histogram!("gateway_delivery_seconds"),
        timer_wheel,
        config: config.clone(),
    });

    let sockets = TaskTracker::new();
    // They go on during the drain: to answer that this gateway is going away.
    let (accepting, administering) = (shutdown.later_phase(), shutdown.later_phase());
    accepting.spawn_until("public port", http::server::accept(app.clone(), listener, sockets.clone()));
    administering.spawn_until("admin port", admin::serve(app, admin_listener, metrics));

    let failed = tokio::select! {
        () = shutdown.wait_for_begin() => None,
        failed = shutdown.wait_for_failure() => Some(failed),
    };
    // The one deadline for all that follows.
    let allowed = if failed.is_some() {
        config.process.shutdown_timeout.min(FAILURE_TIMEOUT)
    } else {
        config.process.shutdown_timeout
    };
    let deadline = Instant::now() + allowed.saturating_sub(FINAL_WRITE_TIMEOUT);
    let close_by = deadline.checked_sub(BACKGROUND_TIMEOUT.min(allowed / 4)).unwrap_or(deadline);
    shutdown.begin();
    tracing::info!(sockets = sockets.len(), "draining");
    hub.begin_drain();
    sockets.close();
    // To the end of the drain, however few sockets there are: until the load balancer has noticed, it sends handshakes, and
    // one that stands in the kernel's queue when the port closes would end without an answer.
    let noticed = sleep_until(close_by.min(Instant::now() + config.process.drain));
    let (drained, ()) = join(timeout_at(close_by, sockets.wait()), noticed).await;
    let drained = drained.is_ok();
    accepting.begin();
    audit.flush_counts();
    let flushed = background.finish(deadline.saturating_duration_since(Instant::now())).await;
    administering.begin();
    let final_spans = async {
        if let Some(traces) = traces {
            traces.finish(FINAL_WRITE_TIMEOUT).await;
        }
    };
    let (_lost, ()) = join(connections.finish(FINAL_WRITE_TIMEOUT), final_spans).await;
    if !(drained && flushed) {
        tracing::warn!(drained, flushed, "ended at the deadline, with something left");
    }
    failed.map_or(Ok(()), |failed| Err(failed.into()))
}

/// A token does not outlive its key, nor does a socket: an issuer that takes a key out of its set may have lost it.
async fn close_sockets_of_removed_keys(keys: &KeySetCache, hub: &Hub) {
    let mut updates = keys.updates();
    while updates.changed().await.is_ok() {
        let closed = hub.close_sockets_where(|principal| !keys.contains(principal.key));
        if closed > 0 {
            tracing::info!(closed, "keys have left the set");
        }
    }
}
