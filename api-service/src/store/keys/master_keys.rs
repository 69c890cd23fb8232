//! What operators do with the table `data_keys`: look whether master keys fit, wrap with another one, have new keys seal.

use std::collections::{BTreeMap, HashSet};

use shared::ids::LocationId;
use tokio_postgres::Row;

use super::running_services as running;
use crate::envelope::{DataKeyId, Vault, VaultError, WrappedKey};
use crate::store::keys::data_keys::{self, insert, select, wrapped_key};
use crate::store::{Store, StoreError};

/// Keys in one statement.
const BATCH: i64 = 500;

/// What is asked of the services that run.
#[derive(Clone, Copy)]
enum Running {
    HoldTheKey,
    Seal,
    DoNotMatter,
}

/// Of the data keys under each master key, the oldest and the newest.
const OF_EACH_MASTER: &str = "select id, location_id, master_key_id, wrapped from data_keys where id in (
        select id from (
            select id, row_number() over (partition by master_key_id order by id) as oldest,
                   row_number() over (partition by master_key_id order by id desc) as newest
            from data_keys
        ) placed where oldest <= 8 or newest <= 16
    ) order by master_key_id, id";

/// What became of data keys that were wrapped anew.
#[derive(Debug, Default)]
pub struct Wrapped {
    /// How many there are.
    pub count: usize,
    /// Those that do not open, so that nobody can wrap them: their rows were altered.
    pub skipped: Vec<BadKey>,
}

/// A data key that does not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadKey {
    /// Which.
    pub id: DataKeyId,
    /// Whose messages it sealed.
    pub location: String,
}

impl std::fmt::Display for BadKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "data key {} of location {}", self.id, self.location)
    }
}

impl BadKey {
    fn of(row: &Row) -> Result<Self, StoreError> {
        Ok(Self { id: row.try_get("id")?, location: row.try_get("location_id")? })
    }
}

impl Store {
    /// Whether the master keys are those of this database: of the data keys under each of them, some are opened, the oldest and the
    /// newest. One that does not open beside others that do was altered: that is its location's own trouble.
    ///
    /// # Errors
    /// [`StoreError`], or in its place what does not fit, for whoever starts the service.
    pub async fn check_keys(&self) -> Result<Result<(), WrongKeys>, StoreError> {
        self.with(async |client| {
            let rows = client.query(OF_EACH_MASTER, &[]).await?;
            let Some(vault) = self.vault.as_deref() else {
                return Ok(if rows.is_empty() { Ok(()) } else { Err(WrongKeys::Missing) });
            };
            if let Err(wrong) = check_each(&rows, |row| Ok(vault.unwrap_key(&wrapped_key(row)?).map(drop)))? {
                return Ok(Err(WrongKeys::Vault(wrong)));
            }
            data_keys::learn(&*client, vault).await?;
            let must_seal = vault.is_complete() && vault.current().is_none();
            Ok(if must_seal { Err(WrongKeys::Vault(VaultError::MustSeal)) } else { Ok(()) })
        })
        .await
    }

    /// Wraps all data keys with the current master key. Returns how many were not before, and which cannot be.
    ///
    /// # Errors
    /// [`StoreError`]; it may be done again. [`NotEverywhere`](crate::store::NotEverywhere) within it when a running service lacks the key.
    pub async fn rewrap_keys(&self) -> Result<Wrapped, StoreError> {
        let vault = self.vault()?;
        let current = vault.current().ok_or(VaultError::NothingSeals)?.as_str();
        self.wrap_anew(Some(current), Running::HoldTheKey, |key| vault.rewrap(key)).await
    }

    /// Has all data keys say that all content is sealed, so that text in the open is refused from now on, whatever becomes of the
    /// rest of the database. Returns how many there are.
    ///
    /// # Errors
    /// As [`Store::rewrap_keys`], and when a running service writes text in the open.
    pub async fn complete_sealing(&self) -> Result<Wrapped, StoreError> {
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
    pub async fn allow_plain(&self) -> Result<Wrapped, StoreError> {
        let vault = self.vault()?;
        self.wrap_anew(None, Running::DoNotMatter, |key| vault.rewrap_incomplete(key)).await
    }

    /// Wraps data keys anew, all but those that `all_but` has wrapped, a few in each transaction. One that does not open is left as it is,
    /// so that it keeps none of the others under an old key.
    async fn wrap_anew(
        &self,
        all_but: Option<&str>,
        running: Running,
        wrap: impl Fn(&WrappedKey) -> Result<WrappedKey, VaultError>,
    ) -> Result<Wrapped, StoreError> {
        const NEXT: &str =
            select!("where ($1::text is null or master_key_id <> $1::text) and id > $2 order by id limit $3");
        // Not what somebody else has wrapped anew meanwhile.
        const UPDATE: &str = "update data_keys d set master_key_id = x.master_key_id, wrapped = x.wrapped
            from unnest($1::uuid[], $2::text[], $3::bytea[], $4::bytea[]) as x (id, master_key_id, wrapped, before)
            where d.id = x.id and d.wrapped = x.before";
        let vault = self.vault()?;
        let (mut wrapped, mut last) = (Wrapped::default(), DataKeyId::nil());
        loop {
            let (newest, done, bad) = self
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
                    let (mut before, mut after, mut bad) = (Vec::new(), Vec::new(), Vec::new());
                    for row in &rows {
                        match wrapped_key(row).map(|key| (wrap(&key), key)) {
                            Ok((Ok(anew), key)) => {
                                before.push(key);
                                after.push(anew);
                            }
                            Ok((Err(VaultError::WrongMaster(..)), _)) | Err(_) => bad.push(BadKey::of(row)?),
                            Ok((Err(error), _)) => return Err(error.into()),
                        }
                    }
                    let ids: Vec<_> = after.iter().map(|key| key.id).collect();
                    let masters: Vec<_> = after.iter().map(|key| key.master.as_str()).collect();
                    let [old, new] =
                        [&before, &after].map(|keys| keys.iter().map(|key| key.wrapped.as_slice()).collect::<Vec<_>>());
                    let done = transaction.execute(UPDATE, &[&ids, &masters, &new, &old]).await?;
                    transaction.commit().await?;
                    let newest = rows.last().map(|row| row.try_get("id")).transpose()?;
                    Ok((newest, done, bad))
                })
                .await?;
            wrapped.count += done as usize;
            wrapped.skipped.extend(bad);
            match newest {
                Some(id) => last = id,
                None => return Ok(wrapped),
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

    pub(in crate::store) fn vault(&self) -> Result<&Vault, StoreError> {
        self.vault.as_deref().ok_or_else(|| StoreError::internal("there is no CONTENT_KEYS"))
    }
}

/// Looks at some data keys, those under one master key beside each other. A master key is wrong when none opens with it; otherwise
/// whichever does not is told of.
fn check_each(
    rows: &[Row],
    open: impl Fn(&Row) -> Result<Result<(), VaultError>, StoreError>,
) -> Result<Result<(), VaultError>, StoreError> {
    let mut masters: BTreeMap<&str, (bool, Option<VaultError>)> = BTreeMap::new();
    for row in rows {
        let (opened, failed) = masters.entry(row.try_get("master_key_id")?).or_default();
        match open(row) {
            Ok(Ok(())) => *opened = true,
            Ok(Err(error)) => {
                tracing::error!(key = %BadKey::of(row)?, %error, "a data key does not open");
                failed.get_or_insert(error);
            }
            Err(error) => tracing::error!(key = %BadKey::of(row)?, %error, "a data key cannot be read"),
        }
    }
    let wrong = masters.into_values().find_map(|(opened, failed)| failed.filter(|_| !opened));
    Ok(wrong.map_or(Ok(()), Err))
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
