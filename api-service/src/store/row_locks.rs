//! A look at what others hold.

use std::collections::HashSet;

use tokio::join;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{Store, StoreError};

impl Store {
    /// Those of some ids that `statement` names, which takes the ids and tries the locks of their rows. It is undone in the same round
    /// trip: nobody waits for a disk, or for this, because somebody has looked.
    pub(super) async fn ids_locked_by_others(
        &self,
        statement: &'static str,
        ids: &[Uuid],
    ) -> Result<HashSet<Uuid>, StoreError> {
        self.with(async |client| {
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
