//! The table `running_services`: which master keys each running API service holds. Rewrapping checks it first, because a running
//! service could not use a key that it cannot unwrap.

use deadpool_postgres::{GenericClient, Transaction};
use uuid::Uuid;

use crate::store::{Store, StoreError};

/// A service that has not reported for this long has stopped.
const LIVENESS_WINDOW: &str = "interval '60 seconds'";

/// Running services prevent a change of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunningServicesError {
    /// Some lack a master key.
    #[error(
        "running API services do not hold the master key `{key}`: give it to all of them first, at the end of CONTENT_KEYS ({}). \
         One that was killed is forgotten after a minute", .services.join(", ")
    )]
    MissingKey {
        /// Id of the master key.
        key: String,
        /// The services.
        services: Vec<String>,
    },
    /// Some write plain text.
    #[error(
        "everything is encrypted, but running API services still write text in the open ({}): restart them with CONTENT_KEYS that \
         begins with a key, then run this again", .0.join(", ")
    )]
    WritesPlain(Vec<String>),
}

impl Store {
    /// Reports that this instance runs, and its master keys.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn register(&self, instance: Uuid) -> Result<(), StoreError> {
        const UPSERT: &str = "insert into running_services (instance, master_keys, seals) values ($1, $2, $3)
            on conflict (instance) do update
            set master_keys = excluded.master_keys, seals = excluded.seals, seen_at = clock_timestamp()";
        const DELETE_STALE: &str = "delete from running_services where seen_at < clock_timestamp() - interval '1 hour'";
        let keys = self.envelope_keys.as_deref().map(crate::envelope::EnvelopeKeys::fingerprints).unwrap_or_default();
        let seals = self.envelope_keys.as_deref().is_some_and(|envelope_keys| envelope_keys.current().is_some());
        self.with_connection(async |client| {
            let (announce, forget) = (client.prepare_cached(UPSERT).await?, client.prepare_cached(DELETE_STALE).await?);
            client.execute(&announce, &[&instance, &keys, &seals]).await?;
            client.execute(&forget, &[]).await?;
            Ok(())
        })
        .await
    }

    /// Reports that this instance has stopped.
    ///
    /// # Errors
    /// [`StoreError`]; it then counts as running for another minute.
    pub async fn deregister(&self, instance: Uuid) -> Result<(), StoreError> {
        self.with_connection(async |client| {
            client.execute("delete from running_services where instance = $1", &[&instance]).await?;
            Ok(())
        })
        .await
    }

    /// Checks that every running service holds the current master key.
    ///
    /// # Errors
    /// [`StoreError`], which contains [`RunningServicesError`] when one does not.
    pub async fn check_running(&self) -> Result<(), StoreError> {
        let fingerprint = self.envelope_keys()?.current_fingerprint()?;
        self.with_connection(async |client| check(&*client, fingerprint).await).await
    }
}

/// Blocks new services until the transaction ends, and checks the running ones. A service registers before it checks its keys:
/// either it is seen here, or it sees the result.
pub(in crate::store) async fn lock_and_check(
    transaction: &Transaction<'_>,
    fingerprint: &str,
) -> Result<(), StoreError> {
    transaction.batch_execute("lock table running_services in share mode").await?;
    check(transaction, fingerprint).await
}

/// Checks that no running service writes plain text.
pub(in crate::store) async fn check_seals(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    let query = format!(
        "select instance::text from running_services where seen_at > clock_timestamp() - {LIVENESS_WINDOW} and not seals"
    );
    match service_names(&transaction.query(&query, &[]).await?)? {
        services if services.is_empty() => Ok(()),
        services => Err(StoreError::internal(RunningServicesError::WritesPlain(services))),
    }
}

async fn check(client: &impl GenericClient, fingerprint: &str) -> Result<(), StoreError> {
    let query = format!(
        "select instance::text from running_services
         where seen_at > clock_timestamp() - {LIVENESS_WINDOW} and not $1::text = any(master_keys) order by instance"
    );
    match service_names(&client.query(&query, &[&fingerprint]).await?)? {
        services if services.is_empty() => Ok(()),
        services => {
            let key = fingerprint.rsplit_once(':').map_or(fingerprint, |(key, _)| key).to_owned();
            Err(StoreError::internal(RunningServicesError::MissingKey { key, services }))
        }
    }
}

fn service_names(rows: &[tokio_postgres::Row]) -> Result<Vec<String>, StoreError> {
    rows.iter().map(|row| Ok(format!("service {}", row.try_get::<_, &str>(0)?))).collect()
}
