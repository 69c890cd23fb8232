//! The table `messages`: inserting, and reading pages.

use std::collections::HashMap;
use std::sync::Arc;

use deadpool_postgres::Object;
use shared::ids::{LocationId, PersonId};
use shared::participant::{Conversation, Participant};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};
use uuid::Uuid;

use super::data_keys::{self, Opening, Sealing};
use super::{Store, StoreError};
use crate::domain::history;
use crate::domain::message::{Content, Message, NewMessage};
use crate::vault::{DataKey, DataKeyId, Place};

/// The columns that [`message`] reads, of the table called `$table` in the query.
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

/// Messages that these senders have sent in these locations under these client ids. Parameters: ids, locations, senders
/// as `user:…` or `contact:…`, which is how the index knows them.
pub(super) const BY_CLIENT_ID: &str = concat!(
    "select ",
    columns!("m"),
    " from unnest($1::uuid[], $2::text[], $3::text[]) as x (client_message_id, location_id, sender)
      join messages m on m.client_message_id = x.client_message_id and m.location_id = x.location_id
           and coalesce('user:' || m.sender_user_id::text, 'contact:' || m.sender_contact_id::text) = x.sender"
);

/// Inserts messages whose content is in the columns `$content`, which are the parameters from $11 on, of the types `$types`.
macro_rules! insert {
    ($content:literal, $types:literal) => {
        concat!(
            "insert into messages (id, location_id, sender_user_id, receiver_user_id, sender_contact_id,
                receiver_contact_id, sent_at, conversation_id, seq, client_message_id, ",
            $content,
            ") select id, location_id, sender_user_id, receiver_user_id, sender_contact_id,
                receiver_contact_id, sent_at, conversation_id, seq, client_message_id, ",
            $content,
            " from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[],
                $8::uuid[], $9::bigint[], $10::uuid[], ",
            $types,
            ") as x (id, location_id, sender_user_id, receiver_user_id, sender_contact_id,
                receiver_contact_id, sent_at, conversation_id, seq, client_message_id, ",
            $content,
            ")"
        )
    };
}

/// The statement that writes messages.
pub(super) fn insert_statement(sealing: &Sealing) -> &'static str {
    const PLAIN: &str = insert!("content", "$11::text[]");
    const SEALED: &str = insert!("content_key, content_sealed", "$11::uuid[], $12::bytea[]");
    if sealing.is_some() { SEALED } else { PLAIN }
}

/// The sealed contents of messages, and which keys have sealed them.
pub(super) fn seal(
    messages: &[Message],
    keys: &HashMap<LocationId, Arc<DataKey>>,
) -> Result<(Vec<DataKeyId>, Vec<Vec<u8>>), StoreError> {
    let seal = |message: &Message| {
        let key = keys.get(message.new.conversation.location()).ok_or_else(|| StoreError::internal("no data key"))?;
        Ok((key.id, key.seal(&message.place(), &message.new.content)?))
    };
    messages.iter().map(seal).collect()
}

/// Writes new messages, whose conversations must be locked. `statement` is [`insert_statement`].
pub(super) async fn insert(
    client: &Object,
    statement: &Statement,
    messages: &[Message],
    sealing: &Sealing,
) -> Result<(), StoreError> {
    let column = |value: fn(&NewMessage) -> Option<&str>| messages.iter().map(|m| value(&m.new)).collect::<Vec<_>>();
    let ids: Vec<_> = messages.iter().map(|m| m.id).collect();
    let locations = column(|m| Some(m.conversation.location().as_str()));
    let sender_users = column(|m| m.sender.user_id().map(PersonId::as_str));
    let receiver_users = column(|m| m.receiver.user_id().map(PersonId::as_str));
    let sender_contacts = column(|m| m.sender.contact_id().map(PersonId::as_str));
    let receiver_contacts = column(|m| m.receiver.contact_id().map(PersonId::as_str));
    let times: Vec<_> = messages.iter().map(|m| m.sent_at).collect();
    let conversations: Vec<_> = messages.iter().map(|m| m.new.conversation.id()).collect();
    let seqs: Vec<_> = messages.iter().map(|m| m.seq).collect();
    let client_ids: Vec<Option<Uuid>> = messages.iter().map(|m| m.new.client_message_id).collect();
    let (contents, sealed);
    let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![
        &ids,
        &locations,
        &sender_users,
        &receiver_users,
        &sender_contacts,
        &receiver_contacts,
        &times,
        &conversations,
        &seqs,
        &client_ids,
    ];
    if let Some(keys) = sealing {
        sealed = seal(messages, keys)?;
        parameters.extend([&sealed.0 as &(dyn ToSql + Sync), &sealed.1]);
    } else {
        contents = column(|m| Some(m.content.as_str()));
        parameters.push(&contents);
    }
    client.execute(statement, &parameters).await?;
    Ok(())
}

/// A page of one conversation. The tenant is compared outside: within, PostgreSQL would take the two conditions for
/// independent, expect hardly a row, and so read and sort the whole conversation in place of one page of the index.
macro_rules! history_page {
    ($side:literal, $direction:literal) => {
        concat!(
            "select ",
            columns!("m"),
            " from (select ",
            columns!("m"),
            " from messages m where m.conversation_id = $1 and m.seq ",
            $side,
            " $3 order by m.seq",
            $direction,
            " limit $4) m where m.location_id = $2 order by m.seq",
            $direction
        )
    };
}

impl Store {
    /// Messages of one conversation next to `place`: descending by `seq`, except after a place.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn history(
        &self,
        conversation: &Conversation,
        place: history::Place,
        limit: usize,
    ) -> Result<Vec<Message>, StoreError> {
        const BEFORE: &str = history_page!("<", " desc");
        const AFTER: &str = history_page!(">", "");
        let (query, seq) = match place {
            history::Place::End => (BEFORE, i64::MAX),
            history::Place::Before(seq) => (BEFORE, seq),
            history::Place::After(seq) => (AFTER, seq),
        };
        let limit = i64::try_from(limit).map_err(StoreError::internal)?;
        self.with(async |client| {
            let statement = client.prepare_cached(query).await?;
            let location = conversation.location().as_str();
            let rows = client.query(&statement, &[&conversation.id(), &location, &seq, &limit]).await?;
            let opening = data_keys::opening(client, self.vault.as_deref(), &rows).await?;
            rows.iter().map(|row| message(row, &opening)).collect()
        })
        .await
    }
}

/// A person's identifier, if the column holds one.
pub(super) fn person(row: &Row, column: &str) -> Result<Option<PersonId>, StoreError> {
    row.try_get::<_, Option<&str>>(column)?.map(|id| id.parse().map_err(StoreError::internal)).transpose()
}

/// The one participant that two columns name.
pub(super) fn participant(row: &Row, user: &str, contact: &str) -> Result<Participant, StoreError> {
    match (person(row, user)?, person(row, contact)?) {
        (Some(user), None) => Ok(Participant::user(user)),
        (None, Some(contact)) => Ok(Participant::contact(contact)),
        _ => Err(StoreError::internal("a message needs one sender and one receiver")),
    }
}

/// The message of a row that has [`columns`]. The only place where content comes out of the database, sealed or not.
///
/// # Errors
/// [`StoreError::Unreadable`] when its content was sealed for another message, or altered.
pub(super) fn message(row: &Row, opening: &Opening) -> Result<Message, StoreError> {
    let location: LocationId = row.try_get::<_, &str>("location_id")?.parse().map_err(StoreError::internal)?;
    let sender = participant(row, "sender_user_id", "sender_contact_id")?;
    let receiver = participant(row, "receiver_user_id", "receiver_contact_id")?;
    let conversation = Conversation::new(location, sender.clone(), receiver.clone()).map_err(StoreError::internal)?;
    let id = row.try_get("id")?;
    let content = match row.try_get::<_, Option<String>>("content")? {
        Some(text) => Content::trusted(text),
        None => {
            let place = Place { id, conversation: &conversation, sender: &sender };
            opening.open(&place, row.try_get("content_key")?, row.try_get("content_sealed")?)?
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
