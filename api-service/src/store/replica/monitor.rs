//! Checks the replica once per second, and decides when it is used again.

use std::time::Duration;

use deadpool_postgres::Object;
use tokio::time::{sleep, timeout};

use super::Replica;
use super::fallback::{Fallback, ReplicaError};
use crate::store::StoreError;
use crate::store::pool::guard::ConnectionGuard;

/// Between two checks while it is in use.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Time limit of a check, with a new connection.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

impl Replica {
    /// Checks the replica again and again; never returns.
    pub(in crate::store) async fn watch(&self) {
        loop {
            match timeout(PROBE_TIMEOUT, self.probe()).await.unwrap_or(Err(ReplicaError::TooSlow)) {
                Ok(()) => self.breaker.close(),
                // It answers other reads.
                Err(ReplicaError::Busy) => {}
                Err(error) => {
                    self.breaker.check_failed(error.reason(), &error);
                    if error.reason() != Fallback::Behind {
                        // Idle connections may lead to a server that is away, or was replaced.
                        let _closed = self.pool.retain(|_, _| false);
                    }
                }
            }
            if self.breaker.check().is_ok() {
                tokio::select! {
                    () = sleep(POLL_INTERVAL) => {}
                    () = self.breaker.opened() => {}
                }
            }
            if let Some(backoff) = self.breaker.backoff() {
                sleep(backoff).await;
            }
        }
    }

    /// Whether it is a replica of the primary, and shows what a read did not find there.
    async fn probe(&self) -> Result<(), ReplicaError> {
        let mut connection = ConnectionGuard::new(self.pool.get().await?);
        let client = connection.client()?;
        if !in_recovery(client).await? {
            return Err(ReplicaError::WrongServer("it was promoted: DATABASE_READ_URL leads to a primary".to_owned()));
        }
        // Before it is used. The service may not be allowed to read it.
        if self.breaker.check().is_err()
            && let Some(primary) = self.primary.cluster()
            && let Ok(own) = cluster(client).await
            && own != primary
        {
            return Err(ReplicaError::WrongServer(format!(
                "it belongs to another cluster: DATABASE_READ_URL leads to system identifier {own}, DATABASE_URL to {primary}"
            )));
        }
        if let Some(position) = self.breaker.lacking()
            && !super::shows(client, &position).await?
        {
            connection.release();
            return Err(ReplicaError::Behind);
        }
        connection.release();
        Ok(())
    }
}

async fn in_recovery(client: &Object) -> Result<bool, StoreError> {
    Ok(client.query_one("select pg_is_in_recovery()", &[]).await?.try_get(0)?)
}

/// The system identifier.
async fn cluster(client: &Object) -> Result<String, StoreError> {
    Ok(client.query_one("select system_identifier::text from pg_control_system()", &[]).await?.try_get(0)?)
}
