//! Seals what was written before encryption was switched on, a few hundred messages at a time, beside a running service. Every statement
//! looks at a window of the table, sealed or not, so none takes longer where there is more.

use std::fmt;

use shared::ids::MessageId;
use shared::timestamp::timestamp;
use uuid::Uuid;

use super::data_keys;
use crate::model::message::Message;
use crate::store::{Store, StoreError, messages};

/// How often a batch is tried when a receipt stands in the way.
const MAX_ATTEMPTS: usize = 5;

/// Where the window of $2 + 1 messages behind $1 ends; nothing when there are fewer.
const END: &str = "select id from messages where id > $1 order by id offset $2 limit 1";

/// The messages of a window that are stored as they are.
const PLAIN: &str = concat!(
    "select ",
    messages::columns!("m"),
    " from messages m where m.id > $1 and m.id <= $2 and m.content is not null order by m.id"
);

/// In the order of the ids, as everybody locks who locks more than one.
const SEAL: &str = "update messages m set content = null, content_sealed = x.sealed, content_key = x.key
    from (
        select id, sealed, key from unnest($1::uuid[], $2::bytea[], $3::uuid[]) as x (id, sealed, key) order by id
    ) x
    where m.id = x.id and m.content is not null";

/// A message that is stored as it is. It does not show what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainMessage {
    /// Which.
    pub id: MessageId,
    description: String,
}

impl From<&Message> for PlainMessage {
    fn from(message: &Message) -> Self {
        let (new, sent_at) = (&message.new, timestamp(message.sent_at));
        let (conversation, location) = (new.conversation.id(), new.conversation.location());
        let description = format!(
            "of {} to {} in {location}, conversation {conversation}, sent at {sent_at}",
            new.sender, new.receiver
        );
        Self { id: message.id, description }
    }
}

impl fmt::Display for PlainMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {} {}", self.id, self.description)
    }
}

impl Store {
    /// Looks at the next messages behind `last`, `window` at most, and seals those that are stored as they are, if it is `to_seal`. Returns
    /// where it ended, `None` at the end of the table, and those messages. What was in the open lies in the table's free space
    /// until PostgreSQL uses it for something else.
    ///
    /// # Errors
    /// [`StoreError`]; it may be done again.
    pub async fn encrypt_batch(
        &self,
        last: MessageId,
        window: i64,
        encrypt: bool,
    ) -> Result<(Option<MessageId>, Vec<PlainMessage>), StoreError> {
        let mut attempts = 1;
        loop {
            match self.encrypt_window(last, window, encrypt).await {
                Err(StoreError::Contended(_) | StoreError::Locked(_)) if attempts < MAX_ATTEMPTS => attempts += 1,
                done => return done,
            }
        }
    }

    async fn encrypt_window(
        &self,
        last: MessageId,
        window: i64,
        encrypt: bool,
    ) -> Result<(Option<MessageId>, Vec<PlainMessage>), StoreError> {
        let vault = self.vault()?;
        self.with(async |client| {
            let statement = client.prepare_cached(END).await?;
            let end: Option<MessageId> = match client.query_opt(&statement, &[&last, &(window - 1)]).await? {
                Some(row) => Some(row.try_get(0)?),
                None => None,
            };
            let statement = client.prepare_cached(PLAIN).await?;
            let rows = client.query(&statement, &[&last, &end.unwrap_or(Uuid::max())]).await?;
            // Without a vault nothing is refused that is in the open.
            let opening = data_keys::opening(client, None, &rows).await?;
            let plain = rows.iter().map(|row| messages::message(row, &opening)).collect::<Result<Vec<_>, _>>()?;
            if encrypt && !plain.is_empty() {
                let locations = plain.iter().map(|message| message.new.conversation.location());
                let sealing = data_keys::sealing_keys(client, Some(vault), locations).await?;
                let sealing = sealing.ok_or(crate::envelope::EnvelopeError::NothingSeals)?;
                let (keys, sealed) = messages::seal(&plain, &sealing)?;
                let ids: Vec<_> = plain.iter().map(|message| message.id).collect();
                let statement = client.prepare_cached(SEAL).await?;
                client.execute(&statement, &[&ids, &sealed, &keys]).await?;
            }
            Ok((end, plain.iter().map(PlainMessage::from).collect()))
        })
        .await
    }

    /// Up to where all messages are known to be sealed, by whoever has begun to seal them and did not end.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn backfill_position(&self) -> Result<Option<MessageId>, StoreError> {
        self.with(async |client| {
            let row = client.query_opt("select position from progress where name = 'keys encrypt'", &[]).await?;
            Ok(row.map(|row| row.try_get(0)).transpose()?)
        })
        .await
    }

    /// Notes that; `None` when all of them are, or nothing is known.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn set_backfill_position(&self, position: Option<MessageId>) -> Result<(), StoreError> {
        const NOTE: &str = "insert into progress (name, position) values ('keys encrypt', $1)
            on conflict (name) do update set position = excluded.position, at = clock_timestamp()";
        self.with(async |client| {
            match position {
                Some(position) => client.execute(NOTE, &[&position]).await?,
                None => client.execute("delete from progress where name = 'keys encrypt'", &[]).await?,
            };
            Ok(())
        })
        .await
    }
}
