//! Encrypts the messages from before encryption was switched on, in small windows beside running services. A statement reads one
//! window of the table, so its time does not grow with the table.

use std::fmt;

use shared::contract::ids::MessageId;
use shared::kit::timestamp::timestamp;
use uuid::Uuid;

use crate::model::message::Message;
use crate::store::data_keys;
use crate::store::{Store, StoreError, messages};

/// Attempts per window when a receipt interferes.
const MAX_ATTEMPTS: usize = 5;

/// The end of the window of $2 + 1 messages after $1; no row when fewer are left.
const END: &str = "select id from messages where id > $1 order by id offset $2 limit 1";

/// Plain messages of a window.
const PLAIN: &str = concat!(
    "select ",
    messages::columns!("m"),
    " from messages m where m.id > $1 and m.id <= $2 and m.content is not null order by m.id"
);

/// In the order of the ids, as every statement locks.
const SEAL: &str = "update messages m set content = null, content_sealed = x.sealed, content_key = x.key
    from (
        select id, sealed, key from unnest($1::uuid[], $2::bytea[], $3::uuid[]) as x (id, sealed, key) order by id
    ) x
    where m.id = x.id and m.content is not null";

/// A plain message. It does not show its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainMessage {
    /// Its id.
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
    /// Reads the next `window` messages after `last`, and encrypts the plain ones if `encrypt` is set. Returns the end of the
    /// window, `None` at the end of the table, and the plain messages. Their plain text stays in the table's free space until
    /// PostgreSQL reuses it.
    ///
    /// # Errors
    /// [`StoreError`]. It may be repeated.
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
        let envelope_keys = self.envelope_keys()?;
        let server = self.pools.server().generation();
        self.with_connection(async |client| {
            let statement = client.prepare_cached(END).await?;
            let end: Option<MessageId> = match client.query_opt(&statement, &[&last, &(window - 1)]).await? {
                Some(row) => Some(row.try_get(0)?),
                None => None,
            };
            let statement = client.prepare_cached(PLAIN).await?;
            let rows = client.query(&statement, &[&last, &end.unwrap_or(Uuid::max())]).await?;
            // Without keys, plain text is accepted.
            let opening = data_keys::opening_keys(client, None, &rows).await?;
            let plain = rows.iter().map(|row| messages::message(row, &opening)).collect::<Result<Vec<_>, _>>()?;
            if encrypt && !plain.is_empty() {
                let locations = plain.iter().map(|message| message.new.conversation.location());
                let sealing = data_keys::sealing_keys(client, Some(envelope_keys), locations, server).await?;
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

    /// How far an interrupted backfill has got.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn backfill_position(&self) -> Result<Option<MessageId>, StoreError> {
        self.with_connection(async |client| {
            let row = client.query_opt("select position from progress where name = 'keys encrypt'", &[]).await?;
            Ok(row.map(|row| row.try_get(0)).transpose()?)
        })
        .await
    }

    /// Records that position; `None` when the backfill is complete.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn set_backfill_position(&self, position: Option<MessageId>) -> Result<(), StoreError> {
        const NOTE: &str = "insert into progress (name, position) values ('keys encrypt', $1)
            on conflict (name) do update set position = excluded.position, at = clock_timestamp()";
        self.with_connection(async |client| {
            match position {
                Some(position) => client.execute(NOTE, &[&position]).await?,
                None => client.execute("delete from progress where name = 'keys encrypt'", &[]).await?,
            };
            Ok(())
        })
        .await
    }
}
