//! PostgreSQL: the only place that names tokio-postgres. One file a table; every function takes the tenant.
//!
//! Whatever is asked of it ends within [`DEADLINE`]: a database that hangs costs an error, never a stuck request.

mod audit;
mod connect;
mod conversations;
mod data_keys;
mod error;
mod grants;
mod master_keys;
mod messages;
mod migrate;
mod outbox;
mod receipts;
mod revocations;
mod sealing;
mod sends;
mod trail;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use deadpool_postgres::{Hook, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime, Timeouts};
pub use error::StoreError;
pub use grants::Role;
pub use master_keys::WrongKeys;
pub use migrate::migrate;
pub use outbox::{OutboxEntry, OutboxEvent};
pub use sends::{Done, SendOutcome};
pub use trail::{Filter, Record, Trail};

use shared::trace;

use crate::audit::key::AuditKey;
use crate::config::DatabaseConfig;
use crate::vault::Vault;
use audit::Chains;
use connect::Connector;

/// Longest a use of the database may take, from asking for a connection to the answer.
const DEADLINE: Duration = Duration::from_secs(6);
/// What the server allows one statement. Shorter than [`DEADLINE`], so that it gives up before we do.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(4);
/// How long to wait for a free connection, or a new one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Connections to PostgreSQL at a moment.
#[derive(Debug, Clone, Copy)]
pub struct PoolState {
    /// Lent.
    pub in_use: usize,
    /// Open and free.
    pub idle: usize,
    /// Uses that wait for one.
    pub waited_for: usize,
}

/// The database. Clones share its connections.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    chains: Arc<Chains>,
    /// What seals and opens content; none when that is not configured.
    vault: Option<Arc<Vault>>,
}

impl Store {
    /// A store that connects when it is first used. `audit` is what it makes the hashes of the audit trail with.
    ///
    /// # Errors
    /// When the URL is not one of PostgreSQL, or contradicts DATABASE_CA_FILE, or wants TLS where nobody vouches for servers.
    pub fn new(config: &DatabaseConfig, audit: AuditKey) -> Result<Self, StoreError> {
        let (mut postgres, connector) = Connector::new(config)?;
        postgres.connect_timeout(CONNECT_TIMEOUT).tcp_user_timeout(DEADLINE).application_name("api-service");
        let millis = STATEMENT_TIMEOUT.as_millis();
        let options = postgres.get_options().unwrap_or_default().to_owned();
        // Statements are planned once and for all, often when the tables are as good as empty; then PostgreSQL would read
        // them whole, for as long as the connection lives. Every statement of ours has its index. To plan anew for each
        // set of values costs more than half of a send, and to compile what reads a few rows even more.
        postgres.options(format!(
            "{options} -c enable_seqscan=off -c enable_bitmapscan=off -c plan_cache_mode=force_generic_plan -c jit=off \
             -c statement_timeout={millis} -c idle_in_transaction_session_timeout={millis} -c timezone=UTC"
        ));
        let connections: Arc<AtomicU64> = Arc::default();
        let chains = Chains::new(audit, connections.clone());
        let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = Pool::builder(Manager::from_connect(postgres, connector, manager))
            .max_size(config.pool_size)
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(CONNECT_TIMEOUT),
                create: Some(CONNECT_TIMEOUT),
                recycle: Some(CONNECT_TIMEOUT),
            })
            .post_create(Hook::sync_fn(move |_, _| {
                connections.fetch_add(1, Ordering::AcqRel);
                metrics::counter!("database_connections_total").increment(1);
                Ok(())
            }))
            .build()
            .map_err(StoreError::internal)?;
        Ok(Self { pool, chains, vault: None })
    }

    /// The same, with content sealed and opened by `vault`.
    #[must_use]
    pub fn with_vault(self, vault: Option<Arc<Vault>>) -> Self {
        Self { vault, ..self }
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.with(async |client| Ok(client.batch_execute("select 1").await?)).await
    }

    /// How its connections are used.
    #[must_use]
    pub fn pool(&self) -> PoolState {
        let status = self.pool.status();
        let in_use = status.size.saturating_sub(status.available);
        PoolState { in_use, idle: status.available, waited_for: status.waiting }
    }

    /// Lends a connection for one use. A use that does not end in time costs the connection, since a statement
    /// may still run on it.
    async fn with<T>(&self, work: impl AsyncFnOnce(&mut Object) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let _span = trace::child("postgresql");
        within_deadline(async {
            let mut client = Lent(Some(self.pool.get().await?));
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
        .await
    }
}

/// A connection that does not go back to the pool when its use is cut short.
struct Lent(Option<Object>);

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            drop(Object::take(object));
        }
    }
}

async fn within_deadline<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(done) => done,
        Err(_) => Err(StoreError::Unavailable("no answer from the database in time".into())),
    }
}
