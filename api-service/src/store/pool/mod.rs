//! Connections to PostgreSQL, in classes: what one class does to its connections costs no other class one of them.
//!
//! The sum of all classes is `DATABASE_POOL_SIZE`. Every wait is bounded: for a connection, for a lock, for a statement, and for
//! the use as a whole.

pub(in crate::store) mod connect;
pub(in crate::store) mod server_identity;
mod session;

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime, Timeouts};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::Config;

use crate::store::StoreError;
use crate::store::settings::PoolSizes;
use connect::Connector;
use server_identity::ServerIdentity;

/// How long to wait for a free connection.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait for a new one: longer, since a busy server takes its time over a handshake, and those who gave up too early would
/// only keep it busier.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// Connections of [`Class::Write`] that marks leave to the audit trail.
const RESERVED_FOR_AUDIT: usize = 1;

/// What the database is used for. Each class has connections and timeouts of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The batches of sends, one at a time, and the look which conversations are locked. Others wait for a lock for as long as
    /// they like; a batch holds up everybody who sends, and goes on without what it does not get.
    Send,
    /// The audit trail, marks and revocations: what a caller waits for, and what must stay fast.
    Write,
    /// Pages that callers read: as slow as the disk.
    Read,
    /// The outbox, the gateways' streams, and the commands of operators: nobody waits for a single one.
    Background,
    /// The look whether the database is there, and fit, and what was revoked elsewhere. Connections of its own, so that no load makes the
    /// service seem unready, or has it accept a token that another instance has called revoked.
    Watch,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct ClassLimits {
    /// From asking for a connection to the end of the use.
    pub(in crate::store) deadline: Duration,
    /// What the server allows one statement, and a transaction between two. Shorter than `deadline`, so that the server gives
    /// up before we do, and the connection stays.
    pub(in crate::store) statement: Duration,
    /// What the server allows a statement to wait for a lock.
    pub(in crate::store) lock: Duration,
}

impl Class {
    pub(in crate::store) const ALL: [Self; 5] = [Self::Send, Self::Write, Self::Read, Self::Background, Self::Watch];

    /// As metrics name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Write => "write",
            Self::Read => "read",
            Self::Background => "background",
            Self::Watch => "watch",
        }
    }

    pub(in crate::store) fn limits(self) -> ClassLimits {
        let [deadline, statement, lock] = match self {
            // Two that send in one conversation wait for each other's commit, which takes some milliseconds.
            Self::Send => [3_200, 2_200, 100],
            Self::Write => [5_000, 4_000, 2_000],
            // Reads take no lock that a write holds; a migration's is the only one.
            Self::Read => [6_000, 4_000, 1_000],
            Self::Background => [10_000, 8_000, 2_000],
            Self::Watch => [5_000, 2_000, 500],
        }
        .map(Duration::from_millis);
        ClassLimits { deadline, statement, lock }
    }

    /// The max_duration that one use takes.
    #[cfg(test)]
    pub(crate) fn max_duration(self) -> Duration {
        self.limits().deadline
    }

    fn size(self, sizes: &PoolSizes) -> usize {
        match self {
            Self::Send => PoolSizes::SEND,
            Self::Write => sizes.write,
            Self::Read => sizes.read(),
            Self::Background => sizes.background,
            Self::Watch => PoolSizes::WATCH,
        }
    }
}

/// Connections to PostgreSQL at a moment.
#[derive(Debug, Clone, Copy)]
pub struct PoolState {
    /// Which.
    pub class: Class,
    /// Lent.
    pub in_use: usize,
    /// Open and free.
    pub idle: usize,
    /// Uses that wait for one.
    pub waited_for: usize,
}

/// All connections.
pub(in crate::store) struct Pools {
    pools: [Pool; 5],
    marks: Semaphore,
}

impl Pools {
    pub(in crate::store) fn new(
        postgres: &Config,
        connector: &Connector,
        sizes: &PoolSizes,
        server: &Arc<ServerIdentity>,
    ) -> Result<Self, StoreError> {
        let make = |class: Class| {
            let mut postgres = postgres.clone();
            let limits = class.limits();
            let options = session::options(postgres.get_options(), limits);
            postgres
                .connect_timeout(CONNECT_TIMEOUT)
                .tcp_user_timeout(limits.deadline)
                .application_name(format!("api-service {}", class.name()))
                .options(options);
            let known = server.clone();
            Pool::builder(Manager::from_connect(
                postgres,
                connector.clone().identifying(server.clone()),
                ManagerConfig { recycling_method: RecyclingMethod::Fast },
            ))
            .max_size(class.size(sizes))
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(WAIT_TIMEOUT),
                create: Some(CONNECT_TIMEOUT),
                recycle: Some(CONNECT_TIMEOUT),
            })
            .post_create(Hook::sync_fn(|_, _| {
                metrics::counter!("database_connections_total").increment(1);
                Ok(())
            }))
            // A connection that is older than what is known of the server leads to another server.
            .pre_recycle(Hook::sync_fn(move |_, metrics| match known.is_older(metrics.created) {
                true => Err(HookError::message("the server is another one")),
                false => Ok(()),
            }))
            .build()
            .map_err(StoreError::internal)
        };
        let [send, write, read, background, watch] = Class::ALL.map(make);
        let marks = Semaphore::new(sizes.write.saturating_sub(RESERVED_FOR_AUDIT).max(1));
        Ok(Self { pools: [send?, write?, read?, background?, watch?], marks })
    }

    /// Lends a connection.
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

    /// Waits until marks leave room for one more. Background marks come one transaction after the other, and need no leave.
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

    /// How connections are used.
    pub(in crate::store) fn state(&self) -> [PoolState; 5] {
        let mut classes = Class::ALL.into_iter();
        self.pools.each_ref().map(|pool| {
            let status = pool.status();
            let in_use = status.size.saturating_sub(status.available);
            let class = classes.next().unwrap_or(Class::Watch);
            PoolState { class, in_use, idle: status.available, waited_for: status.waiting }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_gives_up_before_we_do() {
        for class in Class::ALL {
            let ClassLimits { deadline, statement, lock } = class.limits();
            assert!(lock < statement && statement < deadline, "{class:?}");
        }
    }
}
