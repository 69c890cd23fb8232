//! The table `outbox`: events that Redis may not have yet. At least once, never zero times.
//!
//! A row waits, or is published, or is set aside: deferred while Redis refuses its conversation, failed when it cannot be
//! rebuilt. Only rows that wait are in the index that a relay reads, so a row that is set aside delays no other conversation.
//! Newer rows of its own conversations are deferred behind it.

mod failed;
mod rebuild;
mod relay;

use shared::channel::{self, Channel};
use shared::event::OutgoingEvent;
use shared::ids::ConversationId;

use super::{Store, StoreError};
use crate::model::inbox::InboxUpdate;
pub use failed::FailedRow;
pub use rebuild::REASONS;
pub use relay::{DeferredEntry, LeasedBatch, OutboxDepth, PartlyPublished, RelayOutcome};

/// An event that is on disk, and so certain to be published.
#[derive(Debug, Clone)]
pub struct OutboxEvent {
    /// Where to publish.
    pub channel: Channel,
    /// What.
    pub draft: OutgoingEvent,
}

impl OutboxEvent {
    /// The conversation that it belongs to.
    #[must_use]
    pub fn conversation(&self) -> Option<ConversationId> {
        channel::parse_conversation(self.channel.as_str()).map(|(_, conversation)| conversation)
    }
}

/// Events that were written together, and the row that remembers them until all are published.
#[derive(Debug, Clone)]
pub struct OutboxEntry {
    /// The row.
    pub id: i64,
    /// In the order in which they are to be published.
    pub events: Vec<OutboxEvent>,
    /// The conversations whose rows in inboxes it changes, in any order.
    pub updates: Vec<InboxUpdate>,
}

/// Remembers the messages of a transaction, in the order of their publication. Parameters: their ids.
pub(super) const INSERT_MESSAGES: &str =
    "insert into outbox (kind, message_ids) values ('message', $1::uuid[]) returning id";

/// Remembers that something happened to messages of one conversation. Parameters: location, conversation, kind, ids, time.
pub(super) const INSERT_RECEIPT: &str = "insert into outbox (location_id, conversation_id, kind, message_ids, at)
    values ($1::text, $2, $3, $4, $5) returning id";

impl Store {
    /// Notes entries whose events Redis has taken, each with its age in seconds, and forgets others. Neither waits for the
    /// disk: what a crash undoes costs a second publication, which clients ignore.
    ///
    /// # Errors
    /// [`StoreError`]; all of their events will be published once more.
    pub async fn mark_and_prune(&self, published: &[(i64, f64)], confirmed: &[i64]) -> Result<(), StoreError> {
        // The time at which Redis took it, not the present one: whoever looks for what a lost connection took goes by it.
        const MARK: &str = "update outbox o set published_at = clock_timestamp() - make_interval(secs => x.age)
            from (
                select o.id, x.age from outbox o
                join unnest($1::bigint[], $2::float8[]) as x (id, age) on x.id = o.id
                order by o.id for update of o
            ) x
            where o.id = x.id";
        // Not what somebody is about to publish again.
        const PRUNE: &str = "delete from outbox where id in (
            select id from outbox where id = any($1) and published_at is not null order by id for update
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

    /// Has these entries published once more: the connection that took them is gone.
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

    /// Has entries published once more that were published more than `age_seconds` ago and are still there: those of a
    /// dead instance, or with 0 all that a Redis may have lost.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn requeue_older_than(&self, age_seconds: f64) -> Result<(), StoreError> {
        self.with_connection(async |client| {
            let statement = client
                .prepare_cached(
                    // The time must be a stable one, and the search by itself: else the index of published rows is of no use, and
                    // the whole backlog is read.
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
