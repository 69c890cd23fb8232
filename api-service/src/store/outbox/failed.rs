//! Failed rows of the outbox: rows that could not be rebuilt. The relay marks them, and a command lists and requeues them.

use std::collections::BTreeMap;

use deadpool_postgres::Transaction;
use shared::contract::audit::AuditEntry;
use shared::contract::ids::{ConversationId, MessageId};
use time::OffsetDateTime;
use tokio_postgres::Row;

use super::rebuild::{Reason, Rebuilt};
use super::{Store, StoreError};
use crate::audit::row::Row as AuditRow;
use crate::store::audit;

/// A failed row.
#[derive(Debug, Clone)]
pub struct FailedRow {
    /// Its id, for a retry.
    pub id: i64,
    /// `message`, `delivered` or `read`.
    pub kind: String,
    /// The reason, as a code.
    pub reason: String,
    /// When it failed.
    pub failed_at: OffsetDateTime,
    /// When it was written.
    pub created_at: OffsetDateTime,
    /// Its location, if the row or one of its messages names it.
    pub location: Option<String>,
    /// Its conversation, if known.
    pub conversation: Option<ConversationId>,
    /// The messages that it names.
    pub message_ids: Vec<MessageId>,
}

impl Store {
    /// Reads up to `limit` failed rows with ids above `after`, oldest first.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn failed_rows(&self, after: i64, limit: i64) -> Result<Vec<FailedRow>, StoreError> {
        const FAILED: &str = "select o.id, o.kind, o.failed_reason, o.failed_at, o.created_at, o.message_ids,
                coalesce(o.location_id::text, m.location_id::text) as location,
                coalesce(o.conversation_id, m.conversation_id) as conversation
            from (
                select id, kind, failed_reason, failed_at, created_at, message_ids, location_id, conversation_id
                from outbox where failed_at is not null and id > $1 order by id limit $2
            ) o
            left join lateral (
                select m.location_id, m.conversation_id from messages m where m.id = any(o.message_ids) limit 1
            ) m on true
            order by o.id";
        self.with_connection(async |client| {
            let statement = client.prepare_cached(FAILED).await?;
            client.query(&statement, &[&after, &limit]).await?.iter().map(failed_row).collect()
        })
        .await
    }

    /// Requeues failed rows: these, or all. `entry` is the audit entry. Returns their number.
    ///
    /// # Errors
    /// [`StoreError`]; no row was requeued.
    pub async fn retry_failed(&self, ids: Option<&[i64]>, entry: &AuditEntry) -> Result<u64, StoreError> {
        const RETRY: &str = "update outbox set failed_at = null, failed_reason = null where id in (
            select id from outbox where failed_at is not null and ($1::bigint[] is null or id = any($1)) order by id for update
        )";
        self.with_connection(async |client| {
            let mut lease = audit::Lease::take(&self.chains, client).await?;
            let transaction = client.transaction().await?;
            let (retry, append) =
                (transaction.prepare_cached(RETRY).await?, transaction.prepare_cached(audit::APPEND).await?);
            let count = transaction.execute(&retry, &[&ids]).await?;
            lease.append(&transaction, &append, &[AuditRow::from(entry)]).await?;
            transaction.commit().await?;
            lease.committed();
            Ok(count)
        })
        .await
    }
}

fn failed_row(row: &Row) -> Result<FailedRow, StoreError> {
    Ok(FailedRow {
        id: row.try_get("id")?,
        kind: row.try_get("kind")?,
        reason: row.try_get::<_, Option<_>>("failed_reason")?.unwrap_or_default(),
        failed_at: row.try_get("failed_at")?,
        created_at: row.try_get("created_at")?,
        location: row.try_get("location")?,
        conversation: row.try_get("conversation")?,
        message_ids: row.try_get("message_ids")?,
    })
}

/// Marks as failed what cannot be rebuilt. If a part of a row can, the row keeps that part, and a new row takes the rest.
pub(super) async fn mark_failed(
    transaction: &Transaction<'_>,
    rebuilt: &Rebuilt,
) -> Result<Vec<(i64, Reason)>, StoreError> {
    const FAILED: &str = "update outbox o set failed_at = clock_timestamp(), failed_reason = x.reason
        from unnest($1::bigint[], $2::text[]) as x (id, reason) where o.id = x.id";
    const KEEP_REST: &str = "update outbox set message_ids = array(
            select id from unnest(message_ids) with ordinality as m (id, n) where id <> all($2) order by n
        ) where id = $1";
    const FAILED_MESSAGES: &str = "insert into outbox (kind, message_ids, created_at, failed_at, failed_reason)
        select 'message', array[x.message], o.created_at, clock_timestamp(), x.reason
        from unnest($1::bigint[], $2::uuid[], $3::text[]) as x (id, message, reason) join outbox o on o.id = x.id";
    if !rebuilt.failed.is_empty() {
        let (ids, of_rows): (Vec<i64>, Vec<Reason>) = rebuilt.failed.iter().copied().unzip();
        transaction.execute(&transaction.prepare_cached(FAILED).await?, &[&ids, &of_rows]).await?;
    }
    if !rebuilt.failed_messages.is_empty() {
        let ids: Vec<i64> = rebuilt.failed_messages.iter().map(|(id, ..)| *id).collect();
        let messages: Vec<MessageId> = rebuilt.failed_messages.iter().map(|(_, message, _)| *message).collect();
        let of_messages: Vec<Reason> = rebuilt.failed_messages.iter().map(|(.., reason)| *reason).collect();
        let statement = transaction.prepare_cached(FAILED_MESSAGES).await?;
        transaction.execute(&statement, &[&ids, &messages, &of_messages]).await?;
        let mut by_row: BTreeMap<i64, Vec<MessageId>> = BTreeMap::new();
        for (id, message, _) in &rebuilt.failed_messages {
            by_row.entry(*id).or_default().push(*message);
        }
        let keep = transaction.prepare_cached(KEEP_REST).await?;
        for (id, messages) in &by_row {
            transaction.execute(&keep, &[id, messages]).await?;
        }
    }
    let of_messages = rebuilt.failed_messages.iter().map(|(id, _, reason)| (*id, *reason));
    Ok(rebuilt.failed.iter().copied().chain(of_messages).collect())
}
