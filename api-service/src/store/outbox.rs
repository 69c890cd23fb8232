//! The table `outbox`: events that Redis may not have yet. At least once, never zero times.

use std::collections::HashMap;

use deadpool_postgres::GenericClient;
use shared::channel::Channel;
use shared::event::Draft;
use shared::ids::{ConversationId, LocationId, MessageId};
use shared::receipt::Kind;
use time::OffsetDateTime;
use tokio_postgres::{Row, Statement};

use super::{Store, StoreError, messages};
use crate::domain::message::{Message, timestamp};

/// Key of the advisory lock that one relay at a time holds: "outbox" in ASCII. Several at once would break the
/// order within a conversation.
const LOCK: i64 = 0x006f_7574_626f_7800;

/// An event, and the row that remembers it until it is published.
#[derive(Debug, Clone)]
pub struct OutboxEvent {
    /// The row.
    pub id: i64,
    /// Where to publish.
    pub channel: Channel,
    /// What.
    pub draft: Draft,
}

/// An event to be remembered.
pub(super) struct Entry<'a> {
    pub(super) location: &'a LocationId,
    pub(super) conversation: ConversationId,
    pub(super) kind: &'static str,
    pub(super) message_ids: Vec<MessageId>,
    pub(super) at: Option<OffsetDateTime>,
}

impl<'a> Entry<'a> {
    pub(super) fn message(message: &'a Message) -> Self {
        let conversation = &message.new.conversation;
        let (location, id) = (conversation.location(), conversation.id());
        Self { location, conversation: id, kind: "message", message_ids: vec![message.id], at: None }
    }
}

/// unnest flattens arrays of arrays, so the message ids travel as one text an entry.
pub(super) const INSERT: &str = "insert into outbox (location_id, conversation_id, kind, message_ids, at)
    select location_id, conversation_id, kind, string_to_array(message_ids, ',')::uuid[], at
    from unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[]) with ordinality
         as x (location_id, conversation_id, kind, message_ids, at, place)
    order by place returning id";

/// Remembers events, in the transaction of the change they tell of. Returns their rows' ids, in the same order.
/// `statement` is [`INSERT`].
pub(super) async fn insert(
    client: &impl GenericClient,
    statement: &Statement,
    entries: &[Entry<'_>],
) -> Result<Vec<i64>, StoreError> {
    let locations: Vec<_> = entries.iter().map(|entry| entry.location.as_str()).collect();
    let conversations: Vec<_> = entries.iter().map(|entry| entry.conversation).collect();
    let kinds: Vec<_> = entries.iter().map(|entry| entry.kind).collect();
    let message_ids: Vec<_> = entries.iter().map(|entry| joined(&entry.message_ids)).collect();
    let times: Vec<_> = entries.iter().map(|entry| entry.at).collect();
    let rows = client.query(statement, &[&locations, &conversations, &kinds, &message_ids, &times]).await?;
    let mut ids = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    // Identities rise in the order of insertion; in what order RETURNING lists them is not promised.
    ids.sort_unstable();
    Ok(ids)
}

fn joined(ids: &[MessageId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

impl Store {
    /// Forgets events that Redis has.
    ///
    /// # Errors
    /// [`StoreError`]; the events will be published once more.
    pub async fn forget(&self, ids: &[i64]) -> Result<(), StoreError> {
        self.with(async |client| {
            // A forgetting that a crash undoes costs a second publication, which clients ignore: no need to wait for disk.
            let transaction = client.transaction().await?;
            transaction.batch_execute("set local synchronous_commit = off").await?;
            let statement = transaction.prepare_cached("delete from outbox where id = any($1)").await?;
            transaction.execute(&statement, &[&ids]).await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    /// Hands the oldest events to `publish`, at most `limit` and only those older than `age_seconds`, and forgets those
    /// that it published. Returns how many there were; `None` when another instance is at it.
    ///
    /// # Errors
    /// [`StoreError`], or what `publish` returns; nothing is forgotten then.
    pub async fn relay<E: From<StoreError>>(
        &self,
        limit: i64,
        age_seconds: f64,
        publish: impl AsyncFnOnce(&[OutboxEvent]) -> Result<(), E>,
    ) -> Result<Option<usize>, E> {
        let outcome = self
            .with(async |client| {
                let transaction = client.transaction().await?;
                let locked: bool =
                    transaction.query_one("select pg_try_advisory_xact_lock($1)", &[&LOCK]).await?.try_get(0)?;
                if !locked {
                    return Ok(Ok(None));
                }
                let statement = transaction
                    .prepare_cached(
                        "select id, location_id, conversation_id, kind, message_ids, at from outbox
                         where created_at <= clock_timestamp() - make_interval(secs => $2) order by id limit $1",
                    )
                    .await?;
                let rows = transaction.query(&statement, &[&limit, &age_seconds]).await?;
                if rows.is_empty() {
                    return Ok(Ok(Some(0)));
                }
                let ids: Vec<i64> = rows.iter().map(|row| row.try_get("id")).collect::<Result<_, _>>()?;
                let message_ids: Vec<MessageId> = rows
                    .iter()
                    .filter(|row| matches!(row.try_get("kind"), Ok("message")))
                    .map(|row| row.try_get::<_, Vec<MessageId>>("message_ids"))
                    .collect::<Result<Vec<_>, _>>()?
                    .concat();
                let statement = transaction
                    .prepare_cached(concat!(
                        "select ",
                        messages::columns!("m"),
                        " from messages m where m.id = any($1)"
                    ))
                    .await?;
                let messages: HashMap<MessageId, Message> = transaction
                    .query(&statement, &[&message_ids])
                    .await?
                    .iter()
                    .map(|row| messages::message(row).map(|message| (message.id, message)))
                    .collect::<Result<_, _>>()?;
                let events = rows.iter().map(|row| event(row, &messages)).collect::<Result<Vec<_>, _>>()?;
                if let Err(error) = publish(&events).await {
                    return Ok(Err(error));
                }
                transaction.execute("delete from outbox where id = any($1)", &[&ids]).await?;
                transaction.commit().await?;
                Ok(Ok(Some(ids.len())))
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
                    "select count(*), coalesce(extract(epoch from clock_timestamp() - min(created_at)), 0)::float8 from outbox",
                    &[],
                )
                .await?;
            Ok((row.try_get(0)?, row.try_get(1)?))
        })
        .await
    }
}

fn event(row: &Row, messages: &HashMap<MessageId, Message>) -> Result<OutboxEvent, StoreError> {
    let location: LocationId = row.try_get::<_, &str>("location_id")?.parse().map_err(StoreError::internal)?;
    let ids: Vec<MessageId> = row.try_get("message_ids")?;
    let receipt = |kind| -> Result<Draft, StoreError> {
        let at: OffsetDateTime = row.try_get("at")?;
        Ok(Draft::receipt(kind, &ids, &timestamp(at)))
    };
    let draft = match row.try_get("kind")? {
        "delivered" => receipt(Kind::Delivered)?,
        "read" => receipt(Kind::Read)?,
        _ => {
            let message =
                ids.first().and_then(|id| messages.get(id)).ok_or_else(|| StoreError::internal("no such message"))?;
            message.event(&message.to_json().map_err(StoreError::internal)?)
        }
    };
    Ok(OutboxEvent { id: row.try_get("id")?, channel: Channel::new(&location, row.try_get("conversation_id")?), draft })
}
