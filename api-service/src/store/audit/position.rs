//! A position in the audit trail, by which a replica shows how far it has come.

use deadpool_postgres::GenericClient;

use crate::audit::chain::Head;
use crate::audit::key::Mac;
use crate::store::StoreError;

/// A committed row. A server that shows it also shows every transaction that was committed before: replicas apply commits in the
/// order of the primary's WAL.
///
/// Unlike a WAL position it means the same on every timeline. A server that left the primary's history, or never had it, cannot
/// show the row, because its hash exists nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditPosition {
    chain: i64,
    n: i64,
    mac: Mac,
}

impl From<Head> for AuditPosition {
    fn from(Head { chain, n, mac, .. }: Head) -> Self {
        Self { chain, n, mac }
    }
}

impl AuditPosition {
    /// Whether the server shows this row. If so, every later statement of the same connection sees what was committed before it.
    pub(in crate::store) async fn is_visible(&self, client: &impl GenericClient) -> Result<bool, StoreError> {
        const VISIBLE: &str = "select from audit_log where chain = $1 and n = $2 and mac = $3";
        let statement = client.prepare_cached(VISIBLE).await?;
        let found = client.query_opt(&statement, &[&self.chain, &self.n, &self.mac.as_slice()]).await?;
        Ok(found.is_some())
    }
}
