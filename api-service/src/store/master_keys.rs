//! What operators do with the table `data_keys`: look whether master keys fit, wrap with another one, have new keys seal.

use std::collections::HashSet;

use shared::ids::LocationId;

use super::data_keys::{insert, select, wrapped_key};
use super::{Store, StoreError};
use crate::vault::{DataKeyId, Vault, VaultError};

/// Keys in one statement.
const BATCH: i64 = 500;

impl Store {
    /// Whether the master keys are those of this database: one data key of each is opened.
    ///
    /// # Errors
    /// [`StoreError`], or in its place what does not fit, for whoever starts the service.
    pub async fn check_keys(&self) -> Result<Result<(), WrongKeys>, StoreError> {
        self.with(async |client| {
            let query = "select distinct on (master_key_id) id, location_id, master_key_id, wrapped
                         from data_keys order by master_key_id, id desc";
            for row in client.query(query, &[]).await? {
                let key = wrapped_key(&row)?;
                let opened = match &self.vault {
                    Some(vault) => vault.unwrap_key(&key).map(drop).map_err(WrongKeys::Vault),
                    None => Err(WrongKeys::Missing),
                };
                if opened.is_err() {
                    return Ok(opened);
                }
            }
            Ok(Ok(()))
        })
        .await
    }

    /// Wraps all data keys with the current master key. Returns how many were not before.
    ///
    /// # Errors
    /// [`StoreError`]; it may be done again.
    pub async fn rewrap_keys(&self) -> Result<usize, StoreError> {
        const BEHIND: &str = select!("where master_key_id <> $1 and id > $2 order by id limit $3");
        // Not what somebody else has wrapped anew meanwhile.
        const UPDATE: &str = "update data_keys d set master_key_id = $1, wrapped = x.wrapped
            from unnest($2::uuid[], $3::text[], $4::bytea[]) as x (id, master_key_id, wrapped)
            where d.id = x.id and d.master_key_id = x.master_key_id";
        let vault = self.vault()?;
        let current = vault.current().ok_or(VaultError::NothingSeals)?.as_str();
        let (mut rewrapped, mut last) = (0, DataKeyId::nil());
        loop {
            let (keys, done) = self
                .with(async |client| {
                    let rows = client.query(BEHIND, &[&current, &last, &BATCH]).await?;
                    let before = rows.iter().map(wrapped_key).collect::<Result<Vec<_>, _>>()?;
                    let after = before.iter().map(|key| vault.rewrap(key)).collect::<Result<Vec<_>, _>>()?;
                    let ids: Vec<_> = before.iter().map(|key| key.id).collect();
                    let masters: Vec<_> = before.iter().map(|key| key.master.as_str()).collect();
                    let wrapped: Vec<_> = after.iter().map(|key| key.wrapped.as_slice()).collect();
                    Ok((ids.clone(), client.execute(UPDATE, &[&current, &ids, &masters, &wrapped]).await?))
                })
                .await?;
            rewrapped += done as usize;
            match keys.last() {
                Some(id) => last = *id,
                None => return Ok(rewrapped),
            }
        }
    }

    /// Gives locations that have a data key, or one of them, a new one, and has the old ones only open. Returns how many.
    ///
    /// # Errors
    /// [`StoreError`]; it may be done again.
    pub async fn rotate_keys(&self, only: Option<&LocationId>) -> Result<usize, StoreError> {
        const IN_USE: &str = select!(
            "where retired_at is null and location_id > $1::text and ($2::text is null or location_id = $2::text)
             order by location_id limit $3"
        );
        const RETIRE: &str = "update data_keys set retired_at = clock_timestamp()
            where id = any($1) and retired_at is null returning location_id::text";
        let vault = self.vault()?;
        let only = only.map(LocationId::as_str);
        let (mut rotated, mut last) = (0, String::new());
        loop {
            let locations = self
                .with(async |client| {
                    let transaction = client.transaction().await?;
                    let rows = transaction.query(IN_USE, &[&last, &only, &BATCH]).await?;
                    let keys = rows.iter().map(wrapped_key).collect::<Result<Vec<_>, _>>()?;
                    let ids: Vec<_> = keys.iter().map(|key| key.id).collect();
                    // Those that somebody else has retired meanwhile have a new one.
                    let retired = transaction.query(RETIRE, &[&ids]).await?;
                    let retired = retired.iter().map(|row| row.try_get::<_, String>(0));
                    let retired = retired.collect::<Result<HashSet<_>, _>>()?;
                    let keys = keys.iter().filter(|key| retired.contains(key.location.as_str()));
                    let made = keys.map(|key| vault.generate(&key.location)).collect::<Result<Vec<_>, _>>()?;
                    insert(&transaction, &made).await?;
                    transaction.commit().await?;
                    rotated += made.len();
                    Ok(rows.iter().map(|row| row.try_get("location_id")).collect::<Result<Vec<String>, _>>()?)
                })
                .await?;
            match locations.into_iter().next_back() {
                Some(location) => last = location,
                None => return Ok(rotated),
            }
        }
    }

    pub(super) fn vault(&self) -> Result<&Vault, StoreError> {
        self.vault.as_deref().ok_or_else(|| StoreError::internal("there is no CONTENT_KEYS"))
    }
}

/// Why a service must not start on a database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WrongKeys {
    /// It holds what was sealed, and there is no master key.
    #[error("the database holds encrypted content, and there is no CONTENT_KEYS")]
    Missing,
    /// It holds what none of the master keys opens.
    #[error(transparent)]
    Vault(VaultError),
}
