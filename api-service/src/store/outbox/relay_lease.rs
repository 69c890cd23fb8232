//! The lease of the relay: it takes the oldest waiting rows, publishes them outside of a transaction, and records the outcome. A
//! relay that dies or hangs loses its lease when it ends.

use std::collections::HashMap;
use std::time::Duration;

use deadpool_postgres::Transaction;
use futures_util::future::try_join_all;
use shared::contract::ids::{ConversationId, MessageId};
use tokio::time::Instant;
use uuid::Uuid;

use super::failed::mark_failed;
use super::rebuild::rebuild;
use super::{OutboxEntry, OutboxEvent, Store, StoreError};

/// How long a relay may publish what it took. After that it must not continue, because another may have begun. Longer than the
/// time limit of a batch in [`crate::outbox`].
const LEASE_DURATION: Duration = Duration::from_secs(8);

/// Takes the lease if it is free. Parameters: holder, seconds.
const CLAIM: &str = "update outbox_relay set holder = $1, ends_at = clock_timestamp() + make_interval(secs => $2)
    where only_row in (
        select only_row from outbox_relay
        where holder is null or holder = $1 or ends_at < clock_timestamp() for update skip locked
    )";

/// Extends the lease to $2 seconds from now, because reading and rebuilding take time.
const RENEW: &str = "update outbox_relay set ends_at = clock_timestamp() + make_interval(secs => $2)
    where only_row and holder = $1";

/// Releases the lease.
const RELEASE: &str = "update outbox_relay set holder = null where only_row and holder = $1";

/// The oldest waiting rows: as many as name $1 messages together, and at least one.
const OLDEST: &str = "select id, location_id, conversation_id, kind, message_ids, at
    from (
        select id, location_id, conversation_id, kind, message_ids, at,
               sum(cardinality(message_ids)) over (order by id) - cardinality(message_ids) as before
        from (
            select id, location_id, conversation_id, kind, message_ids, at from outbox
            where published_at is null and failed_at is null and deferred_at is null
              and created_at <= clock_timestamp() - make_interval(secs => $2)
            order by id limit $1
        ) oldest
    ) counted
    where before < $1 order by id";

/// The oldest deferred row of each of these conversations that has one. Reads nothing when no row is deferred.
const OLDEST_DEFERRED: &str =
    "select conversation, min(o.id) from outbox o, unnest(o.deferred_conversations) conversation
    where o.deferred_at is not null and o.deferred_conversations && $1 group by conversation";

/// Rows that are counted exactly for the depth; beyond that it is estimated.
const MAX_COUNTED: i64 = 1_000;

/// Number of waiting events and age of the oldest. Reads [`MAX_COUNTED`] rows and four index ends, however long the backlog is.
/// Deferred rows count too.
const DEPTH: &str = "with counted as (
        select id, created_at, case kind when 'message' then cardinality(message_ids) else 1 end as events
        from outbox where published_at is null and failed_at is null and deferred_at is null order by id limit $1
    ), deferred as (
        select id, created_at, case kind when 'message' then cardinality(message_ids) else 1 end as events
        from outbox where deferred_at is not null order by id limit $1
    )
    select
        (select coalesce(sum(events), 0) from counted)::bigint,
        (select coalesce(sum(events), 0) from deferred)::bigint,
        (select count(*) from counted), (select count(*) from deferred),
        (select coalesce(max(id), 0) from counted), (select coalesce(max(id), 0) from deferred),
        (select id from outbox where published_at is null and failed_at is null and deferred_at is null
         order by id desc limit 1),
        (select id from outbox where deferred_at is not null order by id desc limit 1),
        coalesce(extract(epoch from clock_timestamp() - least(
            (select created_at from counted order by id limit 1), (select created_at from deferred order by id limit 1)
        )), 0)::float8,
        (select count(*) from (select 1 from outbox where failed_at is not null order by id limit $1) failed)";

/// What a relay may publish now.
#[derive(Debug)]
pub struct LeasedBatch {
    /// The oldest entries.
    pub entries: Vec<OutboxEntry>,
    /// The end of the lease.
    pub until: Instant,
    /// Whether there may be more rows.
    pub is_full: bool,
    /// Rows that could not be rebuilt, wholly or in part, with the reason. They are marked as failed.
    pub failed: Vec<(i64, &'static str)>,
    /// Conversations of these entries that have deferred rows, with the oldest such row.
    pub deferred: HashMap<ConversationId, i64>,
}

impl LeasedBatch {
    /// Whether an older row of the conversation is deferred, so that an event of `entry` would overtake it.
    #[must_use]
    pub fn is_behind(&self, entry: &OutboxEntry, conversation: ConversationId) -> bool {
        self.deferred.get(&conversation).is_some_and(|oldest| *oldest < entry.id)
    }
}

/// A deferred entry, and the conversations of its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeferredEntry {
    /// The entry.
    pub id: i64,
    /// Newer rows of these conversations wait behind it.
    pub conversations: Vec<ConversationId>,
}

impl DeferredEntry {
    /// The id with each conversation; once without one when none is known.
    fn by_conversation(&self) -> impl Iterator<Item = (i64, Option<ConversationId>)> {
        let none = self.conversations.is_empty().then_some(None);
        self.conversations.iter().copied().map(Some).chain(none).map(|conversation| (self.id, conversation))
    }
}

/// An entry that was published in part; the rest is deferred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartlyPublished {
    /// The messages of the rest.
    pub refused: Vec<MessageId>,
    /// The entry, with the conversations of the rest.
    pub deferred: DeferredEntry,
}

/// The outcome of entries. Entries that it does not name keep waiting.
#[derive(Debug, Clone, Default)]
pub struct RelayOutcome {
    /// Published entries.
    pub published: Vec<i64>,
    /// Entries of which Redis rejected all events.
    pub deferred: Vec<DeferredEntry>,
    /// Entries of which Redis rejected some events.
    pub partly: Vec<PartlyPublished>,
}

/// The length of the outbox.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct OutboxDepth {
    /// Waiting events.
    pub events: i64,
    /// Age of the oldest one in seconds.
    pub age: f64,
    /// Failed rows; counted up to a thousand.
    pub failed: i64,
}

impl Store {
    /// Takes the lease and the oldest waiting entries: about `limit` messages, older than `age_seconds`. Rows that cannot be
    /// rebuilt are marked as failed at once. `None` when another relay holds the lease.
    ///
    /// # Errors
    /// [`StoreError`]; the lease is not taken.
    pub async fn lease_oldest(
        &self,
        relay: Uuid,
        limit: i64,
        age_seconds: f64,
    ) -> Result<Option<LeasedBatch>, StoreError> {
        self.with_connection(async |client| {
            let transaction = client.transaction().await?;
            let claim = transaction.prepare_cached(CLAIM).await?;
            if transaction.execute(&claim, &[&relay, &LEASE_DURATION.as_secs_f64()]).await? == 0 {
                return Ok(None);
            }
            let oldest = transaction.prepare_cached(OLDEST).await?;
            let rows = transaction.query(&oldest, &[&limit, &age_seconds]).await?;
            let rebuilt = rebuild(&transaction, self.envelope_keys.as_deref(), &rows).await?;
            let failed = mark_failed(&transaction, &rebuilt).await?;
            let deferred = oldest_deferred(&transaction, &rebuilt.entries).await?;
            // Measured here it ends slightly before the database's time, never after.
            let until = Instant::now() + LEASE_DURATION;
            if rebuilt.entries.is_empty() {
                transaction.execute(&transaction.prepare_cached(RELEASE).await?, &[&relay]).await?;
            } else {
                let renew = transaction.prepare_cached(RENEW).await?;
                transaction.execute(&renew, &[&relay, &LEASE_DURATION.as_secs_f64()]).await?;
            }
            transaction.commit().await?;
            let is_full = i64::try_from(rebuilt.named).is_ok_and(|named| named >= limit);
            Ok(Some(LeasedBatch { entries: rebuilt.entries, until, is_full, failed, deferred }))
        })
        .await
    }

    /// Records the outcome and releases the lease. Returns the entries that are marked as published.
    ///
    /// # Errors
    /// [`StoreError`]; all of them are published again.
    pub async fn finish_relay(&self, relay: Uuid, relayed: &RelayOutcome) -> Result<Vec<i64>, StoreError> {
        const PUBLISHED: &str = "update outbox set published_at = clock_timestamp() where id in (
            select id from outbox where id = any($1) order by id for update
        )";
        const DEFERRED: &str =
            "update outbox o set deferred_at = clock_timestamp(), deferred_conversations = x.conversations
            from (
                select o.id, x.conversations from outbox o
                join (
                    select id, array_agg(conversation) filter (where conversation is not null) as conversations
                    from unnest($1::bigint[], $2::uuid[]) as x (id, conversation) group by id
                ) x on x.id = o.id
                where o.published_at is null order by o.id for update of o
            ) x
            where o.id = x.id";
        // The row keeps its position for the rejected messages; a new row holds the published ones.
        const PARTLY: &str = "with rest as (
                update outbox o set message_ids = $2, deferred_at = clock_timestamp(), deferred_conversations = $3
                from (select id, message_ids from outbox where id = $1 and published_at is null for update) was
                where o.id = was.id
                returning o.created_at, was.message_ids
            )
            insert into outbox (kind, message_ids, created_at, published_at)
            select 'message', array(select id from unnest(message_ids) id where id <> all($2)), created_at, clock_timestamp()
            from rest returning id";
        self.with_connection(async |client| {
            let transaction = client.transaction().await?;
            if !relayed.published.is_empty() {
                let statement = transaction.prepare_cached(PUBLISHED).await?;
                transaction.execute(&statement, &[&relayed.published]).await?;
            }
            if !relayed.deferred.is_empty() {
                let (ids, conversations): (Vec<i64>, Vec<_>) =
                    relayed.deferred.iter().flat_map(DeferredEntry::by_conversation).unzip();
                let statement = transaction.prepare_cached(DEFERRED).await?;
                transaction.execute(&statement, &[&ids, &conversations]).await?;
            }
            let mut published = relayed.published.clone();
            if !relayed.partly.is_empty() {
                let statement = &transaction.prepare_cached(PARTLY).await?;
                let split = relayed.partly.iter().map(async |PartlyPublished { refused, deferred }| {
                    transaction.query(statement, &[&deferred.id, refused, &deferred.conversations]).await
                });
                for row in try_join_all(split).await?.concat() {
                    published.push(row.try_get(0)?);
                }
            }
            transaction.execute(&transaction.prepare_cached(RELEASE).await?, &[&relay]).await?;
            transaction.commit().await?;
            Ok(published)
        })
        .await
    }

    /// Resumes up to `limit` deferred entries with ids above `after`. Returns the last of them. Paged, because after a long
    /// outage one statement would time out.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn resume_deferred(&self, after: i64, limit: i64) -> Result<Option<i64>, StoreError> {
        const RESUME: &str = "with resumed as (
                update outbox set deferred_at = null, deferred_conversations = null where id in (
                    select id from outbox where deferred_at is not null and id > $1 order by id limit $2 for update
                ) returning id
            ) select max(id) from resumed";
        self.with_connection(async |client| {
            let statement = client.prepare_cached(RESUME).await?;
            Ok(client.query_one(&statement, &[&after, &limit]).await?.try_get(0)?)
        })
        .await
    }

    /// Whether rows of these conversations are deferred.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn is_any_deferred(&self, conversations: &[ConversationId]) -> Result<bool, StoreError> {
        const IS_ANY: &str = "select exists (
            select from outbox where deferred_at is not null and deferred_conversations && $1
        )";
        self.with_connection(async |client| {
            let statement = client.prepare_cached(IS_ANY).await?;
            Ok(client.query_one(&statement, &[&conversations]).await?.try_get(0)?)
        })
        .await
    }

    /// The length of the outbox, for metrics. Constant cost.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn outbox_depth(&self) -> Result<OutboxDepth, StoreError> {
        self.with_connection(async |client| {
            let statement = client.prepare_cached(DEPTH).await?;
            let row = client.query_one(&statement, &[&MAX_COUNTED]).await?;
            let mut events = 0;
            for (sum, count, last, end) in [(0, 2, 4, 6), (1, 3, 5, 7)] {
                let (sum, count): (i64, i64) = (row.try_get(sum)?, row.try_get(count)?);
                let (last, end): (i64, Option<i64>) = (row.try_get(last)?, row.try_get(end)?);
                events += sum + estimate_beyond(sum, count, end.unwrap_or(last) - last);
            }
            Ok(OutboxDepth { events, age: row.try_get(8)?, failed: row.try_get(9)? })
        })
        .await
    }
}

/// Estimates the events of `ids` further ids, when `count` rows held `sum` events. Ids have few gaps.
fn estimate_beyond(sum: i64, count: i64, ids: i64) -> i64 {
    if count < MAX_COUNTED { 0 } else { ids.saturating_mul(sum) / count.max(1) }
}

/// The oldest deferred row of each conversation of these entries.
async fn oldest_deferred(
    transaction: &Transaction<'_>,
    entries: &[OutboxEntry],
) -> Result<HashMap<ConversationId, i64>, StoreError> {
    let events = entries.iter().flat_map(|entry| &entry.events);
    let mut conversations: Vec<ConversationId> = events.filter_map(OutboxEvent::conversation).collect();
    conversations.sort_unstable();
    conversations.dedup();
    if conversations.is_empty() {
        return Ok(HashMap::new());
    }
    let statement = transaction.prepare_cached(OLDEST_DEFERRED).await?;
    let rows = transaction.query(&statement, &[&conversations]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_exact_when_small_and_estimated_beyond() {
        assert_eq!(estimate_beyond(7, 3, 40), 0, "all rows were counted");
        assert_eq!(estimate_beyond(2 * MAX_COUNTED, MAX_COUNTED, 500), 1_000, "two events in each of 500 further rows");
    }
}
