//! The table `revocations`: append-only for this service; rows whose tokens have expired are removed by a function of the schema.

use shared::contract::audit::AuditEntry;
use shared::contract::revocation::{Revocation, RevocationEntry};
use tokio_postgres::Row;

use super::{Store, StoreError, audit};
use crate::audit::row::Row as AuditRow;

/// Later times are stored as `infinity`: the end of the year 9999.
const MAX_UNIX_SECONDS: i64 = 253_402_300_799;

/// A position in the table. A trigger makes rows visible in the order of their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Id of the row; 0 is before all rows.
    pub id: i64,
    /// Creation time in microseconds since 1970. A restored database may reuse the id, but not the time.
    pub stamp: i64,
}

/// The rows after a position.
pub enum RevocationPage {
    /// Rows in order.
    Rows(Vec<(Position, RevocationEntry)>),
    /// The row at the position is missing or another one: the database was restored, or the row expired. Read from the start.
    HistoryChanged,
}

impl Store {
    /// Stores a revocation until `ends_at`, in seconds since 1970, with its audit entry.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn revoke(&self, revocation: &Revocation, ends_at: i64, entry: &AuditEntry) -> Result<(), StoreError> {
        const INSERT: &str = "insert into revocations (jti, sub, issued_before, expires_at)
            values ($1, $2::text, $3, coalesce(to_timestamp($4::bigint), 'infinity'))";
        let (jti, sub, issued_before) = match revocation {
            Revocation::Token { jti, .. } => (Some(jti.as_str()), None, None),
            Revocation::Subject { sub, issued_before } => (None, Some(sub.as_str()), Some(*issued_before)),
            Revocation::Everyone { issued_before } => (None, None, Some(*issued_before)),
        };
        let ends_at = (ends_at <= MAX_UNIX_SECONDS).then_some(ends_at);
        self.with_connection(async |client| {
            let mut lease = audit::Lease::take(&self.chains, client).await?;
            let transaction = client.transaction().await?;
            let (insert, append) =
                (transaction.prepare_cached(INSERT).await?, transaction.prepare_cached(audit::APPEND).await?);
            transaction.execute(&insert, &[&jti, &sub, &issued_before, &ends_at]).await?;
            lease.append(&transaction, &append, &[AuditRow::from(entry)]).await?;
            transaction.commit().await?;
            lease.committed();
            Ok(())
        })
        .await
    }

    /// Reads up to `limit` revocations after a position.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn revocations(&self, after: Position, limit: u32) -> Result<RevocationPage, StoreError> {
        // The row at the position is read too, to prove that the history is the same.
        const NEXT: &str = "select id, (extract(epoch from created_at) * 1000000)::bigint as stamp,
                jti, sub::text, issued_before,
                case when isfinite(expires_at) then ceil(extract(epoch from expires_at))::bigint end as ends_at
            from revocations where id >= $1 order by id limit $2";
        let rows = self
            .with_connection(async |client| {
                let statement = client.prepare_cached(NEXT).await?;
                Ok(client.query(&statement, &[&after.id, &(i64::from(limit) + 1)]).await?)
            })
            .await?;
        let mut rows = rows.iter().map(row).collect::<Result<Vec<_>, _>>()?;
        if after != Position::default() {
            if rows.first().is_none_or(|(position, _)| *position != after) {
                return Ok(RevocationPage::HistoryChanged);
            }
            rows.remove(0);
        }
        rows.truncate(limit as usize);
        Ok(RevocationPage::Rows(rows))
    }

    /// Removes up to `limit` revocations whose tokens have all expired. Returns their number.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn forget_ended_revocations(&self, limit: i32) -> Result<i64, StoreError> {
        self.with_connection(async |client| {
            let statement = client.prepare_cached("select forget_ended_revocations($1)").await?;
            Ok(client.query_one(&statement, &[&limit]).await?.try_get(0)?)
        })
        .await
    }
}

/// Columns by index: at startup a million rows may be read.
fn row(row: &Row) -> Result<(Position, RevocationEntry), StoreError> {
    let position = Position { id: row.try_get(0)?, stamp: row.try_get(1)? };
    let jti: Option<&str> = row.try_get(2)?;
    let sub: Option<&str> = row.try_get(3)?;
    let revocation = match (jti, sub) {
        (Some(jti), _) => Revocation::Token { jti: jti.to_owned(), expires_at: None },
        (None, Some(sub)) => {
            Revocation::Subject { sub: sub.parse().map_err(StoreError::internal)?, issued_before: row.try_get(4)? }
        }
        (None, None) => Revocation::Everyone { issued_before: row.try_get(4)? },
    };
    let ends_at: Option<i64> = row.try_get(5)?;
    Ok((position, revocation.entry(ends_at.unwrap_or(i64::MAX))))
}
