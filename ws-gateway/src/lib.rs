//! The WebSocket gateway: holds sockets and relays events from Redis to them.
//!
//! It knows Redis and the token keys, and no database. What the database must store goes through Redis streams to the
//! API service.
//!
//! # Layout
//! - [`config`]: the settings, one file per concern
//! - `http`: the public port up to the WebSocket handshake
//! - [`session`]: one task per socket; `websocket`: its frames as bytes
//! - [`hub`]: rooms of sockets, gap detection, outbound queues; knows neither Redis nor TCP
//! - [`pubsub`]: Redis subscriptions and event logs → hub
//! - `presence`: which participants are online
//! - [`streams`]: receipts and audit entries → API service
//! - [`auth`]: revocations and tickets
//! - [`redis`]: connections to Redis
//! - `rate_limit`, `metrics`, `admin`, `state`: limits, metrics, the admin port, shared state

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
use shared::contract::event::relay_keys::RelayKeys;
use shared::contract::token::{KeySetCache, NoVerificationKeysError, Verifier};
use shared::kit::net;
use shared::kit::net::file_descriptors;
use shared::kit::shutdown::{Shutdown, TaskError};
use shared::kit::telemetry;
use shared::kit::telemetry::trace::Tracing;
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

/// Part of the shutdown timeout that is kept for the last spans and for closing the connections to Redis.
const FINAL_WRITE_TIMEOUT: Duration = Duration::from_millis(500);

/// Replayed frames that may wait for one participant, in full queues of one socket.
pub(crate) const REPLAY_QUEUES_PER_PARTICIPANT: usize = 8;
/// File descriptors that are kept for Redis, the admin port and log files.
const RESERVED_DESCRIPTORS: usize = 64;

/// Part of the shutdown timeout that is kept for background tasks, which end after the sockets.
const BACKGROUND_TIMEOUT: Duration = Duration::from_secs(1);

/// Time for closing the sockets after a task has failed.
const FAILURE_TIMEOUT: Duration = Duration::from_secs(10);

/// Every sender of commands bounds its own concurrency. So the command queues of the Redis client cannot overflow,
/// and need no metric.
const _: () = assert!(
    http::server::MAX_PENDING_HANDSHAKES
        + pubsub::TYPING_QUEUE_CAPACITY
        + 2 * pubsub::BACKFILL_CONCURRENCY
        + 2 * presence::CONCURRENCY
        + 4
        < shared::kit::redis::COMMAND_QUEUE_CAPACITY,
    "the queue of commands could overflow"
);

/// Why a gateway could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The admin port cannot be opened.
    #[error("cannot listen on ADMIN_ADDR: {0}")]
    Admin(io::Error),
    /// The Redis client rejects its configuration.
    #[error("redis: {0}")]
    RedisConnector(#[from] redis::Error),
    /// Traces are configured but cannot be exported.
    #[error(transparent)]
    Traces(#[from] shared::kit::telemetry::trace::TraceError),
    /// The CA bundle for Redis cannot be used.
    #[error("REDIS_CA_FILE: {0}")]
    Authority(#[from] shared::kit::net::tls::CaError),
    /// No key could be loaded, so no token could be verified.
    #[error(transparent)]
    Keys(#[from] NoVerificationKeysError),
    /// A supervised task has failed.
    #[error(transparent)]
    Task(#[from] TaskError),
}

/// Runs a gateway on `listener`. It ends when `shutdown` has begun and all sockets are closed, or after the shutdown
/// timeout.
///
/// Redis may be down at the start. Until it is up, `/readyz` and every handshake return 503.
///
/// # Errors
/// [`RunError`] before any connection is accepted, or [`RunError::Task`] after a failed task and a drain.
pub async fn run(config: Config, listener: TcpListener, shutdown: Shutdown) -> Result<(), RunError> {
    if config.http.origins.allows_any() {
        tracing::warn!("insecure setting: ALLOWED_ORIGINS is *, so any page may open sockets");
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    // Ends after the sockets, which need these tasks to the last.
    let background = shutdown.later_phase();
    // Metrics belong to the process. A second gateway in it adds to those of the first.
    let metrics = telemetry::init_metrics(crate::metrics::METRICS, &background).ok();
    let admin_listener = net::listen(config.http.admin_addr).map_err(RunError::Admin)?;
    let keys = KeySetCache::open(&config.tokens, &background).await?;
    let redis = RedisConnector::new(&config.redis.url, config.redis.ca.as_ref(), config.redis.timeout)?;
    let traces = config.process.traces.as_ref().map(|traces| Tracing::start("ws-gateway", traces)).transpose()?;
    // Ends after the background tasks, which need it to the last.
    let connections = background.later_phase();
    let commands = redis.commands(&connections)?;
    let mut relay_keys = config.events.relay_keys.as_ref().map(RelayKeys::new).unwrap_or_default();
    if config.events.rejects_unsealed {
        relay_keys = relay_keys.rejecting_unsealed();
    } else if config.events.relay_keys.is_some() {
        tracing::warn!("insecure setting: RELAY_UNSEALED is accept, so a client of Redis can forge events");
    }
    let event_decoder = Arc::new(EventDecoder::new(relay_keys));
    let log_ttl = LogTtl { with_events: config.events.log_ttl, marker_only: config.events.marker_ttl() };
    let event_log =
        EventLog::new(commands.clone(), log_ttl, config.session.outbound_queue_bytes, event_decoder.clone());
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
        event_decoder,
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
    // Descriptors for sockets and pending handshakes.
    let affordable = file_descriptors::connection_budget(RESERVED_DESCRIPTORS);
    let handshakes = http::server::MAX_PENDING_HANDSHAKES.min(affordable.div_ceil(8));
    let max_sockets =
        file_descriptors::cap_setting("MAX_SOCKETS", config.http.max_sockets, (affordable - handshakes).max(1));
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
        frames_sent: ::metrics::counter!("ehr_chat_gateway_frames_sent_total"),
        open_sockets: ::metrics::gauge!("ehr_chat_gateway_sockets"),
        delivery_latency: ::metrics::histogram!("ehr_chat_gateway_delivery_latency_seconds"),
        timer_wheel,
        config: config.clone(),
    });

    let sockets = TaskTracker::new();
    // Both keep running during the drain, to answer that this gateway shuts down.
    let (accepting, administering) = (shutdown.later_phase(), shutdown.later_phase());
    accepting.spawn_until("public port", http::server::accept(app.clone(), listener, sockets.clone()));
    administering.spawn_until("admin port", admin::serve(app, admin_listener, metrics));

    let failed = tokio::select! {
        () = shutdown.wait_for_begin() => None,
        failed = shutdown.wait_for_failure() => Some(failed),
    };
    // All that follows shares this deadline.
    let allowed = if failed.is_some() {
        config.process.shutdown_timeout.min(FAILURE_TIMEOUT)
    } else {
        config.process.shutdown_timeout
    };
    let deadline = Instant::now() + allowed.saturating_sub(FINAL_WRITE_TIMEOUT);
    let close_by = deadline.checked_sub(BACKGROUND_TIMEOUT.min(allowed / 4)).unwrap_or(deadline);
    shutdown.begin();
    tracing::info!(sockets = sockets.len(), "drain started");
    hub.begin_drain();
    sockets.close();
    // Accepts until the drain window ends, even without sockets. The load balancer needs time to notice, and a
    // handshake in the accept queue would otherwise get no response.
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
        tracing::warn!(drained, flushed, "shutdown deadline exceeded");
    }
    failed.map_or(Ok(()), |failed| Err(failed.into()))
}

/// A socket does not outlive the key of its token. An issuer that removes a key may have lost it.
async fn close_sockets_of_removed_keys(keys: &KeySetCache, hub: &Hub) {
    let mut updates = keys.updates();
    while updates.changed().await.is_ok() {
        let closed = hub.close_sockets_where(|principal| !keys.contains(principal.key));
        if closed > 0 {
            tracing::info!(closed, "sockets of removed keys closed");
        }
    }
}
