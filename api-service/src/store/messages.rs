//! The table `messages`: inserting, and reading pages.

use std::sync::Arc;

use deadpool_postgres::Object;
use shared::ids::{LocationId, PersonId};
use shared::participant::{Conversation, Participant};
use tokio_postgres::{Row, Statement};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::history::Place;
use crate::domain::message::{Content, Message, NewMessage};

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

pub(super) const INSERT: &str =
    "insert into messages (id, location_id, sender_user_id, receiver_user_id, sender_contact_id,
        receiver_contact_id, content, sent_at, conversation_id, seq, client_message_id)
    select id, location_id, sender_user_id, receiver_user_id, sender_contact_id,
        receiver_contact_id, content, sent_at, conversation_id, seq, client_message_id
    from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[],
        $9::uuid[], $10::bigint[], $11::uuid[])
        as x (id, location_id, sender_user_id, receiver_user_id, sender_contact_id,
              receiver_contact_id, content, sent_at, conversation_id, seq, client_message_id)";

/// Writes new messages, whose conversations must be locked. `statement` is [`INSERT`].
pub(super) async fn insert(client: &Object, statement: &Statement, messages: &[Message]) -> Result<(), StoreError> {
    let column = |value: fn(&NewMessage) -> Option<&str>| messages.iter().map(|m| value(&m.new)).collect::<Vec<_>>();
    let ids: Vec<_> = messages.iter().map(|m| m.id).collect();
    let locations = column(|m| Some(m.conversation.location().as_str()));
    let sender_users = column(|m| m.sender.user_id().map(PersonId::as_str));
    let receiver_users = column(|m| m.receiver.user_id().map(PersonId::as_str));
    let sender_contacts = column(|m| m.sender.contact_id().map(PersonId::as_str));
    let receiver_contacts = column(|m| m.receiver.contact_id().map(PersonId::as_str));
    let contents = column(|m| Some(m.content.as_str()));
    let times: Vec<_> = messages.iter().map(|m| m.sent_at).collect();
    let conversations: Vec<_> = messages.iter().map(|m| m.new.conversation.id()).collect();
    let seqs: Vec<_> = messages.iter().map(|m| m.seq).collect();
    let client_ids: Vec<Option<Uuid>> = messages.iter().map(|m| m.new.client_message_id).collect();
    client
        .execute(
            statement,
            &[
                &ids,
                &locations,
                &sender_users,
                &receiver_users,
                &sender_contacts,
                &receiver_contacts,
                &contents,
                &times,
                &conversations,
                &seqs,
                &client_ids,
            ],
        )
        .await?;
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
        place: Place,
        limit: usize,
    ) -> Result<Vec<Message>, StoreError> {
        const BEFORE: &str = history_page!("<", " desc");
        const AFTER: &str = history_page!(">", "");
        let (query, seq) = match place {
            Place::End => (BEFORE, i64::MAX),
            Place::Before(seq) => (BEFORE, seq),
            Place::After(seq) => (AFTER, seq),
        };
        let limit = i64::try_from(limit).map_err(StoreError::internal)?;
        self.with(async |client| {
            let statement = client.prepare_cached(query).await?;
            let location = conversation.location().as_str();
            let rows = client.query(&statement, &[&conversation.id(), &location, &seq, &limit]).await?;
            rows.iter().map(message).collect()
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

/// The message of a row that has [`columns`].
pub(super) fn message(row: &Row) -> Result<Message, StoreError> {
    let location: LocationId = row.try_get::<_, &str>("location_id")?.parse().map_err(StoreError::internal)?;
    let sender = participant(row, "sender_user_id", "sender_contact_id")?;
    let receiver = participant(row, "receiver_user_id", "receiver_contact_id")?;
    Ok(Message {
        id: row.try_get("id")?,
        new: Arc::new(NewMessage {
            conversation: Conversation::new(location, sender.clone(), receiver.clone())
                .map_err(StoreError::internal)?,
            sender,
            receiver,
            content: Content::trusted(row.try_get("content")?),
            client_message_id: row.try_get("client_message_id")?,
        }),
        seq: row.try_get("seq")?,
        sent_at: row.try_get("sent_at")?,
        delivered_at: row.try_get("delivered_at")?,
        read_at: row.try_get("read_at")?,
    })
}
