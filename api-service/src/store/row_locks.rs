//! Finds rows that other transactions hold.

use std::collections::HashSet;

use tokio::join;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{Store, StoreError};

impl Store {
    /// Returns the ids whose rows another transaction holds. `statement` takes the ids and tries to lock the rows. The
    /// transaction is rolled back in the same round trip, so it delays no other.
    pub(super) async fn ids_locked_by_others(
        &self,
        statement: &'static str,
        ids: &[Uuid],
    ) -> Result<HashSet<Uuid>, StoreError> {
        self.with_connection(async |client| {
            let statement = client.prepare_cached(statement).await?;
            let parameters: [&(dyn ToSql + Sync); 1] = [&ids];
            let (begun, rows, undone) = join!(
                biased;
                client.batch_execute("begin"),
                client.query(&statement, &parameters),
                client.batch_execute("rollback"),
            );
            begun?;
            undone?;
            rows?.iter().map(|row| Ok(row.try_get(0)?)).collect()
        })
        .await
    }
}
