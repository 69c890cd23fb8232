//! Removes retired data keys that no message uses. Messages have no index by key, so all are read, in windows beside running
//! services. Progress is stored in the table `progress`, so that an interrupted purge continues.
//!
//! A key that was retired a day ago seals nothing any more, so messages that arrive during the purge do not use it.

use shared::contract::ids::MessageId;
use uuid::Uuid;

use crate::store::{Store, StoreError};

/// Starts a purge, unless one has started.
const BEGIN: &str =
    "insert into progress (name, position) values ('keys purge', '00000000-0000-0000-0000-000000000000')
    on conflict (name) do nothing";
/// Records the keys to remove.
const CANDIDATES: &str = "insert into progress (name, position)
    select 'keys purge ' || id, id from data_keys where retired_at < clock_timestamp() - interval '1 day'
    on conflict (name) do nothing";
/// How far messages were read.
const POSITION: &str = "select position from progress where name = 'keys purge'";
/// Claims this window. Fails when another run has claimed or finished it.
const HOLD: &str = "update progress set at = clock_timestamp() where name = 'keys purge' and position = $1";
/// The end of the window of $2 + 1 messages after $1; no row when fewer are left.
const END: &str = "select id from messages where id > $1 order by id offset $2 limit 1";
/// Keeps the keys that messages of this window use.
const FOUND: &str = "delete from progress p using (
        select distinct content_key from (
            select content_key from messages where id > $1 and id <= $2 order by id
        ) m where content_key is not null
    ) m where p.name = 'keys purge ' || m.content_key";
const LEFT: &str = "select exists (select from progress where name like 'keys purge %')";
const NOTE: &str = "update progress set position = $1 where name = 'keys purge'";
const REMOVE: &str = "delete from data_keys using progress p
    where p.name like 'keys purge %' and data_keys.id = p.position and data_keys.retired_at is not null";
const FORGET: &str = "delete from progress where name = 'keys purge' or name like 'keys purge %'";

/// The result of one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PurgeStep {
    /// All messages up to this one were read.
    UpTo(MessageId),
    /// The purge is complete; this many keys were removed.
    Done(u64),
    /// Another run has claimed the window.
    TakenByOther,
}

impl Store {
    /// Starts a purge or continues one. Returns how far messages were read.
    ///
    /// # Errors
    /// [`StoreError`]. It may be repeated.
    pub async fn begin_purge(&self) -> Result<MessageId, StoreError> {
        self.with_connection(async |client| {
            let transaction = client.transaction().await?;
            if transaction.execute(BEGIN, &[]).await? == 1 {
                transaction.execute(CANDIDATES, &[]).await?;
            }
            let position = transaction.query_one(POSITION, &[]).await?.try_get(0)?;
            transaction.commit().await?;
            Ok(position)
        })
        .await
    }

    /// Reads the next `window` messages after `last`. After the last one, removes the keys that no message uses.
    ///
    /// # Errors
    /// [`StoreError`]. It may be repeated.
    pub async fn purge_window(&self, last: MessageId, window: i64) -> Result<PurgeStep, StoreError> {
        self.with_connection(async |client| {
            let transaction = client.transaction().await?;
            if transaction.execute(HOLD, &[&last]).await? == 0 {
                return Ok(PurgeStep::TakenByOther);
            }
            let end: Option<MessageId> = match transaction.query_opt(END, &[&last, &(window - 1)]).await? {
                Some(row) => Some(row.try_get(0)?),
                None => None,
            };
            transaction.execute(FOUND, &[&last, &end.unwrap_or(Uuid::max())]).await?;
            let is_any_left: bool = transaction.query_one(LEFT, &[]).await?.try_get(0)?;
            let purged = match end.filter(|_| is_any_left) {
                Some(end) => {
                    transaction.execute(NOTE, &[&end]).await?;
                    PurgeStep::UpTo(end)
                }
                None => {
                    let removed = transaction.execute(REMOVE, &[]).await?;
                    transaction.execute(FORGET, &[]).await?;
                    PurgeStep::Done(removed)
                }
            };
            transaction.commit().await?;
            Ok(purged)
        })
        .await
    }
}
