//! REST service of the EHR chat: validates tokens, writes messages to PostgreSQL, publishes them to Redis. Stateless.
//!
//! As a message travels:
//!
//! - [`api`]: HTTP → use case; use case → status and body
//! - [`domain`]: the use cases, free of HTTP and SQL
//! - [`writer`]: batches sends into transactions
//! - [`store`]: SQL, the only place that names tokio-postgres
//! - [`vault`]: keys of content at rest; [`keys`]: what operators do with them
//! - [`outbox`]: publishes what was committed, at least once; [`outbox_commands`]: what operators do with what it set aside
//! - [`publisher`]: the queue in front of it, and Redis behind it
//! - [`presence`]: who is online, as the gateways have written it down
//! - [`stream`]: takes from the gateways [`acks`], [`socket_events`] for the trail, and [`questions`] about who may know of whom
//! - [`audit`]: the audit trail, chained; [`auditor`] writes what no transaction of its own does, and [`audit_commands`] are
//!   for operators
//! - [`revoker`]: keeps everybody's knowledge of revoked tokens in step
//! - [`tickets`]: gives out what stands for a token, once
//! - [`clock`]: compares this machine's clock with the database's
//!
//! and beside them [`config`], [`state`], [`limits`], [`meters`], [`redis`], and `server`, the public port.

pub mod acks;
pub mod api;
pub mod audit;
pub mod audit_commands;
pub mod auditor;
pub mod clock;
pub mod config;
pub mod domain;
pub mod keys;
pub mod limits;
pub mod meters;
pub mod outbox;
pub mod outbox_commands;
pub mod presence;
pub mod publisher;
pub mod questions;
pub mod redis;
pub mod revoker;
mod server;
pub mod socket_events;
pub mod state;
pub mod store;
pub mod stream;
pub mod tickets;
pub mod vault;
pub mod writer;

use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use poem::Server;
use poem::listener::TcpAcceptor;
use shared::descriptors;
use shared::mode::Mode;
use shared::relay_keys::RelayKeys;
use shared::shutdown::Shutdown;
use shared::token::{Keyring, Verifier};
use shared::trace::Traces;
use shared::verified::VerifiedTokens;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::acks::Receipts;
use crate::clock::ClockOffset;
use crate::config::Config;
use crate::limits::Limits;
use crate::presence::Everybody;
use crate::publisher::Broker;
use crate::questions::Questions;
use crate::redis::{Health, Pulse};
use crate::revoker::Revoker;
use crate::socket_events::SocketEvents;
use crate::state::State;
use crate::store::{Class, Store};
use crate::tickets::Tickets;
use crate::vault::Vault;

/// How long Redis may take for a batch of events.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(2);

/// Descriptors that are kept for connections to Redis and from the admin port, log files and such; those to PostgreSQL come on top.
const OWN_DESCRIPTORS: usize = 64;

/// How long the first requests wait for what is known of revoked tokens; without PostgreSQL it does not come.
const START_PATIENCE: Duration = Duration::from_secs(2);

/// Why the service does not run.
pub type ServeError = Box<dyn std::error::Error + Send + Sync>;

/// The sockets that a service answers on.
pub struct Listeners {
    /// For everybody, behind the load balancer.
    pub public: TcpListener,
    /// For operators.
    pub admin: TcpListener,
}

/// Serves until `stopping` begins and load balancers have had their time to notice, then finishes requests in flight, and
/// then what they left to be done, each within the configured deadline.
///
/// # Errors
/// When a URL cannot be used, or a listener fails.
pub async fn run(
    config: Config,
    listeners: Listeners,
    metrics: Option<PrometheusHandle>,
    stopping: Shutdown,
) -> Result<(), ServeError> {
    let shutdown = after(stopping.clone(), config.drain);
    if config.origins.is_everybody() {
        tracing::warn!("ALLOWED_ORIGINS is *: any page may ask");
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let token_keys = Keyring::open(&config.tokens, &shutdown).await?;
    let vault = config.encryption.content.as_ref().map(Vault::new).transpose()?;
    let store = Store::new(&config.database, config.audit_key)?.with_vault(vault.map(Arc::new));
    let relay_keys = config.encryption.relay.as_ref().map(RelayKeys::new).unwrap_or_default();
    let watched = redis::client(&config.redis, PUBLISH_TIMEOUT)?;
    let redis = watched.client.clone();
    let (told, health) = watch::channel(Health { connection: 0, since: Instant::now(), proven: Instant::now() });
    // To the very end: what is published last has to prove itself as well.
    let watching = tokio::spawn(redis::watch(watched, told));
    let topology = redis::topology(&config.redis.url)?;
    let broker = Broker::new(redis.clone(), topology, config.log, relay_keys);
    let everybody = Everybody::new(redis.clone(), topology);
    let pulse = Pulse::new(redis.clone(), health.clone());
    let revoker = Arc::new(Revoker::new(store.clone(), redis.clone(), config.tokens.max_lifetime));
    // Their reads block: a client for each.
    let [ack_redis, event_redis, question_redis] =
        [0; 3].map(|_| redis::client(&config.redis, stream::COMMAND_TIMEOUT));

    let (publisher, committed) = publisher::queue();
    let (writer, pending) = writer::queue();
    shutdown.spawn(outbox::run(store.clone(), broker, committed, health.clone(), shutdown.clone()));
    shutdown.spawn(writer::run(store.for_class(Class::Send), publisher.clone(), pending));
    let receipts = Receipts { store: store.clone(), publisher: publisher.clone() };
    shutdown.spawn(stream::run(ack_redis?, receipts, shutdown.clone()));
    shutdown.spawn(stream::run(event_redis?, SocketEvents { store: store.clone() }, shutdown.clone()));
    let questions = Questions { store: store.clone(), everybody: everybody.clone() };
    shutdown.spawn(stream::run(question_redis?, questions, shutdown.clone()));
    let (auditor, entries) = auditor::queue(store.refusals());
    shutdown.spawn(auditor::run(store.for_class(Class::Write), entries));

    shutdown.spawn(revoker.clone().follow(shutdown.clone()));
    let clock = ClockOffset::default();
    let (comparing, ended) = (clock::watch(store.for_class(Class::Watch), clock.clone()), shutdown.clone());
    shutdown.spawn(async move {
        tokio::select! {
            () = comparing => {}
            () = ended.begun() => {}
        }
    });

    // Before anything is written under keys that are not this database's; while it is away, beside all else.
    let (checked, instance) = (store.clone(), uuid::Uuid::now_v7());
    let mut checking = Box::pin(async move { keys::check(&checked, instance).await });
    let fit = timeout(START_PATIENCE, &mut checking).await.ok().transpose()?;
    shutdown.spawn(keys::watch(store.clone(), instance, shutdown.clone()));

    if config.mode == Mode::Production {
        let (checked, known) = (store.clone(), revoker.clone());
        let ended = shutdown.clone();
        shutdown.spawn(async move {
            tokio::select! {
                () = warn_of_role(&checked, &known) => {}
                () = ended.begun() => {}
            }
        });
    }

    let tokens = VerifiedTokens::new(Verifier::new(&config.tokens, token_keys).with_revocations(revoker.known()));
    let trusted_proxies = config.trusted_proxies;
    let limits = Limits::new(&config.limits);
    let traces = config.traces.as_ref().map(|traces| Traces::start("api-service", traces)).transpose()?;
    let (tickets, origins) = (Tickets::new(redis), config.origins);
    let demonstration = config.demonstration.map(Arc::new);
    let state = Arc::new(State {
        tokens,
        store: store.for_class(Class::Read),
        writer,
        auditor,
        publisher,
        revoker,
        limits,
        traces: traces.clone(),
        redis: pulse,
        clock,
        everybody,
        tickets,
        unsent: Arc::default(),
        origins,
        demonstration,
        trusted_proxies,
        stopping,
    });
    let (stop_public, stop_admin) = (shutdown.clone(), shutdown.clone());
    let affordable = descriptors::for_strangers(config.database.pool.total + OWN_DESCRIPTORS);
    let connections = descriptors::lowered("MAX_CONNECTIONS", config.max_connections, affordable);
    let server = server::Server::new(listeners.public, api::public(state.clone()), connections);
    let server = server.run(async move { stop_public.begun().await }, config.shutdown_timeout);
    let (starting, ended) = (state.revoker.clone(), shutdown.clone());
    let public = async move {
        // Until then every token would be refused with 503, and a balancer that has not noticed a restart sends requests
        // all the while. They wait in the kernel's queue for the moment that it takes.
        tokio::select! {
            _ = timeout(START_PATIENCE, starting.loaded()) => {}
            () = ended.begun() => {}
        }
        server.await;
        Ok(())
    };
    let admin = Server::new_with_acceptor(TcpAcceptor::from_tokio(listeners.admin)?).run_with_graceful_shutdown(
        api::admin(state, metrics),
        async move { stop_admin.begun().await },
        Some(Duration::from_secs(1)),
    );
    // Servers drop their state when they end; with the last of it the writer's and then the outbox's queue close,
    // and their tasks end by themselves once both are empty.
    let serving = async { tokio::try_join!(public, admin) };
    match fit {
        Some(()) => drop(serving.await?),
        None => tokio::select! {
            served = serving => drop(served?),
            Err(wrong) = checking => return Err(wrong.into()),
        },
    }
    if !shutdown.finish(config.shutdown_timeout).await {
        tracing::warn!("some tasks did not end in time; what they held is in the outbox");
    }
    watching.abort();
    if let Some(traces) = traces {
        traces.finish().await;
    }
    Ok(())
}

/// Once the database has answered: says so when the service's role may do more than it needs.
async fn warn_of_role(store: &Store, revoker: &Revoker) {
    revoker.loaded().await;
    match store.excess_of_role().await {
        Ok(Some(what)) => tracing::warn!(
            "the role of DATABASE_URL {what}: whoever takes over this service can change the audit trail; name another role with \
             SERVICE_ROLE when you migrate, and serve as that one"
        ),
        Ok(None) => {}
        Err(error) => tracing::debug!(%error, "the role's rights cannot be read"),
    }
}

/// What begins a while after `stopping` has: until then everything goes on, so that a request that a load balancer still
/// sends is served, not refused.
fn after(stopping: Shutdown, drain: Duration) -> Shutdown {
    let shutdown = Shutdown::new();
    let begin = shutdown.clone();
    tokio::spawn(async move {
        stopping.begun().await;
        sleep(drain).await;
        begin.begin();
    });
    shutdown
}
