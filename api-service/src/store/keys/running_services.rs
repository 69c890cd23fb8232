//! The table `running_services`: which master keys each API service holds that runs now. Whoever wraps data keys looks there first: what
//! a running service cannot unwrap, it can neither read nor write.

use deadpool_postgres::{GenericClient, Transaction};
use uuid::Uuid;

use crate::store::{Store, StoreError};

/// A service that was not heard of for so long does not run any more.
const LIVENESS_WINDOW: &str = "interval '60 seconds'";

/// ServiceCheck services are in the way of what somebody does with keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunningServicesError {
    /// Some do not hold a key.
    #[error(
        "running API services do not hold the master key `{key}`: give it to all of them first, at the end of CONTENT_KEYS ({}). \
         One that was killed is forgotten after a minute", .services.join(", ")
    )]
    MissingKey {
        /// Its name.
        key: String,
        /// Which services.
        services: Vec<String>,
    },
    /// Some write text in the open.
    #[error(
        "everything is encrypted, but running API services still write text in the open ({}): restart them with CONTENT_KEYS that \
         begins with a key, then run this again", .0.join(", ")
    )]
    WritesPlain(Vec<String>),
}

impl Store {
    /// Says that a service runs, and which master keys it holds.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn register(&self, instance: Uuid) -> Result<(), StoreError> {
        const UPSERT: &str = "insert into running_services (instance, master_keys, seals) values ($1, $2, $3)
            on conflict (instance) do update
            set master_keys = excluded.master_keys, seals = excluded.seals, seen_at = clock_timestamp()";
        const DELETE_STALE: &str = "delete from running_services where seen_at < clock_timestamp() - interval '1 hour'";
        let keys = self.vault.as_deref().map(crate::envelope::EnvelopeKeys::fingerprints).unwrap_or_default();
        let seals = self.vault.as_deref().is_some_and(|vault| vault.current().is_some());
        self.with(async |client| {
            let (announce, forget) = (client.prepare_cached(UPSERT).await?, client.prepare_cached(DELETE_STALE).await?);
            client.execute(&announce, &[&instance, &keys, &seals]).await?;
            client.execute(&forget, &[]).await?;
            Ok(())
        })
        .await
    }

    /// Says that it does not run any more.
    ///
    /// # Errors
    /// [`StoreError`]; it is forgotten after a minute then.
    pub async fn deregister(&self, instance: Uuid) -> Result<(), StoreError> {
        self.with(async |client| {
            client.execute("delete from running_services where instance = $1", &[&instance]).await?;
            Ok(())
        })
        .await
    }

    /// Whether every running service holds the master key that wraps new data keys here.
    ///
    /// # Errors
    /// [`StoreError`]; [`RunningServicesError`] within it when not.
    pub async fn check_running(&self) -> Result<(), StoreError> {
        let fingerprint = self.vault()?.current_fingerprint()?;
        self.with(async |client| check(&*client, fingerprint).await).await
    }
}

/// Lets no service begin to run until the transaction ends, and checks those that do. A service says that it runs before it looks whether
/// its keys are those of the database: it comes before this and is seen, or after and sees what was done.
pub(in crate::store) async fn lock_and_check(
    transaction: &Transaction<'_>,
    fingerprint: &str,
) -> Result<(), StoreError> {
    transaction.batch_execute("lock table running_services in share mode").await?;
    check(transaction, fingerprint).await
}

/// Whether no running service writes text in the open.
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
