//! Reads with an audit entry, which is on disk before the page is returned.

use futures_util::future::join;
use shared::contract::audit::AuditEntry;

use super::error::DomainError;
use crate::audit_writer::AuditWriter;
use crate::model::request_origin::RequestOrigin;
use crate::store::{Store, StoreError};

/// Writes the entry and reads. Where a replica may answer, the entry is written first, because the replica must show it. Otherwise
/// both happen at the same time.
///
/// # Errors
/// [`DomainError`]; nothing was read if the entry could not be written.
pub(super) async fn audited_read<T, F>(
    origin: &RequestOrigin,
    (store, audit_writer): (&Store, &AuditWriter),
    entry: AuditEntry,
    read: impl FnOnce(Store) -> F,
) -> Result<T, DomainError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let deadline = origin.deadline;
    if store.admits_replica_read() {
        let position = audit_writer.record(entry, deadline).await?;
        return Ok(deadline.limit(read(store.after(position))).await?);
    }
    // Both run to their end even if one fails: a dropped query would cost its connection.
    let (read, recorded) = join(deadline.limit(read(store.clone())), audit_writer.record(entry, deadline)).await;
    recorded?;
    Ok(read?)
}
