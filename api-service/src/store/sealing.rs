//! Seals what was written before encryption was switched on, a few hundred messages at a time, beside a running service.

use shared::ids::MessageId;

use super::{Store, StoreError, data_keys, messages};

/// Messages in one statement.
const BATCH: i64 = 500;
/// How often a batch is tried when a receipt stands in the way.
const ATTEMPTS: usize = 5;

/// The first messages behind $1 that are stored as they are.
const PLAIN: &str = concat!(
    "select ",
    messages::columns!("m"),
    " from messages m where m.id > $1 and m.content is not null order by m.id limit $2"
);

/// In the order of the ids, as everybody locks who locks more than one.
const SEAL: &str = "update messages m set content = null, content_sealed = x.sealed, content_key = x.key
    from (
        select id, sealed, key from unnest($1::uuid[], $2::bytea[], $3::uuid[]) as x (id, sealed, key) order by id
    ) x
    where m.id = x.id and m.content is not null";

impl Store {
    /// Seals the content of the next messages behind `last`. Returns the last of them and how many there were; `None` at
    /// the end. What was in the open lies in the table's free space until PostgreSQL uses it for something else.
    ///
    /// # Errors
    /// [`StoreError`]; it may be done again.
    pub async fn seal_messages(&self, last: MessageId) -> Result<Option<(MessageId, usize)>, StoreError> {
        let mut attempts = 1;
        loop {
            match self.seal_batch(last).await {
                Err(StoreError::Contended(_) | StoreError::Locked(_)) if attempts < ATTEMPTS => attempts += 1,
                done => return done,
            }
        }
    }

    async fn seal_batch(&self, last: MessageId) -> Result<Option<(MessageId, usize)>, StoreError> {
        let vault = self.vault()?;
        self.with(async |client| {
            let statement = client.prepare_cached(PLAIN).await?;
            let rows = client.query(&statement, &[&last, &BATCH]).await?;
            let opening = data_keys::opening(client, None, &rows).await?;
            let plain = rows.iter().map(|row| messages::message(row, &opening)).collect::<Result<Vec<_>, _>>()?;
            let Some(newest) = plain.last() else { return Ok(None) };
            let locations = plain.iter().map(|message| message.new.conversation.location());
            let sealing = data_keys::sealing(client, Some(vault), locations).await?;
            let sealing = sealing.ok_or(crate::vault::VaultError::NothingSeals)?;
            let (keys, sealed) = messages::seal(&plain, &sealing)?;
            let ids: Vec<_> = plain.iter().map(|message| message.id).collect();
            let statement = client.prepare_cached(SEAL).await?;
            client.execute(&statement, &[&ids, &sealed, &keys]).await?;
            Ok(Some((newest.id, plain.len())))
        })
        .await
    }
}
