//! The table `revocations`: added to, never changed.

use shared::audit::Entry;
use shared::revocation::Revocation;
use tokio_postgres::Row;

use super::{Store, StoreError, audit};
use crate::audit::row::Row as AuditRow;

impl Store {
    /// Remembers a revocation, and who made it.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn revoke(&self, revocation: &Revocation, entry: &Entry) -> Result<(), StoreError> {
        let (jti, sub, issued_before) = match revocation {
            Revocation::Token { jti } => (Some(jti.as_str()), None, None),
            Revocation::Subject { sub, issued_before } => (None, Some(sub.as_str()), Some(*issued_before)),
        };
        self.with(async |client| {
            let mut lease = self.chains.lend(client).await?;
            let transaction = client.transaction().await?;
            let insert = "insert into revocations (jti, sub, issued_before) values ($1, $2::text, $3)";
            let (insert, append) =
                (transaction.prepare_cached(insert).await?, transaction.prepare_cached(audit::APPEND).await?);
            transaction.execute(&insert, &[&jti, &sub, &issued_before]).await?;
            lease.place(&[AuditRow::from(entry)])?.insert(&transaction, &append).await?;
            transaction.commit().await?;
            lease.committed();
            Ok(())
        })
        .await
    }

    /// All revocations, or those of the last minutes only: enough for whoever asks every second.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn revocations(&self, recent: bool) -> Result<Vec<Revocation>, StoreError> {
        const ALL: &str = "select jti, sub::text, issued_before from revocations";
        // By time and not by id: an id is taken before its transaction commits, so a smaller one may show up later.
        const RECENT: &str = "select jti, sub::text, issued_before from revocations
            where created_at > clock_timestamp() - interval '5 minutes'";
        self.with(async |client| {
            let statement = client.prepare_cached(if recent { RECENT } else { ALL }).await?;
            client.query(&statement, &[]).await?.iter().map(revocation).collect()
        })
        .await
    }
}

fn revocation(row: &Row) -> Result<Revocation, StoreError> {
    Ok(match row.try_get("jti")? {
        Some(jti) => Revocation::Token { jti },
        None => Revocation::Subject {
            sub: row.try_get::<_, &str>("sub")?.parse().map_err(StoreError::internal)?,
            issued_before: row.try_get("issued_before")?,
        },
    })
}
