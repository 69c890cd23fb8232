//! Connection pools, one per class of work, so that no class can exhaust the connections of another.
//!
//! Together they have `DATABASE_POOL_SIZE` connections. Every wait is bounded: for a connection, a lock, a statement, and the use
//! as a whole.

pub(in crate::store) mod class;
pub(in crate::store) mod connect;
pub(in crate::store) mod guard;
pub(in crate::store) mod hosts;
pub(in crate::store) mod server_identity;
mod session;

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{
    Connect, Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolBuilder, RecyclingMethod, Runtime, Timeouts,
};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::Config;

use crate::store::StoreError;
use crate::store::settings::PoolSizes;
use class::{Class, ClassLimits};
use connect::Connector;
use server_identity::ServerIdentity;

/// Wait for a free connection.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(2);
/// Wait for a new connection. Longer, because a busy server is slow to handshake and retries would add load.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// Connections of [`Class::Write`] that marks leave to the audit trail.
const RESERVED_FOR_AUDIT: usize = 1;

/// Current use of a pool.
#[derive(Debug, Clone, Copy)]
pub struct PoolState {
    /// The class.
    pub class: Class,
    /// Connections in use.
    pub in_use: usize,
    /// Idle connections.
    pub idle: usize,
    /// Uses that wait for a connection.
    pub waiting: usize,
}

/// All pools.
pub(in crate::store) struct Pools {
    pools: [Pool; 5],
    marks: Semaphore,
    server: Arc<ServerIdentity>,
}

/// What distinguishes a pool.
#[derive(Clone, Copy)]
pub(in crate::store) struct PoolSettings {
    /// How the server names its sessions, after `api-service`.
    pub(in crate::store) name: &'static str,
    pub(in crate::store) limits: ClassLimits,
    pub(in crate::store) size: usize,
    /// Wait for a free connection.
    pub(in crate::store) wait: Duration,
    /// Wait for a new connection.
    pub(in crate::store) connect: Duration,
}

/// A pool of connections to `postgres`.
pub(in crate::store) fn builder(
    mut postgres: Config,
    connector: impl Connect + 'static,
    settings: PoolSettings,
) -> PoolBuilder {
    let PoolSettings { name, limits, size, wait, connect } = settings;
    let options = session::options(postgres.get_options(), limits);
    postgres
        .connect_timeout(connect)
        .tcp_user_timeout(limits.deadline)
        .application_name(format!("api-service {name}"))
        .options(options);
    let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    Pool::builder(Manager::from_connect(postgres, connector, config))
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .timeouts(Timeouts { wait: Some(wait), create: Some(connect), recycle: Some(connect) })
        .post_create(Hook::sync_fn(|_, _| {
            metrics::counter!("ehr_chat_database_connections_total").increment(1);
            Ok(())
        }))
}

impl Pools {
    pub(in crate::store) fn new(
        postgres: &Config,
        connector: &Connector,
        sizes: &PoolSizes,
        server: &Arc<ServerIdentity>,
    ) -> Result<Self, StoreError> {
        let make = |class: Class| {
            let known = server.clone();
            builder(
                postgres.clone(),
                connector.clone().identifying(server.clone()),
                PoolSettings {
                    name: class.name(),
                    limits: class.limits(),
                    size: class.size(sizes),
                    wait: WAIT_TIMEOUT,
                    connect: CONNECT_TIMEOUT,
                },
            )
            // An older connection leads to a server that has been replaced.
            .pre_recycle(Hook::sync_fn(move |_, metrics| match known.is_older(metrics.created) {
                true => Err(HookError::message("the server is another one")),
                false => Ok(()),
            }))
            .build()
            .map_err(StoreError::internal)
        };
        let [send, write, read, background, watch] = Class::ALL.map(make);
        let marks = Semaphore::new(sizes.write.saturating_sub(RESERVED_FOR_AUDIT).max(1));
        Ok(Self { pools: [send?, write?, read?, background?, watch?], marks, server: server.clone() })
    }

    /// The server, as its connections identified it.
    pub(in crate::store) fn server(&self) -> &Arc<ServerIdentity> {
        &self.server
    }

    /// Takes a connection.
    pub(in crate::store) async fn get(&self, class: Class) -> Result<Object, StoreError> {
        let [send, write, read, background, watch] = &self.pools;
        let pool = match class {
            Class::Send => send,
            Class::Write => write,
            Class::Read => read,
            Class::Background => background,
            Class::Watch => watch,
        };
        Ok(pool.get().await?)
    }

    /// Waits for a permit to mark. Background marks run one after the other and need none.
    pub(in crate::store) async fn acquire_mark_permit(
        &self,
        class: Class,
    ) -> Result<Option<SemaphorePermit<'_>>, StoreError> {
        if class != Class::Write {
            return Ok(None);
        }
        match tokio::time::timeout(WAIT_TIMEOUT, self.marks.acquire()).await {
            Ok(permit) => Ok(Some(permit.map_err(StoreError::internal)?)),
            Err(_) => Err(StoreError::Unavailable("too many marks are being written".into())),
        }
    }

    /// Current use of all pools.
    pub(in crate::store) fn state(&self) -> [PoolState; 5] {
        let mut classes = Class::ALL.into_iter();
        self.pools.each_ref().map(|pool| {
            let status = pool.status();
            let in_use = status.size.saturating_sub(status.available);
            let class = classes.next().unwrap_or(Class::Watch);
            PoolState { class, in_use, idle: status.available, waiting: status.waiting }
        })
    }
}
