//! Builds the gateway from its parts, runs it, and ends it in order.
//!
//! - `capacity`: how many sockets and handshakes fit into this process
//! - `drain`: the end, within one deadline

mod capacity;
mod shutdown_phases;

use std::io;
use std::sync::Arc;

use shared::contract::event::relay_keys::RelayKeys;
use shared::contract::token::{KeySetCache, NoVerificationKeysError, Verifier};
use shared::kit::net;
use shared::kit::net::tls::CaError;
use shared::kit::shutdown::{Shutdown, TaskError};
use shared::kit::telemetry::exporter::{BuildInfo, MetricsExporter};
use shared::kit::telemetry::trace::{TraceError, Tracing};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::auth::{RevocationSync, TicketRedeemer};
use crate::config::Config;
use crate::hub::Hub;
use crate::metrics::METRICS;
use crate::presence::{PresenceRegistry, PresenceTiming};
use crate::pubsub::event_decoder::EventDecoder;
use crate::pubsub::{self, EventLog, LogTtl, ReplayBudget, TypingPublisher};
use crate::rate_limit::RateLimits;
use crate::redis::{RedisConnector, RedisNodes};
use crate::socket::{CloseReason, TimerWheel};
use crate::state::AppState;
use crate::streams::StreamProducer;
use crate::streams::audit::AuditProducer;
use crate::streams::receipts::ReceiptProducer;
use crate::{admin, http};
use capacity::Capacity;
use shutdown_phases::Phases;

/// Why a gateway could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The admin port cannot be opened.
    #[error("cannot listen on ADMIN_ADDR: {0}")]
    Admin(io::Error),
    /// The Redis client rejects its configuration.
    #[error("redis: {0}")]
    RedisConnector(#[from] crate::redis::Error),
    /// Traces are configured but cannot be exported.
    #[error(transparent)]
    Traces(#[from] TraceError),
    /// The CA bundle for Redis cannot be used.
    #[error("REDIS_CA_FILE: {0}")]
    Authority(#[from] CaError),
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
    log_insecure_settings(&config);
    let phases = Phases::new(&shutdown);
    // Metrics belong to the process. A second gateway in it adds to those of the first.
    let build = BuildInfo::new("ws-gateway", env!("CARGO_PKG_VERSION"), option_env!("EHR_CHAT_COMMIT"));
    let metrics = MetricsExporter::install(build, METRICS, &phases.background).ok();
    let admin_listener = net::listen(config.http.admin_addr).map_err(RunError::Admin)?;
    let keys = KeySetCache::open(&config.tokens, &phases.background).await?;
    let redis = RedisConnector::new(&config.redis.link.url, config.redis.link.ca.as_ref(), config.redis.timeout)?;
    let traces = config.process.traces.as_ref().map(|traces| Tracing::start("ws-gateway", traces)).transpose()?;
    let commands = redis.commands(&phases.connections)?;
    let app = start_services(config, redis, commands, keys, traces, shutdown, &phases.background);

    let sockets = TaskTracker::new();
    phases.accepting.spawn_until("public port", http::server::accept(app.clone(), listener, sockets.clone()));
    phases.administering.spawn_until("admin port", admin::serve(app.clone(), admin_listener, metrics));
    Ok(shutdown_phases::run_until_closed(&app, &sockets, &phases).await?)
}

fn log_insecure_settings(config: &Config) {
    if config.http.origins.allows_any() {
        tracing::warn!("insecure setting: ALLOWED_ORIGINS is *, so any page may open sockets");
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    if config.events.relay_keys.is_some() && !config.events.rejects_unsealed {
        tracing::warn!("insecure setting: RELAY_UNSEALED is accept, so a client of Redis can forge events");
    }
}

/// Starts everything between Redis and the sockets.
fn start_services(
    config: Config,
    redis: RedisConnector,
    commands: RedisNodes,
    keys: Arc<KeySetCache>,
    traces: Option<Tracing>,
    shutdown: Shutdown,
    background: &Shutdown,
) -> Arc<AppState> {
    let event_decoder = Arc::new(EventDecoder::new(relay_keys(&config)));
    let log_ttl = LogTtl { with_events: config.events.log_ttl, marker_only: config.events.marker_ttl() };
    let event_log =
        EventLog::new(commands.clone(), log_ttl, config.session.outbound_queue_bytes, event_decoder.clone());
    let hub = Hub::new();
    let timing = PresenceTiming {
        lease: config.presence.lease,
        grace: config.presence.grace,
        poll_interval: config.events.reconcile_interval,
    };
    let presence = PresenceRegistry::start(&commands, &hub, timing, background);
    pubsub::start(
        (redis, commands.master()),
        event_log.clone(),
        event_decoder,
        &hub,
        presence.clone(),
        config.events.reconcile_interval,
        background,
    );
    let revocations = RevocationSync::start(commands.clone(), hub.clone(), background);
    let (current_keys, sockets) = (keys.clone(), hub.clone());
    background.spawn_until("sockets of old keys", async move {
        close_sockets_of_removed_keys(&current_keys, &sockets).await;
    });
    let timer_wheel = TimerWheel::new();
    let wheel = timer_wheel.clone();
    background.spawn_until("timers", async move { wheel.run().await });
    let Capacity { sockets, handshakes } = Capacity::of_process(config.http.max_sockets);
    Arc::new(AppState {
        verifier: Verifier::new(&config.tokens, keys).with_revocations(revocations.revocations().clone()),
        revocations,
        tickets: TicketRedeemer::new(commands.clone()),
        hub,
        event_log,
        replay_budget: ReplayBudget::new(config.session.outbound_queue_bytes),
        receipts: ReceiptProducer::start(commands.clone(), background),
        audit: AuditProducer::start(StreamProducer::start(commands.clone(), background), background),
        typing: TypingPublisher::start(commands, background),
        presence,
        socket_permits: Arc::new(Semaphore::new(sockets)),
        rate_limits: RateLimits::new(&config.rate_limit),
        handshake_permits: Arc::new(Semaphore::new(handshakes)),
        max_handshakes: handshakes,
        traces,
        started_at: Instant::now(),
        shutdown,
        frames_sent: ::metrics::counter!("ehr_chat_gateway_frames_sent_total"),
        open_sockets: ::metrics::gauge!("ehr_chat_gateway_sockets"),
        delivery_latency: ::metrics::histogram!("ehr_chat_gateway_delivery_latency_seconds"),
        timer_wheel,
        config,
    })
}

fn relay_keys(config: &Config) -> RelayKeys {
    let keys = config.events.relay_keys.as_ref().map(RelayKeys::new).unwrap_or_default();
    if config.events.rejects_unsealed { keys.rejecting_unsealed() } else { keys }
}

/// A socket does not outlive the key of its token. An issuer that removes a key may have lost it.
async fn close_sockets_of_removed_keys(keys: &KeySetCache, hub: &Hub) {
    let mut updates = keys.updates();
    while updates.changed().await.is_ok() {
        let closed = hub.close_sockets_where(CloseReason::TokenKeyRemoved, |principal| !keys.contains(principal.key));
        if closed > 0 {
            tracing::info!(closed, "sockets of removed keys closed");
        }
    }
}
