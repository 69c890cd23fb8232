//! PostgreSQL: the only place that names tokio-postgres. One file a table; every function takes the tenant.
//!
//! Whatever is asked of it ends within the deadline of its [`Class`]: a database that hangs costs an error, never a stuck request.

mod admin;
mod audit;
mod conversations;
mod error;
mod keys;
mod messages;
mod outbox;
mod pool;
mod receipts;
mod revocations;
mod row_locks;
mod sends;
pub mod settings;

use std::sync::Arc;
use std::time::Duration;

pub use admin::grants::Role;
pub use admin::migrate::migrate;
pub use audit::message_reader::UnsentMessage;
pub use audit::reader::{AuditReader, Filter, RowCursor, Snapshot, StoredRow};
use deadpool_postgres::Object;
pub use error::StoreError;
pub use keys::encryption_backfill::PlainMessage;
pub use keys::master_keys::{KeyMismatchError, RewrapReport, UnopenableKey};
pub use keys::purge::PurgeStep;
pub use keys::running_services::RunningServicesError;
pub use outbox::{DeferredEntry, Depth, FailedRow, OutboxEntry, OutboxEvent, PartlyPublished, REASONS, Relayed, Taken};
#[cfg(test)]
pub(crate) use pool::WAIT_TIMEOUT;
pub use pool::{Class, PoolState};
pub use revocations::{Position, RevocationPage};
pub use sends::{BatchResult, SendOutcome};

use shared::refusals::Refusals;
use shared::trace;
use time::OffsetDateTime;
use tokio::sync::Notify;

use crate::audit::key::AuditKey;
use crate::detached_request::caller_disconnected;
use crate::envelope::EnvelopeKeys;
use crate::store::settings::DatabaseConfig;
use audit::chains::Chains;
use pool::Pools;
use pool::connect::Connector;
use pool::server_identity::ServerIdentity;

/// The database, as one [`Class`] of work uses it. Clones share its connections.
#[derive(Clone)]
pub struct Store {
    pools: Arc<Pools>,
    class: Class,
    chains: Arc<Chains>,
    /// What seals and opens content; none when that is not configured.
    vault: Option<Arc<EnvelopeKeys>>,
    /// Counts what anybody can do as often as it likes without changing anything.
    refusals: Arc<Refusals>,
    /// Told whenever something has failed, so that whoever looks after the database looks at once.
    failures: Arc<Notify>,
}

impl Store {
    /// A store that connects when it is first used, for work in the background. `audit` is what it makes the hashes of the
    /// audit trail with.
    ///
    /// # Errors
    /// When the URL is not one of PostgreSQL, or contradicts DATABASE_CA_FILE, or wants TLS where nobody vouches for servers.
    pub fn new(config: &DatabaseConfig, audit: AuditKey) -> Result<Self, StoreError> {
        let (postgres, connector) = Connector::new(config)?;
        let server: Arc<ServerIdentity> = Arc::default();
        let pools = Arc::new(Pools::new(&postgres, &connector, &config.pool, &server)?);
        Ok(Self {
            pools,
            class: Class::Background,
            chains: Chains::new(audit, server),
            vault: None,
            refusals: Arc::default(),
            failures: Arc::default(),
        })
    }

    /// The same, with content sealed and opened by `vault`.
    #[must_use]
    pub fn with_envelope_keys(self, vault: Option<Arc<EnvelopeKeys>>) -> Self {
        Self { vault, ..self }
    }

    /// What counts marks that change nothing: whoever writes the trail writes down the counts.
    #[must_use]
    pub fn refusals(&self) -> Arc<Refusals> {
        self.refusals.clone()
    }

    /// The same database, through the connections of another class.
    #[must_use]
    pub fn for_class(&self, class: Class) -> Self {
        Self { class, ..self.clone() }
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.with(async |client| Ok(client.batch_execute("select 1").await?)).await
    }

    /// Told whenever something has failed that the database may be to blame for.
    pub(crate) fn failure_signal(&self) -> Arc<Notify> {
        self.failures.clone()
    }

    /// What the database's clock shows.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn clock(&self) -> Result<OffsetDateTime, StoreError> {
        self.with(async |client| {
            let statement = client.prepare_cached("select clock_timestamp()").await?;
            Ok(client.query_one(&statement, &[]).await?.try_get(0)?)
        })
        .await
    }

    /// How the connections of each class are used.
    #[must_use]
    pub fn pools(&self) -> [PoolState; 5] {
        self.pools.state()
    }

    /// Lends a connection for one use. A use that does not end in time costs the connection, since a statement
    /// may still run on it. A use whose caller has gone away before it has a connection does not begin.
    async fn with<T>(&self, work: impl AsyncFnOnce(&mut Object) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let _span = trace::child("postgresql");
        let done = within(self.class.limits().deadline, async {
            let object = tokio::select! {
                object = self.pools.get(self.class) => object?,
                () = caller_disconnected() => return Err(StoreError::Abandoned),
            };
            let mut client = ConnectionGuard(Some(object));
            let done = match &mut client.0 {
                Some(object) => work(object).await,
                None => Err(StoreError::internal("no connection")),
            };
            // From here on the connection is known to be idle.
            if let Some(object) = client.0.take() {
                drop(object);
            }
            done
        })
        .await;
        if matches!(done, Err(StoreError::Unavailable(_) | StoreError::TimedOut(_) | StoreError::Internal(_)))
            && self.class != Class::Watch
        {
            self.failures.notify_one();
        }
        done
    }
}

/// A connection that does not go back to the pool when its use is cut short.
struct ConnectionGuard(Option<Object>);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            drop(Object::take(object));
        }
    }
}

/// Reads rows. A time that PostgreSQL can hold and we cannot (`infinity`) makes the driver panic.
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
