//! Reads from a replica, which relieve the primary.
//!
//! A read comes here after its audit row was committed on the primary. The replica answers only if it shows this row within
//! [`MAX_WAIT`]: then it also shows all that was committed before, such as what the same caller has just written. In every other
//! case the primary answers. While the replica cannot be used, [`breaker`] keeps reads away from it.

mod breaker;
mod fallback;
mod monitor;

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Object, Pool, PoolError};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::config::TargetSessionAttrs;

use super::audit::position::AuditPosition;
use super::pool::class::ClassLimits;
use super::pool::connect::{Connector, ReplicaConnector};
use super::pool::guard::ConnectionGuard;
use super::pool::server_identity::ServerIdentity;
use super::pool::{self, PoolSettings};
use super::settings::ReplicaConfig;
use crate::detached_request::caller_disconnected;
use crate::store::error::{StoreError, is_access_mismatch};
use breaker::CircuitBreaker;
pub(crate) use fallback::Fallback;
use fallback::ReplicaError;

/// How long a read waits for the replica to show its audit row, and for a free connection.
const MAX_WAIT: Duration = Duration::from_millis(50);
/// Between the first two looks. Each further pause is twice as long.
const FIRST_DELAY: Duration = Duration::from_millis(1);
/// Time limit of one look. It reads one row by its key.
const CHECK_TIMEOUT: Duration = Duration::from_millis(250);
/// Time limit of a new connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Time limits of a read. The primary must have time to answer within the deadline of the request.
const LIMITS: ClassLimits = ClassLimits {
    deadline: Duration::from_millis(1_500),
    statement: Duration::from_millis(1_000),
    lock: Duration::from_millis(500),
};

/// The connections to the replica, and whether it can be used.
pub(in crate::store) struct Replica {
    pool: Pool,
    breaker: CircuitBreaker,
    primary: Arc<ServerIdentity>,
}

impl Replica {
    /// A replica of `primary`, which is connected to on first use. No read goes there before [`Replica::watch`] has checked it.
    pub(in crate::store) fn new(config: &ReplicaConfig, primary: Arc<ServerIdentity>) -> Result<Self, StoreError> {
        let (mut postgres, connector) = Connector::new(&config.url, config.ca.as_ref())?;
        // Of several hosts the first that is no primary.
        postgres.target_session_attrs(TargetSessionAttrs::ReadOnly);
        let settings = PoolSettings {
            name: "replica",
            limits: LIMITS,
            size: config.connections,
            wait: MAX_WAIT,
            connect: CONNECT_TIMEOUT,
        };
        let pool = pool::builder(postgres, ReplicaConnector::new(connector), settings)
            .build()
            .map_err(StoreError::internal)?;
        Ok(Self { pool, breaker: CircuitBreaker::default(), primary })
    }

    /// Whether reads may go to the replica now. If not, the primary will answer, which is counted here.
    pub(in crate::store) fn admit(&self) -> bool {
        match self.breaker.check() {
            Ok(()) => true,
            Err(reason) => {
                reason.count();
                false
            }
        }
    }

    /// Runs `work` on the replica, which shows `position` by then. `None`: the primary must answer.
    ///
    /// # Errors
    /// [`StoreError::Abandoned`] only.
    pub(in crate::store) async fn read<T>(
        &self,
        position: AuditPosition,
        work: impl AsyncFnOnce(&mut Object) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        if !self.admit() {
            return Ok(None);
        }
        let read = timeout(LIMITS.deadline, self.read_after(position, work)).await;
        let error = match read.unwrap_or(Err(ReplicaError::TooSlow)) {
            Ok(done) => {
                self.breaker.succeeded();
                metrics::counter!("ehr_chat_replica_reads_total").increment(1);
                return Ok(Some(done));
            }
            Err(ReplicaError::Store(StoreError::Abandoned)) => return Err(StoreError::Abandoned),
            Err(error) => error,
        };
        let reason = error.reason();
        reason.count();
        if error.affects_all_reads() {
            let lacking = (reason == Fallback::Behind).then_some(position);
            self.breaker.open(reason, &error, lacking);
        } else {
            tracing::debug!(%error, "read falls back to the primary");
        }
        Ok(None)
    }

    async fn read_after<T>(
        &self,
        position: AuditPosition,
        work: impl AsyncFnOnce(&mut Object) -> Result<T, StoreError>,
    ) -> Result<T, ReplicaError> {
        let (start, mut delay) = (Instant::now(), FIRST_DELAY);
        loop {
            let mut connection = tokio::select! {
                object = self.pool.get() => ConnectionGuard::new(object?),
                () = caller_disconnected() => return Err(StoreError::Abandoned.into()),
            };
            let client = connection.client()?;
            // A statement of its own, before those of the read: their snapshots are newer. A condition within the read could hold
            // although the snapshot of the read is older.
            if shows(client, &position).await? {
                metrics::histogram!("ehr_chat_replica_wait_seconds").record(start.elapsed());
                let done = work(client).await;
                connection.release();
                return Ok(done?);
            }
            // Another read may use it meanwhile.
            connection.release();
            let left = MAX_WAIT.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(ReplicaError::Behind);
            }
            sleep(delay.min(left)).await;
            delay *= 2;
        }
    }
}

/// Whether the server shows the row. If this fails, its connection must be closed.
async fn shows(client: &Object, position: &AuditPosition) -> Result<bool, ReplicaError> {
    match timeout(CHECK_TIMEOUT, position.is_visible(client)).await {
        Ok(visible) => Ok(visible?),
        Err(_) => Err(ReplicaError::TooSlow),
    }
}

impl From<PoolError> for ReplicaError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Timeout(deadpool_postgres::TimeoutType::Wait) => Self::Busy,
            PoolError::Backend(error) if is_access_mismatch(&error) => Self::WrongServer(
                "no server of DATABASE_READ_URL is a replica: those that answer are primaries".to_owned(),
            ),
            error => Self::Unreachable(error.into()),
        }
    }
}
