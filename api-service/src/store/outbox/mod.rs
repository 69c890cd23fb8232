//! The table `outbox`: events that Redis may lack.
//!
//! A row is waiting, published (marked), deferred while Redis rejects its conversation, or failed when it cannot be rebuilt. Only
//! waiting rows are in the index that the relay reads, so the others delay no other conversation. Newer rows of a deferred
//! conversation are deferred behind it.

mod failed;
mod rebuild;
mod relay_lease;

use shared::contract::event::OutgoingEvent;
use shared::contract::ids::ConversationId;
use shared::contract::redis::keys::{self, Channel};

use super::{Store, StoreError};
use crate::model::inbox::InboxUpdate;
pub use failed::FailedRow;
pub use rebuild::REASONS;
pub use relay_lease::{DeferredEntry, LeasedBatch, OutboxDepth, PartlyPublished, RelayOutcome};

/// A committed event, which is certain to be published.
#[derive(Debug, Clone)]
pub struct OutboxEvent {
    /// The channel.
    pub channel: Channel,
    /// The event.
    pub draft: OutgoingEvent,
}

impl OutboxEvent {
    /// The conversation of the event.
    #[must_use]
    pub fn conversation(&self) -> Option<ConversationId> {
        keys::parse_conversation(self.channel.as_str()).map(|(_, conversation)| conversation)
    }
}

/// The events of one transaction, and the outbox row that guards them.
#[derive(Debug, Clone)]
pub struct OutboxEntry {
    /// Id of the row.
    pub id: i64,
    /// In the order of publication.
    pub events: Vec<OutboxEvent>,
    /// The inbox updates that follow the events, in any order.
    pub updates: Vec<InboxUpdate>,
}

/// Inserts the row of a batch of messages, in the order of publication. Parameter: message ids.
pub(super) const INSERT_MESSAGES: &str =
    "insert into outbox (kind, message_ids) values ('message', $1::uuid[]) returning id";

/// Inserts the row of a receipt. Parameters: location, conversation, kind, message ids, time.
pub(super) const INSERT_RECEIPT: &str = "insert into outbox (location_id, conversation_id, kind, message_ids, at)
    values ($1::text, $2, $3, $4, $5) returning id";

impl Store {
    /// Marks published entries, each with its age in seconds, and deletes confirmed ones. Does not wait for the disk: after a
    /// crash some events are published again, which clients ignore. So are those of a row that another session holds: it is skipped.
    ///
    /// # Errors
    /// [`StoreError`]; all of their events are published again.
    pub async fn mark_and_prune(&self, published: &[(i64, f64)], confirmed: &[i64]) -> Result<(), StoreError> {
        // The time of publication, because the search after a lost connection uses it.
        const MARK: &str = "update outbox o set published_at = clock_timestamp() - make_interval(secs => x.age)
            from (
                select o.id, x.age from outbox o
                join unnest($1::bigint[], $2::float8[]) as x (id, age) on x.id = o.id
                order by o.id for update of o skip locked
            ) x
            where o.id = x.id";
        // Except rows that were requeued in the meantime.
        const PRUNE: &str = "delete from outbox where id in (
            select id from outbox where id = any($1) and published_at is not null order by id for update skip locked
        )";
        let (ids, ages): (Vec<i64>, Vec<f64>) = published.iter().copied().unzip();
        self.with_connection(async |client| {
            let transaction = client.transaction().await?;
            transaction.batch_execute("set local synchronous_commit = off").await?;
            if !ids.is_empty() {
                let statement = transaction.prepare_cached(MARK).await?;
                transaction.execute(&statement, &[&ids, &ages]).await?;
            }
            if !confirmed.is_empty() {
                let statement = transaction.prepare_cached(PRUNE).await?;
                transaction.execute(&statement, &[&confirmed]).await?;
            }
            Ok(transaction.commit().await?)
        })
        .await
    }

    /// Requeues these entries, because the connection that published them is lost.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn requeue(&self, ids: &[i64]) -> Result<(), StoreError> {
        const REQUEUE: &str = "update outbox set published_at = null where id in (
            select id from outbox where id = any($1) and published_at is not null order by id for update
        )";
        self.with_connection(async |client| {
            let statement = client.prepare_cached(REQUEUE).await?;
            client.execute(&statement, &[&ids]).await?;
            Ok(())
        })
        .await
    }

    /// Requeues entries that were published more than `age_seconds` ago and still exist: those of a dead instance or, with 0, all
    /// that Redis may have lost.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn requeue_older_than(&self, age_seconds: f64) -> Result<(), StoreError> {
        self.with_connection(async |client| {
            let statement = client
                .prepare_cached(
                    // A stable time and a separate search keep PostgreSQL on the index of published rows; otherwise it would read
                    // the whole backlog.
                    "update outbox set published_at = null where id in (
                         with old as materialized (
                             select id from outbox where published_at <= statement_timestamp() - make_interval(secs => $1)
                         )
                         select o.id from outbox o where o.id = any(array(select id from old)) and o.published_at is not null
                         order by o.id for update
                     )",
                )
                .await?;
            client.execute(&statement, &[&age_seconds]).await?;
            Ok(())
        })
        .await
    }
}
