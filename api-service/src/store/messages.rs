//! The table `messages`: inserts, and pages of a history.

use std::collections::HashMap;
use std::sync::Arc;

use deadpool_postgres::Object;
use shared::contract::ids::{ConversationId, LocationId, MessageId, ParticipantId};
use shared::contract::participant::{Conversation, Participant};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::envelope::{DataKey, DataKeyId, MessageAad};
use crate::model::message::{Message, NewMessage};
use crate::model::page::{MAX_PAGE_BYTES, PagePosition};
use crate::store::data_keys::{self, OpeningKeys, SealingKeys};

/// The columns that [`message`] reads, from the table `$table` of the query.
macro_rules! columns {
    ($table:literal) => {
        concat!(
            $table,
            ".id, ",
            $table,
            ".location_id, ",
            $table,
            ".sender_user_id, ",
            $table,
            ".receiver_user_id, ",
            $table,
            ".sender_contact_id, ",
            $table,
            ".receiver_contact_id, ",
            $table,
            ".content, ",
            $table,
            ".content_sealed, ",
            $table,
            ".content_key, ",
            $table,
            ".sent_at, ",
            $table,
            ".delivered_at, ",
            $table,
            ".read_at, ",
            $table,
            ".seq, ",
            $table,
            ".client_message_id"
        )
    };
}
pub(super) use columns;

/// Messages by sender and client id. Parameters: client ids, locations, senders as `user:…` or `contact:…`, as the index stores
/// them.
pub(super) const BY_CLIENT_ID: &str = concat!(
    "select ",
    columns!("m"),
    " from unnest($1::uuid[], $2::text[], $3::text[]) as x (client_message_id, location_id, sender)
      join messages m on m.client_message_id = x.client_message_id and m.location_id = x.location_id
           and coalesce('user:' || m.sender_user_id::text, 'contact:' || m.sender_contact_id::text) = x.sender"
);

/// Inserts messages. `$content` names the content columns, whose parameters start at $10 with the types `$types`; `$times` is the
/// parameter after them.
macro_rules! insert {
    ($content:literal, $types:literal, $times:literal) => {
        concat!(
            "insert into messages (id, location_id, sender_user_id, receiver_user_id, sender_contact_id,
                receiver_contact_id, conversation_id, seq, client_message_id, sent_at, ",
            $content,
            ") select id, location_id, sender_user_id, receiver_user_id, sender_contact_id,
                receiver_contact_id, conversation_id, seq, client_message_id, sent_at, ",
            $content,
            " from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::uuid[],
                $8::bigint[], $9::uuid[], ",
            $types,
            ", ",
            $times,
            "::timestamptz[]) as x (id, location_id, sender_user_id, receiver_user_id, sender_contact_id,
                receiver_contact_id, conversation_id, seq, client_message_id, ",
            $content,
            ", sent_at)"
        )
    };
}

/// Names of the parameters of an insert, in order, without the content and the times that follow.
pub(super) const INSERT_PARAMETERS: [&str; 9] = [
    "message_ids",
    "location_ids",
    "sender_user_ids",
    "receiver_user_ids",
    "sender_contact_ids",
    "receiver_contact_ids",
    "conversation_ids",
    "seqs",
    "client_message_ids",
];

/// The statement that inserts messages.
pub(super) fn insert_statement(sealing: &SealingKeys) -> &'static str {
    const PLAIN: &str = insert!("content", "$10::text[]", "$11");
    const SEALED: &str = insert!("content_key, content_sealed", "$10::uuid[], $11::bytea[]", "$12");
    if sealing.is_some() { SEALED } else { PLAIN }
}

/// Seals the contents. Returns them with the ids of their keys.
pub(super) fn seal(
    messages: &[Message],
    keys: &HashMap<LocationId, Arc<DataKey>>,
) -> Result<(Vec<DataKeyId>, Vec<Vec<u8>>), StoreError> {
    let seal = |message: &Message| {
        let key = keys.get(message.new.conversation.location()).ok_or_else(|| StoreError::internal("no data key"))?;
        Ok((key.id, key.seal(&MessageAad::from(message), &message.new.content)?))
    };
    messages.iter().map(seal).collect()
}

/// Inserts new messages. Their conversations must be locked. `statement` is [`insert_statement`].
pub(super) async fn insert(
    client: &Object,
    statement: &Statement,
    messages: &[Message],
    sealing: &SealingKeys,
) -> Result<(), StoreError> {
    let columns = Columns::new(messages, sealing)?;
    let times: Vec<_> = messages.iter().map(|message| message.sent_at).collect();
    let mut parameters = columns.parameters();
    parameters.push(&times);
    client.execute(statement, &parameters).await?;
    Ok(())
}

/// New messages by column, without their times.
pub(super) struct Columns<'a> {
    pub(super) ids: Vec<MessageId>,
    locations: Vec<&'a str>,
    /// User ids of senders and receivers, then contact ids of senders and receivers.
    people: [Vec<Option<&'a str>>; 4],
    conversations: Vec<ConversationId>,
    seqs: Vec<i64>,
    client_ids: Vec<Option<Uuid>>,
    contents: Contents<'a>,
}

enum Contents<'a> {
    Plain(Vec<&'a str>),
    Sealed(Vec<DataKeyId>, Vec<Vec<u8>>),
}

impl<'a> Columns<'a> {
    /// Seals the contents where encryption is on.
    pub(super) fn new(messages: &'a [Message], sealing: &SealingKeys) -> Result<Self, StoreError> {
        fn column<'a, T>(messages: &'a [Message], value: impl Fn(&'a Message) -> T) -> Vec<T> {
            messages.iter().map(value).collect()
        }
        Ok(Self {
            ids: column(messages, |m| m.id),
            locations: column(messages, |m| m.new.conversation.location().as_str()),
            people: [
                column(messages, |m| m.new.sender.user_id().map(ParticipantId::as_str)),
                column(messages, |m| m.new.receiver.user_id().map(ParticipantId::as_str)),
                column(messages, |m| m.new.sender.contact_id().map(ParticipantId::as_str)),
                column(messages, |m| m.new.receiver.contact_id().map(ParticipantId::as_str)),
            ],
            conversations: column(messages, |m| m.new.conversation.id()),
            seqs: column(messages, |m| m.seq),
            client_ids: column(messages, |m| m.new.client_message_id),
            contents: match sealing {
                Some(keys) => {
                    let (keys, sealed) = seal(messages, keys)?;
                    Contents::Sealed(keys, sealed)
                }
                None => Contents::Plain(column(messages, |m| m.new.content.as_str())),
            },
        })
    }

    /// In the order of the parameters of [`insert_statement`], except the last.
    pub(super) fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        let [sender_users, receiver_users, sender_contacts, receiver_contacts] = &self.people;
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![
            &self.ids,
            &self.locations,
            sender_users,
            receiver_users,
            sender_contacts,
            receiver_contacts,
            &self.conversations,
            &self.seqs,
            &self.client_ids,
        ];
        match &self.contents {
            Contents::Plain(contents) => parameters.push(contents),
            Contents::Sealed(keys, sealed) => parameters.extend([keys as &(dyn ToSql + Sync), sealed]),
        }
        parameters
    }
}

/// A page of one conversation.
///
/// The location is compared outside of the subquery. Inside, PostgreSQL would treat both conditions as independent and expect
/// hardly a row. It would then read and sort the whole conversation instead of one page of the index.
///
/// Content beyond $5 bytes is not read, except for one more row, which shows that there are more. The lengths are known without
/// the contents.
macro_rules! history_page {
    ($side:literal, $direction:literal) => {
        concat!(
            "select ",
            columns!("m"),
            " from (select ",
            columns!("m"),
            ", sum(coalesce(octet_length(m.content), octet_length(m.content_sealed) - 28)) over (order by m.seq",
            $direction,
            " rows between unbounded preceding and 2 preceding) as bytes_before
               from messages m where m.conversation_id = $1 and m.seq ",
            $side,
            " $3 order by m.seq",
            $direction,
            " limit $4) m where m.location_id = $2 and coalesce(m.bytes_before, 0) < $5 order by m.seq",
            $direction
        )
    };
}

impl Store {
    /// Reads messages next to `position`: descending by `seq`, except for [`PagePosition::After`]. At most `limit`, and at most
    /// one more than fits a page.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn history(
        &self,
        conversation: &Conversation,
        position: PagePosition,
        limit: usize,
    ) -> Result<Vec<Message>, StoreError> {
        const BEFORE: &str = history_page!("<", " desc");
        const AFTER: &str = history_page!(">", "");
        let (query, seq) = match position {
            PagePosition::Latest => (BEFORE, i64::MAX),
            PagePosition::Before(seq) => (BEFORE, seq),
            PagePosition::After(seq) => (AFTER, seq),
        };
        let limit = i64::try_from(limit).map_err(StoreError::internal)?;
        let max_bytes = i64::try_from(MAX_PAGE_BYTES).map_err(StoreError::internal)?;
        self.with_read_connection(async |client| {
            let statement = client.prepare_cached(query).await?;
            let location = conversation.location().as_str();
            let rows = client.query(&statement, &[&conversation.id(), &location, &seq, &limit, &max_bytes]).await?;
            let opening = data_keys::opening_keys(client, self.envelope_keys.as_deref(), &rows).await?;
            rows.iter().map(|row| message(row, &opening)).collect()
        })
        .await
    }
}

/// An identifier, if the column holds one.
pub(super) fn person(row: &Row, column: &str) -> Result<Option<ParticipantId>, StoreError> {
    row.try_get::<_, Option<&str>>(column)?.map(|id| id.parse().map_err(StoreError::internal)).transpose()
}

/// The participant that one of two columns names.
pub(super) fn participant(row: &Row, user: &str, contact: &str) -> Result<Participant, StoreError> {
    match (person(row, user)?, person(row, contact)?) {
        (Some(user), None) => Ok(Participant::user(user)),
        (None, Some(contact)) => Ok(Participant::contact(contact)),
        _ => Err(StoreError::internal("a message needs one sender and one receiver")),
    }
}

/// Conversation, sender and receiver of a message.
pub(super) fn sides(row: &Row) -> Result<(Conversation, Participant, Participant), StoreError> {
    let location: LocationId = row.try_get::<_, &str>("location_id")?.parse().map_err(StoreError::internal)?;
    let sender = participant(row, "sender_user_id", "sender_contact_id")?;
    let receiver = participant(row, "receiver_user_id", "receiver_contact_id")?;
    let conversation = Conversation::new(location, sender.clone(), receiver.clone()).map_err(StoreError::internal)?;
    Ok((conversation, sender, receiver))
}

/// Reads a message from a row with [`columns`]. All content leaves the database through this function.
///
/// # Errors
/// [`StoreError::Unreadable`] when the content was altered, belongs to another message, or is plain text although all content is
/// encrypted.
pub(super) fn message(row: &Row, opening: &OpeningKeys) -> Result<Message, StoreError> {
    let (conversation, sender, receiver) = sides(row)?;
    let id = row.try_get("id")?;
    let content = match row.try_get::<_, Option<String>>("content")? {
        Some(text) => opening.plain(id, text)?,
        None => {
            let aad = MessageAad { id, conversation: &conversation, sender: &sender };
            opening.open(&aad, row.try_get("content_key")?, row.try_get("content_sealed")?)?
        }
    };
    Ok(Message {
        id,
        new: Arc::new(NewMessage {
            conversation,
            sender,
            receiver,
            content,
            client_message_id: row.try_get("client_message_id")?,
        }),
        seq: row.try_get("seq")?,
        sent_at: row.try_get("sent_at")?,
        delivered_at: row.try_get("delivered_at")?,
        read_at: row.try_get("read_at")?,
    })
}

/// Reads a message where an unreadable one must not fail a whole batch.
pub(super) fn readable(row: &Row, opening: &OpeningKeys) -> Result<Message, StoreError> {
    super::without_panic(|| message(row, opening))
}
