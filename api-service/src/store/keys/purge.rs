//! Removes retired data keys that no message names. Messages have no index by key, so all of them are looked at, a window at a time, beside
//! running services; what is known so far is kept in `progress`, so that whoever is stopped goes on.
//!
//! A key that was retired a day ago seals nothing any more, so a message that comes meanwhile names none of those that are looked for.

use shared::ids::MessageId;
use uuid::Uuid;

use crate::store::{Store, StoreError};

/// Begins to look, unless somebody has begun already.
const BEGIN: &str =
    "insert into progress (name, position) values ('keys purge', '00000000-0000-0000-0000-000000000000')
    on conflict (name) do nothing";
/// Notes the keys that are looked for.
const CANDIDATES: &str = "insert into progress (name, position)
    select 'keys purge ' || id, id from data_keys where retired_at < clock_timestamp() - interval '1 day'
    on conflict (name) do nothing";
/// Up to where all messages were looked at.
const POSITION: &str = "select position from progress where name = 'keys purge'";
/// Nobody else looks at this window meanwhile, or has done so.
const HOLD: &str = "update progress set at = clock_timestamp() where name = 'keys purge' and position = $1";
/// Where the window of $2 + 1 messages behind $1 ends; nothing when there are fewer.
const END: &str = "select id from messages where id > $1 order by id offset $2 limit 1";
/// Keys that messages of a window name are not looked for any more.
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

/// What became of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PurgeStep {
    /// All messages up to here were looked at.
    UpTo(MessageId),
    /// All messages were looked at, or no key is left that is looked for. So many keys were removed.
    Done(u64),
    /// Somebody else has looked at it.
    TakenByOther,
}

impl Store {
    /// Begins to look for retired data keys that no message names, or goes on with it. Returns up to where messages were looked at.
    ///
    /// # Errors
    /// [`StoreError`]; it may be done again.
    pub async fn begin_purge(&self) -> Result<MessageId, StoreError> {
        self.with(async |client| {
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

    /// Looks at the next messages behind `last`, `window` at most. At the end the keys are removed that were looked for and not found.
    ///
    /// # Errors
    /// [`StoreError`]; it may be done again.
    pub async fn purge_window(&self, last: MessageId, window: i64) -> Result<PurgeStep, StoreError> {
        self.with(async |client| {
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
