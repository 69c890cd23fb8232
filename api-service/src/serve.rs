//! Composes the service: opens what it depends on, starts its tasks, serves both ports, and ends them in order.

use std::sync::Arc;
use std::time::Duration;

use shared::contract::event::relay_keys::RelayKeys;
use shared::contract::token::cache::TokenCache;
use shared::contract::token::{KeySetCache, Verifier};
use shared::kit::env::mode::Mode;
use shared::kit::net::file_descriptors;
use shared::kit::own_thread::on_own_thread;
use shared::kit::redis::{ClientOptions, RedisNodes};
use shared::kit::shutdown::Shutdown;
use shared::kit::telemetry::exporter::MetricsExporter;
use shared::kit::telemetry::trace::Tracing;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::config::Config;
use crate::envelope::EnvelopeKeys;
use crate::limits::rate_limit::RateLimits;
use crate::monitors::clock::ClockOffset;
use crate::monitors::database::{DatabaseMonitor, spawn_when_ready};
use crate::outbox::broker::Broker;
use crate::outbox::event_queue::EventSender;
use crate::presence_reader::PresenceReader;
use crate::revocation::RevocationService;
use crate::send_batcher::BatchReceiver;
use crate::state::AppState;
use crate::store::{Class, Store};
use crate::stream_consumer::conversation_checks::ConversationCheckHandler;
use crate::stream_consumer::receipts::ReceiptHandler;
use crate::stream_consumer::socket_audit::SocketAuditHandler;
use crate::ticket_issuer::TicketIssuer;
use crate::{audit_writer, http, monitors, outbox, send_batcher, stream_consumer};

/// Time limit of Redis for a batch of events.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(2);

/// Descriptors for Redis, the admin port and log files. Those for PostgreSQL are added.
const RESERVED_DESCRIPTORS: usize = 64;

/// Connections to the admin port.
const MAX_ADMIN_CONNECTIONS: usize = 48;

/// How long the first requests wait for a ready database.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(2);

/// The part of `SHUTDOWN_TIMEOUT_SECONDS` that is reserved for work that requests leave behind; a quarter of it at most.
const BACKGROUND_TIMEOUT: Duration = Duration::from_secs(5);

/// Time limit of requests in flight when a task has failed, or the keys do not match.
const FAILURE_TIMEOUT: Duration = Duration::from_secs(5);

/// Time limit of the last export of spans.
const FINAL_SPANS_TIMEOUT: Duration = Duration::from_millis(500);

/// Why the service ended.
pub type ServeError = Box<dyn std::error::Error + Send + Sync>;

/// The sockets of the service.
pub struct Listeners {
    /// For clients, behind the load balancer.
    pub public: TcpListener,
    /// For operators.
    pub admin: TcpListener,
}

/// Runs the service until `stopping` begins and the drain time has passed. Then it finishes requests and their remaining work
/// within the shutdown timeout.
///
/// # Errors
/// When a URL is invalid, a listener fails, the keys do not match the database, or a task ends unexpectedly.
pub async fn run(
    config: Config,
    listeners: Listeners,
    metrics: Option<MetricsExporter>,
    stopping: Shutdown,
) -> Result<(), ServeError> {
    let shutdown = after(&stopping, config.listen.drain);
    if config.origins.allows_any() {
        tracing::warn!("ALLOWED_ORIGINS is *: any origin may call the API");
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let token_keys = KeySetCache::open(&config.tokens, &shutdown).await?;
    let envelope_keys = config.encryption.content.as_ref().map(EnvelopeKeys::new).transpose()?;
    let store = Store::new(&config.database, config.audit_key)?
        .with_replica(config.replica.as_ref())?
        .with_envelope_keys(envelope_keys.map(Arc::new));
    let relay_keys = config.encryption.relay.as_ref().map(RelayKeys::new).unwrap_or_default();
    // Redis stays connected to the very end: the last published events must be confirmed too.
    let final_shutdown = shutdown.later_phase();
    let settings = ClientOptions::new(&config.redis.url, config.redis.ca.as_ref(), PUBLISH_TIMEOUT)?;
    let redis = RedisNodes::start(settings, &final_shutdown)?;
    let broker = Broker::new(redis.clone(), config.event_log, relay_keys);
    let presence = PresenceReader::new(redis.clone());
    let revocation = Arc::new(RevocationService::new(store.clone(), redis.clone(), config.tokens.max_lifetime));

    let database = DatabaseMonitor::default();
    let ((report_wrong_keys, mut wrong_keys), instance) = (mpsc::channel(1), uuid::Uuid::now_v7());
    let watching = database.clone().run(store.for_class(Class::Watch), instance, report_wrong_keys);
    shutdown.spawn_until("database watch", watching);
    let (events, committed) = outbox::event_queue::queue();
    let (send_batcher, pending) = send_batcher::queue();
    let (audit_entries, audit_queue) = audit_writer::queue(store.refusals());
    // Tasks that write or publish start only after the keys were checked against the database.
    let start = |name, task: futures_util::future::BoxFuture<'static, ()>| {
        spawn_when_ready(&shutdown, &database, name, task);
    };
    start("outbox", Box::pin(outbox::run(store.clone(), broker, committed, redis.health(), shutdown.clone())));
    start("send batcher", Box::pin(run_send_batcher(store.for_class(Class::Send), events.clone(), pending)));
    let receipts = ReceiptHandler { store: store.clone(), events: events.clone() };
    start("receipt handler", Box::pin(stream_consumer::run(redis.clone(), receipts, shutdown.clone())));
    let socket_events = SocketAuditHandler { store: store.clone() };
    start("socket audit handler", Box::pin(stream_consumer::run(redis.clone(), socket_events, shutdown.clone())));
    let questions = ConversationCheckHandler { store: store.clone(), presence: presence.clone() };
    start("conversation check handler", Box::pin(stream_consumer::run(redis.clone(), questions, shutdown.clone())));
    start("audit writer", Box::pin(audit_writer::run(store.for_class(Class::Write), audit_queue)));
    shutdown.spawn("revocations", revocation.clone().run(shutdown.clone()));
    let clock_offset = ClockOffset::default();
    shutdown.spawn_until("clock", monitors::clock::watch(store.for_class(Class::Watch), clock_offset.clone()));
    start("keys", Box::pin(monitors::master_keys::announce(store.clone(), instance, shutdown.clone())));

    if config.replica.is_some() {
        let (watched, ready) = (store.clone(), database.clone());
        shutdown.spawn_until("read replica", async move {
            ready.until_ready().await;
            watched.watch_replica().await;
        });
    }

    if config.mode == Mode::Production {
        let (checked, known) = (store.clone(), revocation.clone());
        shutdown.spawn_until("role check", async move {
            warn_of_role(&checked, &known).await;
            std::future::pending::<()>().await;
        });
    }

    let tokens = TokenCache::new(Verifier::new(&config.tokens, token_keys).with_revocations(revocation.revocations()));
    let trusted_proxies = config.trusted_proxies;
    let rate_limits = RateLimits::new(&config.limits);
    let traces = config.traces.as_ref().map(|traces| Tracing::start("api-service", traces)).transpose()?;
    let (ticket_issuer, origins) = (TicketIssuer::new(redis.clone()), config.origins);
    let dev_signing_key = config.dev_signing_key.map(Arc::new);
    let state = Arc::new(AppState {
        tokens,
        store: store.for_class(Class::Read),
        database: database.clone(),
        send_batcher,
        audit_writer: audit_entries,
        events,
        revocation,
        rate_limits,
        traces: traces.clone(),
        redis,
        clock_offset,
        presence,
        ticket_issuer,
        response_budget: Arc::default(),
        origins,
        dev_signing_key,
        trusted_proxies,
        stopping,
    });
    let replica_connections = config.replica.as_ref().map_or(0, |replica| replica.connections);
    let database_connections = config.database.pool.total + replica_connections;
    let affordable = file_descriptors::connection_budget(database_connections + RESERVED_DESCRIPTORS);
    let connections = file_descriptors::cap_setting("MAX_CONNECTIONS", config.listen.max_connections, affordable);
    let kept = BACKGROUND_TIMEOUT.min(config.listen.shutdown_timeout / 4);
    serve_public(
        &shutdown,
        http::server::Server::new(listeners.public, http::public(state.clone()), connections),
        state.clone(),
        config.listen.shutdown_timeout - kept,
    );
    let ended = shutdown.clone();
    let admin =
        http::server::Server::new(listeners.admin, http::admin(state, metrics), MAX_ADMIN_CONNECTIONS).for_admin();
    shutdown.spawn("admin port", admin.run(async move { ended.wait_for_begin().await }, Duration::from_secs(1)));

    let ended: Result<(), ServeError> = tokio::select! {
        () = shutdown.wait_for_begin() => Ok(()),
        failed = shutdown.wait_for_failure() => Err(failed.into()),
        Some(wrong) = wrong_keys.recv() => Err(wrong.into()),
    };
    let allowed = if ended.is_ok() {
        config.listen.shutdown_timeout
    } else {
        config.listen.shutdown_timeout.min(FAILURE_TIMEOUT)
    };
    // Servers drop their state when they end. With it the queues of the batcher and then of the outbox close, and their tasks end
    // once both are empty.
    if !shutdown.finish(allowed.saturating_sub(FINAL_SPANS_TIMEOUT)).await {
        tracing::warn!("tasks not ended in time, their events are in the outbox");
    }
    final_shutdown.begin();
    if let Some(traces) = traces {
        traces.finish(FINAL_SPANS_TIMEOUT).await;
    }
    ended
}

/// All senders wait for the batcher, so it does not share a thread with their requests.
async fn run_send_batcher(store: Store, events: EventSender, pending: BatchReceiver) {
    if let Err(error) = on_own_thread("send batcher", send_batcher::run(store, events, pending)).await {
        tracing::error!(%error, "no thread for the send batcher");
    }
}

/// Serves the public port once the database is ready. Until then clients wait in the kernel's queue: a load balancer that has not
/// noticed the restart would get 503 for each request.
fn serve_public<E>(shutdown: &Shutdown, server: http::server::Server<E>, state: Arc<AppState>, drain_timeout: Duration)
where
    E: poem::Endpoint<Output = poem::Response> + 'static,
{
    let (starting, stop) = (shutdown.clone(), shutdown.clone());
    shutdown.spawn("public port", async move {
        let ready = async {
            state.database.until_ready().await;
            state.revocation.until_loaded().await;
        };
        tokio::select! {
            _ = timeout(STARTUP_TIMEOUT, ready) => {}
            () = starting.wait_for_begin() => {}
        }
        drop(state);
        server.run(async move { stop.wait_for_begin().await }, drain_timeout).await;
    });
}

/// Warns when the service's role has more rights than it needs.
async fn warn_of_role(store: &Store, revocation: &RevocationService) {
    revocation.until_loaded().await;
    match store.excessive_privileges().await {
        // A service that is taken over could then change the audit trail.
        Ok(Some(excess)) => {
            tracing::warn!(
                excess,
                "database role has excessive rights: migrate with DATABASE_SERVICE_ROLE, and serve as that role"
            );
        }
        Ok(None) => {}
        Err(error) => tracing::debug!(%error, "rights of the role not read"),
    }
}

/// A shutdown that begins `drain` after `stopping`. Until then all requests are served, because load balancers still send some.
fn after(stopping: &Shutdown, drain: Duration) -> Shutdown {
    let shutdown = stopping.later_phase();
    let (begin, stopping) = (shutdown.clone(), stopping.clone());
    shutdown.spawn("drain timer", async move {
        tokio::select! {
            () = async {
                stopping.wait_for_begin().await;
                sleep(drain).await;
            } => begin.begin(),
            () = begin.wait_for_begin() => {}
        }
    });
    shutdown
}
