//! The table `outbox`: events that Redis may not have yet. At least once, never zero times.

use std::collections::HashMap;

use deadpool_postgres::Transaction;
use shared::channel::Channel;
use shared::event::Draft;
use shared::ids::{ConversationId, LocationId, MessageId};
use shared::receipt::Kind;
use shared::timestamp::timestamp;
use time::OffsetDateTime;
use tokio_postgres::Row;

use super::{Store, StoreError, conversations, data_keys, messages};
use crate::domain::inbox::{Changed, Standing};
use crate::domain::message::Message;
use crate::vault::Vault;

/// Key of the advisory lock that one relay at a time holds: "outbox" in ASCII. Several at once would break the
/// order within a conversation.
const LOCK: i64 = 0x006f_7574_626f_7800;

/// An event that is on disk, and so certain to be published.
#[derive(Debug, Clone)]
pub struct OutboxEvent {
    /// Where to publish.
    pub channel: Channel,
    /// What.
    pub draft: Draft,
}

/// Events that were written together, and the row that remembers them until all are published.
#[derive(Debug, Clone)]
pub struct OutboxEntry {
    /// The row.
    pub id: i64,
    /// In the order in which they are to be published.
    pub events: Vec<OutboxEvent>,
    /// The conversations whose rows in inboxes it changes, in any order.
    pub changed: Vec<Changed>,
}

/// Remembers the messages of a transaction, in the order of their publication. Parameters: their ids.
pub(super) const INSERT_MESSAGES: &str =
    "insert into outbox (kind, message_ids) values ('message', $1::uuid[]) returning id";

/// Remembers that something happened to messages of one conversation. Parameters: location, conversation, kind, ids, time.
pub(super) const INSERT_RECEIPT: &str = "insert into outbox (location_id, conversation_id, kind, message_ids, at)
    values ($1::text, $2, $3, $4, $5) returning id";

/// The oldest rows, as many as name $1 messages between them, and at least one.
const OLDEST: &str = "select id, location_id, conversation_id, kind, message_ids, at
    from (
        select id, location_id, conversation_id, kind, message_ids, at,
               sum(cardinality(message_ids)) over (order by id) - cardinality(message_ids) as before
        from (
            select id, location_id, conversation_id, kind, message_ids, at from outbox
            where published_at is null and created_at <= clock_timestamp() - make_interval(secs => $2)
            order by id limit $1
        ) oldest
    ) counted
    where before < $1 order by id";

impl Store {
    /// Notes entries whose events Redis has, and forgets others. Neither waits for the disk: what a crash undoes costs a
    /// second publication, which clients ignore.
    ///
    /// # Errors
    /// [`StoreError`]; all of their events will be published once more.
    pub async fn settle(&self, published: &[i64], forgotten: &[i64]) -> Result<(), StoreError> {
        const NOTE: &str = "update outbox set published_at = clock_timestamp() where id in (
            select id from outbox where id = any($1) order by id for update
        )";
        // Not what somebody is about to publish again.
        const FORGET: &str = "delete from outbox where id in (
            select id from outbox where id = any($1) and published_at is not null order by id for update
        )";
        self.with(async |client| {
            let transaction = client.transaction().await?;
            transaction.batch_execute("set local synchronous_commit = off").await?;
            for (statement, ids) in [(NOTE, published), (FORGET, forgotten)] {
                if !ids.is_empty() {
                    let statement = transaction.prepare_cached(statement).await?;
                    transaction.execute(&statement, &[&ids]).await?;
                }
            }
            Ok(transaction.commit().await?)
        })
        .await
    }

    /// Has entries published once more that were published more than `age_seconds` ago and are still there: those of a
    /// dead instance, or with 0 all that a Redis may have lost.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn unsettle(&self, age_seconds: f64) -> Result<(), StoreError> {
        self.with(async |client| {
            let statement = client
                .prepare_cached(
                    "update outbox set published_at = null where id in (
                         select id from outbox where published_at <= clock_timestamp() - make_interval(secs => $1)
                         order by id for update
                     )",
                )
                .await?;
            client.execute(&statement, &[&age_seconds]).await?;
            Ok(())
        })
        .await
    }

    /// Hands the oldest entries to `publish`, of about `limit` messages and only those older than `age_seconds`, and notes
    /// that they are published. Returns them, and whether there may be more; `None` when another instance is at it.
    ///
    /// # Errors
    /// [`StoreError`], or what `publish` returns; nothing is noted then.
    pub async fn relay<E: From<StoreError>>(
        &self,
        limit: i64,
        age_seconds: f64,
        publish: impl AsyncFnOnce(&[OutboxEntry]) -> Result<(), E>,
    ) -> Result<Option<(Vec<OutboxEntry>, bool)>, E> {
        let outcome = self
            .with(async |client| {
                let transaction = client.transaction().await?;
                let locked: bool =
                    transaction.query_one("select pg_try_advisory_xact_lock($1)", &[&LOCK]).await?.try_get(0)?;
                if !locked {
                    return Ok(Ok(None));
                }
                let (entries, is_full) = oldest(&transaction, self.vault.as_deref(), limit, age_seconds).await?;
                if entries.is_empty() {
                    return Ok(Ok(Some((entries, false))));
                }
                if let Err(error) = publish(&entries).await {
                    return Ok(Err(error));
                }
                let ids: Vec<i64> = entries.iter().map(|entry| entry.id).collect();
                let note = "update outbox set published_at = clock_timestamp() where id = any($1)";
                transaction.execute(note, &[&ids]).await?;
                transaction.commit().await?;
                Ok(Ok(Some((entries, is_full))))
            })
            .await;
        outcome?
    }

    /// How many events wait, and for how many seconds the oldest has: for metrics.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn outbox_depth(&self) -> Result<(i64, f64), StoreError> {
        self.with(async |client| {
            let row = client
                .query_one(
                    "select coalesce(sum(case kind when 'message' then cardinality(message_ids) else 1 end), 0)::bigint,
                            coalesce(extract(epoch from clock_timestamp() - min(created_at)), 0)::float8
                     from outbox where published_at is null",
                    &[],
                )
                .await?;
            Ok((row.try_get(0)?, row.try_get(1)?))
        })
        .await
    }
}

/// The oldest entries, their events made anew from the messages they tell of; and whether as many as asked for were there.
async fn oldest(
    transaction: &Transaction<'_>,
    vault: Option<&Vault>,
    limit: i64,
    age_seconds: f64,
) -> Result<(Vec<OutboxEntry>, bool), StoreError> {
    let statement = transaction.prepare_cached(OLDEST).await?;
    let rows = transaction.query(&statement, &[&limit, &age_seconds]).await?;
    let told: Vec<MessageId> = rows
        .iter()
        .filter(|row| matches!(row.try_get("kind"), Ok("message")))
        .map(|row| row.try_get::<_, Vec<MessageId>>("message_ids"))
        .collect::<Result<Vec<_>, _>>()?
        .concat();
    let statement = transaction
        .prepare_cached(concat!("select ", messages::columns!("m"), " from messages m where m.id = any($1)"))
        .await?;
    let found = transaction.query(&statement, &[&told]).await?;
    let opening = data_keys::opening(transaction, vault, &found).await?;
    let mut messages: HashMap<MessageId, Option<Message>> = HashMap::with_capacity(found.len());
    for row in &found {
        match messages::message(row, &opening) {
            Ok(message) => drop(messages.insert(message.id, Some(message))),
            // Nobody can publish it, and it must not hold up all that stands behind it.
            Err(error @ StoreError::Unreadable(id)) => {
                tracing::error!(%error, "a message is not published");
                messages.insert(id, None);
            }
            Err(error) => return Err(error),
        }
    }
    let mut named = 0;
    for row in &rows {
        named += row.try_get::<_, Vec<MessageId>>("message_ids")?.len();
    }
    // What they have changed since is told as well: a row is worth no more than the newest one.
    let mut concerned: HashMap<ConversationId, &str> = HashMap::new();
    for message in messages.values().flatten() {
        concerned.insert(message.new.conversation.id(), message.new.conversation.location().as_str());
    }
    for row in &rows {
        if let (Some(id), Some(location)) = (row.try_get("conversation_id")?, row.try_get("location_id")?) {
            concerned.insert(id, location);
        }
    }
    let (ids, locations): (Vec<_>, Vec<_>) = concerned.into_iter().unzip();
    let standing = conversations::standing(transaction, vault, &ids, &locations).await?;
    let mut standing: HashMap<_, _> = standing.into_iter().map(|found| (found.conversation().id(), found)).collect();
    let entries = rows.iter().map(|row| entry(row, &messages, &mut standing)).collect::<Result<_, _>>()?;
    Ok((entries, i64::try_from(named).is_ok_and(|named| named >= limit)))
}

/// The first entry that concerns a conversation takes along how it stands.
fn entry(
    row: &Row,
    messages: &HashMap<MessageId, Option<Message>>,
    standing: &mut HashMap<ConversationId, Standing>,
) -> Result<OutboxEntry, StoreError> {
    let ids: Vec<MessageId> = row.try_get("message_ids")?;
    let receipt = |kind| -> Result<Vec<OutboxEvent>, StoreError> {
        let location: LocationId = row.try_get::<_, &str>("location_id")?.parse().map_err(StoreError::internal)?;
        let at: OffsetDateTime = row.try_get("at")?;
        let channel = Channel::new(&location, row.try_get("conversation_id")?);
        Ok(vec![OutboxEvent { channel, draft: Draft::receipt(kind, &ids, &timestamp(at)) }])
    };
    let events = match row.try_get("kind")? {
        "delivered" => receipt(Kind::Delivered)?,
        "read" => receipt(Kind::Read)?,
        _ => ids.iter().filter_map(|id| message_event(messages.get(id)).transpose()).collect::<Result<_, _>>()?,
    };
    let named = row.try_get::<_, Option<ConversationId>>("conversation_id")?;
    let written = ids.iter().filter_map(|id| messages.get(id)?.as_ref()).map(|message| message.new.conversation.id());
    let changed = named.into_iter().chain(written).filter_map(|id| standing.remove(&id));
    let changed = changed.map(|standing| Changed::To(Box::new(standing))).collect();
    Ok(OutboxEntry { id: row.try_get("id")?, events, changed })
}

fn message_event(message: Option<&Option<Message>>) -> Result<Option<OutboxEvent>, StoreError> {
    let Some(message) = message.ok_or_else(|| StoreError::internal("no such message"))? else { return Ok(None) };
    let json = message.to_json().map_err(StoreError::internal)?;
    Ok(Some(OutboxEvent { channel: Channel::from(&message.new.conversation), draft: message.event(&json) }))
}
