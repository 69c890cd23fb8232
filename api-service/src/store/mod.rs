//! PostgreSQL: the only module that names tokio-postgres. Every function takes the location (tenant).
//!
//! - one file per table, and [`sends`] and [`marks`] for the two transactions that span tables
//! - [`audit`]: chains, rows and readers of the audit trail
//! - [`keys`]: data keys and the jobs that change them
//! - [`outbox`]: the queue of events that Redis may lack
//! - [`pool`]: connections per class of work, and their sessions
//! - [`replica`]: reads from a replica
//! - [`admin`]: migrations, grants, and the check of the schema
//!
//! Every use ends within the deadline of its [`Class`]: a database that hangs causes errors, never stuck requests.

mod admin;
mod audit;
mod conversations;
mod data_keys;
mod database_url;
mod error;
mod first_unread;
mod keys;
mod marks;
mod messages;
mod outbox;
mod pool;
mod replica;
mod revocations;
mod row_locks;
mod sends;
pub mod settings;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use admin::migrate::migrate;
pub use audit::message_reader::UnsentMessage;
pub use audit::position::AuditPosition;
pub use audit::reader::{AuditReader, Filter, RowCursor, Snapshot, StoredRow};
use deadpool_postgres::Object;
pub use error::StoreError;
pub use keys::encryption_backfill::PlainMessage;
pub use keys::master_keys::{KeyMismatchError, RewrapReport, UnopenableKey};
pub use keys::purge::PurgeStep;
pub use keys::running_services::RunningServicesError;
pub use outbox::{
    DeferredEntry, FailedRow, LeasedBatch, OutboxDepth, OutboxEntry, OutboxEvent, PartlyPublished, REASONS,
    RelayOutcome,
};
pub use pool::PoolState;
#[cfg(test)]
pub(crate) use pool::WAIT_TIMEOUT;
pub use pool::class::Class;
pub(crate) use replica::Fallback;
pub use revocations::{Position, RevocationPage};
pub use sends::BatchResult;

use shared::contract::audit::denials::DenialAggregator;
use shared::kit::telemetry::trace;
use time::OffsetDateTime;
use tokio::sync::Notify;

use crate::audit::key::AuditKey;
use crate::detached_request::caller_disconnected;
use crate::envelope::EnvelopeKeys;
use crate::store::settings::{DatabaseConfig, ReplicaConfig};
use audit::chains::Chains;
use pool::Pools;
use pool::connect::Connector;
use pool::guard::ConnectionGuard;
use pool::server_identity::ServerIdentity;
use replica::Replica;
use sends::KnownConversations;

/// The database, used by one [`Class`] of work. Clones share its connections.
#[derive(Clone)]
pub struct Store {
    pools: Arc<Pools>,
    class: Class,
    chains: Arc<Chains>,
    known_conversations: Arc<KnownConversations>,
    /// Keys of content at rest; `None` when encryption is off.
    envelope_keys: Option<Arc<EnvelopeKeys>>,
    /// Counts marks that change nothing, which a client could repeat without bound.
    refusals: Arc<DenialAggregator>,
    /// Notified of every failure, so that the monitor checks at once.
    failures: Arc<Notify>,
    /// Whether commits wait for a synchronous standby that is away, so that another one would only wait with them.
    commits_blocked: Arc<AtomicBool>,
    replica: Option<Arc<Replica>>,
    /// What a replica must show before it may answer a read.
    read_after: Option<AuditPosition>,
}

impl Store {
    /// A store of the background class, which connects on first use. `audit` is the key of the audit trail.
    ///
    /// # Errors
    /// When the URL is invalid, or needs TLS without any certificate authority.
    pub fn new(config: &DatabaseConfig, audit: AuditKey) -> Result<Self, StoreError> {
        let (postgres, connector) = Connector::new(&config.url, config.ca.as_ref())?;
        let server: Arc<ServerIdentity> = Arc::default();
        let pools = Arc::new(Pools::new(&postgres, &connector, &config.pool, &server)?);
        Ok(Self {
            pools,
            class: Class::Background,
            chains: Chains::new(audit, server),
            known_conversations: Arc::default(),
            envelope_keys: None,
            refusals: Arc::default(),
            failures: Arc::default(),
            commits_blocked: Arc::default(),
            replica: None,
            read_after: None,
        })
    }

    /// With these keys of content.
    #[must_use]
    pub fn with_envelope_keys(self, envelope_keys: Option<Arc<EnvelopeKeys>>) -> Self {
        Self { envelope_keys, ..self }
    }

    /// With a replica, if one is configured. It is used once [`Store::watch_replica`] runs.
    ///
    /// # Errors
    /// As [`Store::new`].
    pub fn with_replica(self, config: Option<&ReplicaConfig>) -> Result<Self, StoreError> {
        let replica = config.map(|config| Replica::new(config, self.pools.server().clone())).transpose()?;
        Ok(Self { replica: replica.map(Arc::new), ..self })
    }

    /// Checks the replica again and again; never returns.
    pub async fn watch_replica(&self) {
        match &self.replica {
            Some(replica) => replica.watch().await,
            None => std::future::pending().await,
        }
    }

    /// Whether a replica may answer reads now. Then write the audit entry of a read first, and read with [`Store::after`].
    #[must_use]
    pub fn admits_replica_read(&self) -> bool {
        self.replica.as_ref().is_some_and(|replica| replica.admit())
    }

    /// The same database, for a read whose audit entry is at this position: a replica may answer if it shows this entry.
    #[must_use]
    pub fn after(&self, position: AuditPosition) -> Self {
        Self { read_after: Some(position), ..self.clone() }
    }

    /// The counters of marks without effect. The audit writer writes the counts.
    #[must_use]
    pub fn refusals(&self) -> Arc<DenialAggregator> {
        self.refusals.clone()
    }

    /// The same database with the connections of another class.
    #[must_use]
    pub fn for_class(&self, class: Class) -> Self {
        Self { class, ..self.clone() }
    }

    /// Checks that the database answers.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.with_connection(async |client| Ok(client.batch_execute("select 1").await?)).await
    }

    /// Notified of every failure for which the database may be to blame.
    pub(crate) fn failure_signal(&self) -> Arc<Notify> {
        self.failures.clone()
    }

    /// Reads the database's clock.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn clock(&self) -> Result<OffsetDateTime, StoreError> {
        self.with_connection(async |client| {
            let statement = client.prepare_cached("select clock_timestamp()").await?;
            Ok(client.query_one(&statement, &[]).await?.try_get(0)?)
        })
        .await
    }

    /// The use of connections per class.
    #[must_use]
    pub fn pools(&self) -> [PoolState; 5] {
        self.pools.state()
    }

    /// The sessions of this role whose commit waits for a synchronous standby, each with the start of its statement in microseconds,
    /// and what `synchronous_standby_names` says.
    ///
    /// # Errors
    /// [`StoreError`]
    pub(crate) async fn waiting_commits(&self) -> Result<(Vec<(i32, i64)>, String), StoreError> {
        // A service sees the sessions of its own role only. Those whose client has gone wait on and count too.
        const WAITING_COMMITS: &str = "select coalesce(array_agg(pid), '{}'),
                coalesce(array_agg((extract(epoch from state_change) * 1000000)::bigint), '{}'),
                current_setting('synchronous_standby_names')
            from pg_stat_activity where wait_event = 'SyncRep' and datname = current_database()";
        self.with_connection(async |client| {
            let row = client.query_one(&client.prepare_cached(WAITING_COMMITS).await?, &[]).await?;
            let (pids, starts): (Vec<i32>, Vec<i64>) = (row.try_get(0)?, row.try_get(1)?);
            Ok((pids.into_iter().zip(starts).collect(), row.try_get(2)?))
        })
        .await
    }

    /// Rejects all work that commits, or no longer does. A commit that waits keeps its session on the server, even when its client
    /// has gone; retries would use up all connections.
    pub(crate) fn block_commits(&self, is_blocked: bool) {
        self.commits_blocked.store(is_blocked, Ordering::Relaxed);
    }

    /// Runs `work`, which only reads, on the replica if it may answer, and otherwise as [`Self::with_connection`] does. `work` may
    /// run twice.
    async fn with_read_connection<T>(
        &self,
        work: impl AsyncFnOnce(&mut Object) -> Result<T, StoreError> + Copy,
    ) -> Result<T, StoreError> {
        if let (Some(replica), Some(position)) = (&self.replica, self.read_after) {
            let _span = trace::child_span("postgresql replica");
            if let Some(done) = replica.read(position, work).await? {
                return Ok(done);
            }
        }
        self.with_connection(work).await
    }

    /// Runs `work` with a connection of this class. On timeout the connection is closed, because a statement may still run on it.
    /// If the caller disconnects before a connection is free, nothing is run.
    async fn with_connection<T>(
        &self,
        work: impl AsyncFnOnce(&mut Object) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let _span = trace::child_span("postgresql");
        if self.class.commits() && self.commits_blocked.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable("commits wait for a synchronous standby".into()));
        }
        let server = self.pools.server();
        let doubtful_commits = server.doubtful_commits();
        let done = within(self.class.limits().deadline, async {
            let object = tokio::select! {
                object = self.pools.get(self.class) => object?,
                () = caller_disconnected() => return Err(StoreError::Abandoned),
            };
            let mut connection = ConnectionGuard::new(object);
            let done = work(connection.client()?).await;
            if done.as_ref().is_err_and(StoreError::is_read_only_server) {
                server.demoted();
                return done;
            }
            connection.release();
            done
        })
        .await;
        let done = match done {
            // Perhaps it was this commit: PostgreSQL reported success, and a failover may lose it.
            Ok(_) if self.class.commits() && server.doubtful_commits() != doubtful_commits => {
                Err(StoreError::Unavailable("a commit may be missing on the synchronous standby".into()))
            }
            done => done,
        };
        if matches!(done, Err(StoreError::Unavailable(_) | StoreError::TimedOut(_) | StoreError::Internal(_)))
            && self.class != Class::Watch
        {
            self.failures.notify_one();
        }
        done
    }
}

/// Reads rows. The driver panics on times that the `time` crate cannot hold (`infinity`).
fn without_panic<T>(read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
    read.unwrap_or_else(|_| Err(StoreError::internal("a row holds a value out of range")))
}

async fn within<T>(deadline: Duration, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match tokio::time::timeout(deadline, work).await {
        Ok(done) => done,
        Err(_) => Err(StoreError::Unavailable("no answer from the database in time".into())),
    }
}
