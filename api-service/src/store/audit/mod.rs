//! The tables `audit_log` and `audit_chains`. They are append-only.
//!
//! A transaction leases one chain, and adds rows only within itself. If its outcome is unknown, the chain is read again before it
//! is reused ([`chains`]).

pub(in crate::store) mod chains;
mod lease;
pub(in crate::store) mod message_reader;
pub(in crate::store) mod position;
pub(in crate::store) mod reader;
mod rows;

use deadpool_postgres::Object;
use shared::contract::audit::AuditEntry;
use uuid::Uuid;

use crate::audit::row::Row;
use crate::store::{Store, StoreError};

pub(in crate::store) use lease::Lease;
use position::AuditPosition;
pub(in crate::store) use rows::{APPEND, Micros, ROW_PARAMETERS, add_rows, move_end};

impl Store {
    /// Writes entries durably, all or none. Returns the position of the last one.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Internal`] also when there are none.
    pub async fn record(&self, entries: &[AuditEntry]) -> Result<AuditPosition, StoreError> {
        self.with_connection(async |client| {
            let written = append(client, Lease::take(&self.chains, client).await?, entries.iter()).await?;
            written.ok_or_else(|| StoreError::internal("no entry of the audit trail to write"))
        })
        .await
    }

    /// Writes entries that may have been written before; their event ids show that.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Contended`] when another instance is writing one of them.
    pub async fn record_once(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        const KNOWN: &str = "select event_id from audit_log where event_id = any($1)";
        self.with_connection(async |client| {
            let statement = client.prepare_cached(KNOWN).await?;
            let events: Vec<Uuid> = entries.iter().filter_map(|entry| entry.event).collect();
            let rows = client.query(&statement, &[&events]).await?;
            let mut known =
                rows.iter().map(|row| row.try_get(0)).collect::<Result<std::collections::HashSet<Uuid>, _>>()?;
            let new = entries.iter().filter(|entry| entry.event.is_none_or(|event| known.insert(event)));
            append(client, Lease::take(&self.chains, client).await?, new).await?;
            Ok(())
        })
        .await
    }

    /// Logs the ends of this process's chains that have changed. Kept elsewhere, the log lines reveal a restored trail.
    pub fn log_anchors(&self) {
        self.chains.log_anchors();
    }
}

/// A transaction of a single statement. Returns the position of its last row.
async fn append(
    client: &Object,
    mut lease: Lease,
    entries: impl Iterator<Item = &AuditEntry>,
) -> Result<Option<AuditPosition>, StoreError> {
    let rows: Vec<Row> = entries.map(Row::from).collect();
    if rows.is_empty() {
        return Ok(None);
    }
    let statement = client.prepare_cached(APPEND).await?;
    lease.append(client, &statement, &rows).await?;
    Ok(lease.committed().map(AuditPosition::from))
}
