//! What operators do with the table `data_keys`: look whether master keys fit, wrap with another one, have new keys seal.

use std::collections::HashSet;

use shared::ids::LocationId;

use super::data_keys::{self, insert, select, wrapped_key};
use super::{Store, StoreError, running};
use crate::vault::{DataKeyId, Vault, VaultError, WrappedKey};

/// Keys in one statement.
const BATCH: i64 = 500;

/// What is asked of the services that run.
#[derive(Clone, Copy)]
enum Running {
    HoldTheKey,
    Seal,
    DoNotMatter,
}

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
            let Some(vault) = self.vault.as_deref() else { return Ok(Ok(())) };
            data_keys::learn(&*client, vault).await?;
            let must_seal = vault.is_complete() && vault.current().is_none();
            Ok(if must_seal { Err(WrongKeys::Vault(VaultError::MustSeal)) } else { Ok(()) })
        })
        .await
    }

    /// Wraps all data keys with the current master key. Returns how many were not before.
    ///
    /// # Errors
    /// [`StoreError`]; it may be done again. [`NotEverywhere`](super::NotEverywhere) within it when a running service lacks the key.
    pub async fn rewrap_keys(&self) -> Result<usize, StoreError> {
        let vault = self.vault()?;
        let current = vault.current().ok_or(VaultError::NothingSeals)?.as_str();
        self.wrap_anew(Some(current), Running::HoldTheKey, |key| vault.rewrap(key)).await
    }

    /// Has all data keys say that all content is sealed, so that text in the open is refused from now on, whatever becomes of the
    /// rest of the database. Returns how many there are.
    ///
    /// # Errors
    /// As [`Store::rewrap_keys`], and when a running service writes text in the open.
    pub async fn complete_sealing(&self) -> Result<usize, StoreError> {
        let vault = self.vault()?;
        // Once before: what this process makes from now on says so as well.
        self.check_sealing().await?;
        vault.complete();
        self.wrap_anew(None, Running::Seal, |key| vault.rewrap(key)).await
    }

    async fn check_sealing(&self) -> Result<(), StoreError> {
        self.with(async |client| running::check_seals(&client.transaction().await?).await).await
    }

    /// Has all data keys say that text in the open is welcome. Returns how many there are.
    ///
    /// # Errors
    /// [`StoreError`]; it may be done again.
    pub async fn allow_plain(&self) -> Result<usize, StoreError> {
        let vault = self.vault()?;
        self.wrap_anew(None, Running::DoNotMatter, |key| vault.rewrap_incomplete(key)).await
    }

    /// Wraps data keys anew, all but those that `all_but` has wrapped, a few in each transaction.
    async fn wrap_anew(
        &self,
        all_but: Option<&str>,
        running: Running,
        wrap: impl Fn(&WrappedKey) -> Result<WrappedKey, VaultError>,
    ) -> Result<usize, StoreError> {
        const NEXT: &str =
            select!("where ($1::text is null or master_key_id <> $1::text) and id > $2 order by id limit $3");
        // Not what somebody else has wrapped anew meanwhile.
        const UPDATE: &str = "update data_keys d set master_key_id = x.master_key_id, wrapped = x.wrapped
            from unnest($1::uuid[], $2::text[], $3::bytea[], $4::bytea[]) as x (id, master_key_id, wrapped, before)
            where d.id = x.id and d.wrapped = x.before";
        let vault = self.vault()?;
        let (mut count, mut last) = (0, DataKeyId::nil());
        loop {
            let (newest, done) = self
                .with(async |client| {
                    let transaction = client.transaction().await?;
                    match running {
                        Running::HoldTheKey => running::hold(&transaction, vault.current_fingerprint()?).await?,
                        Running::Seal => {
                            running::hold(&transaction, vault.current_fingerprint()?).await?;
                            running::check_seals(&transaction).await?;
                        }
                        Running::DoNotMatter => {}
                    }
                    let rows = transaction.query(NEXT, &[&all_but, &last, &BATCH]).await?;
                    let before = rows.iter().map(wrapped_key).collect::<Result<Vec<_>, _>>()?;
                    let after = before.iter().map(&wrap).collect::<Result<Vec<_>, _>>()?;
                    let ids: Vec<_> = after.iter().map(|key| key.id).collect();
                    let masters: Vec<_> = after.iter().map(|key| key.master.as_str()).collect();
                    let [old, new] =
                        [&before, &after].map(|keys| keys.iter().map(|key| key.wrapped.as_slice()).collect::<Vec<_>>());
                    let done = transaction.execute(UPDATE, &[&ids, &masters, &new, &old]).await?;
                    transaction.commit().await?;
                    Ok((ids.last().copied(), done))
                })
                .await?;
            count += done as usize;
            match newest {
                Some(id) => last = id,
                None => return Ok(count),
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
                    running::hold(&transaction, vault.current_fingerprint()?).await?;
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

    /// Looks whether all content of the database is sealed; `false` also where nothing is.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn learn_sealing(&self) -> Result<bool, StoreError> {
        let Some(vault) = self.vault.as_deref() else { return Ok(false) };
        if !vault.is_complete() {
            self.with(async |client| data_keys::learn(&*client, vault).await).await?;
        }
        Ok(vault.is_complete())
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
