//! What operators do with the table `data_keys`: look whether master keys fit, wrap with another one, have new keys seal.

use std::collections::{BTreeMap, HashSet};

use shared::ids::LocationId;
use tokio_postgres::Row;

use super::running_services;
use crate::envelope::{DataKeyId, EnvelopeError, EnvelopeKeys, WrappedKey};
use crate::store::keys::data_keys::{self, insert, select, wrapped_key};
use crate::store::{Store, StoreError};

/// Keys in one statement.
const MAX_BATCH: i64 = 500;

/// What is asked of the services that run.
#[derive(Clone, Copy)]
enum ServiceCheck {
    HoldsKey,
    Seals,
    None,
}

/// Of the data keys under each master key, the oldest and the newest.
const SAMPLE_PER_MASTER: &str = "select id, location_id, master_key_id, wrapped from data_keys where id in (
        select id from (
            select id, row_number() over (partition by master_key_id order by id) as oldest,
                   row_number() over (partition by master_key_id order by id desc) as newest
            from data_keys
        ) placed where oldest <= 8 or newest <= 16
    ) order by master_key_id, id";

/// What became of data keys that were wrapped anew.
#[derive(Debug, Default)]
pub struct RewrapReport {
    /// How many there are.
    pub count: usize,
    /// Those that do not open, so that nobody can wrap them: their rows were altered.
    pub skipped: Vec<UnopenableKey>,
}

/// A data key that does not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnopenableKey {
    /// Which.
    pub id: DataKeyId,
    /// Whose messages it sealed.
    pub location: String,
}

impl std::fmt::Display for UnopenableKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "data key {} of location {}", self.id, self.location)
    }
}

impl UnopenableKey {
    fn from_row(row: &Row) -> Result<Self, StoreError> {
        Ok(Self { id: row.try_get("id")?, location: row.try_get("location_id")? })
    }
}

impl Store {
    /// Whether the master keys are those of this database: of the data keys under each of them, some are opened, the oldest and the
    /// newest. One that does not open beside others that do was altered: that is its location's own trouble.
    ///
    /// # Errors
    /// [`StoreError`], or in its place what does not fit, for whoever starts the service.
    pub async fn check_master_keys(&self) -> Result<Result<(), KeyMismatchError>, StoreError> {
        self.with(async |client| {
            let rows = client.query(SAMPLE_PER_MASTER, &[]).await?;
            let Some(vault) = self.vault.as_deref() else {
                return Ok(if rows.is_empty() { Ok(()) } else { Err(KeyMismatchError::Missing) });
            };
            if let Err(wrong) = check_each(&rows, |row| Ok(vault.unwrap_key(&wrapped_key(row)?).map(drop)))? {
                return Ok(Err(KeyMismatchError::Envelope(wrong)));
            }
            data_keys::detect_complete(&*client, vault).await?;
            let must_seal = vault.is_complete() && vault.current().is_none();
            Ok(if must_seal { Err(KeyMismatchError::Envelope(EnvelopeError::MustSeal)) } else { Ok(()) })
        })
        .await
    }

    /// Wraps all data keys with the current master key. Returns how many were not before, and which cannot be.
    ///
    /// # Errors
    /// [`StoreError`]; it may be done again. [`RunningServicesError`](crate::store::RunningServicesError) within it when a running service lacks the key.
    pub async fn rewrap_keys(&self) -> Result<RewrapReport, StoreError> {
        let vault = self.vault()?;
        let current = vault.current().ok_or(EnvelopeError::NothingSeals)?.as_str();
        self.rewrap_all(Some(current), ServiceCheck::HoldsKey, |key| vault.rewrap(key)).await
    }

    /// Has all data keys say that all content is sealed, so that text in the open is refused from now on, whatever becomes of the
    /// rest of the database. Returns how many there are.
    ///
    /// # Errors
    /// As [`Store::rewrap_keys`], and when a running service writes text in the open.
    pub async fn mark_encryption_complete(&self) -> Result<RewrapReport, StoreError> {
        let vault = self.vault()?;
        // Once before: what this process makes from now on says so as well.
        self.check_sealing().await?;
        vault.mark_complete();
        self.rewrap_all(None, ServiceCheck::Seals, |key| vault.rewrap(key)).await
    }

    async fn check_sealing(&self) -> Result<(), StoreError> {
        self.with(async |client| running_services::check_seals(&client.transaction().await?).await).await
    }

    /// Has all data keys say that text in the open is welcome. Returns how many there are.
    ///
    /// # Errors
    /// [`StoreError`]; it may be done again.
    pub async fn allow_plain(&self) -> Result<RewrapReport, StoreError> {
        let vault = self.vault()?;
        self.rewrap_all(None, ServiceCheck::None, |key| vault.rewrap_incomplete(key)).await
    }

    /// Wraps data keys anew, all but those that `all_but` has wrapped, a few in each transaction. One that does not open is left as it is,
    /// so that it keeps none of the others under an old key.
    async fn rewrap_all(
        &self,
        all_but: Option<&str>,
        service_check: ServiceCheck,
        wrap: impl Fn(&WrappedKey) -> Result<WrappedKey, EnvelopeError>,
    ) -> Result<RewrapReport, StoreError> {
        const NEXT: &str =
            select!("where ($1::text is null or master_key_id <> $1::text) and id > $2 order by id limit $3");
        // Not what somebody else has wrapped anew meanwhile.
        const UPDATE: &str = "update data_keys d set master_key_id = x.master_key_id, wrapped = x.wrapped
            from unnest($1::uuid[], $2::text[], $3::bytea[], $4::bytea[]) as x (id, master_key_id, wrapped, before)
            where d.id = x.id and d.wrapped = x.before";
        let vault = self.vault()?;
        let (mut wrapped, mut last) = (RewrapReport::default(), DataKeyId::nil());
        loop {
            let (newest, done, bad) = self
                .with(async |client| {
                    let transaction = client.transaction().await?;
                    match service_check {
                        ServiceCheck::HoldsKey => {
                            running_services::lock_and_check(&transaction, vault.current_fingerprint()?).await?
                        }
                        ServiceCheck::Seals => {
                            running_services::lock_and_check(&transaction, vault.current_fingerprint()?).await?;
                            running_services::check_seals(&transaction).await?;
                        }
                        ServiceCheck::None => {}
                    }
                    let rows = transaction.query(NEXT, &[&all_but, &last, &MAX_BATCH]).await?;
                    let (mut before, mut after, mut bad) = (Vec::new(), Vec::new(), Vec::new());
                    for row in &rows {
                        match wrapped_key(row).map(|key| (wrap(&key), key)) {
                            Ok((Ok(rewrapped), key)) => {
                                before.push(key);
                                after.push(rewrapped);
                            }
                            Ok((Err(EnvelopeError::WrongMaster(..)), _)) | Err(_) => {
                                bad.push(UnopenableKey::from_row(row)?)
                            }
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
                    running_services::lock_and_check(&transaction, vault.current_fingerprint()?).await?;
                    let rows = transaction.query(IN_USE, &[&last, &only, &MAX_BATCH]).await?;
                    let keys = rows.iter().map(wrapped_key).collect::<Result<Vec<_>, _>>()?;
                    let ids: Vec<_> = keys.iter().map(|key| key.id).collect();
                    // Those that somebody else has retired meanwhile have a new one.
                    let retired = transaction.query(RETIRE, &[&ids]).await?;
                    let retired = retired.iter().map(|row| row.try_get::<_, String>(0));
                    let retired = retired.collect::<Result<HashSet<_>, _>>()?;
                    let keys = keys.iter().filter(|key| retired.contains(key.location.as_str()));
                    let new_keys = keys.map(|key| vault.generate(&key.location)).collect::<Result<Vec<_>, _>>()?;
                    insert(&transaction, &new_keys).await?;
                    transaction.commit().await?;
                    rotated += new_keys.len();
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
    pub async fn refresh_encryption_state(&self) -> Result<bool, StoreError> {
        let Some(vault) = self.vault.as_deref() else { return Ok(false) };
        if !vault.is_complete() {
            self.with(async |client| data_keys::detect_complete(&*client, vault).await).await?;
        }
        Ok(vault.is_complete())
    }

    pub(in crate::store) fn vault(&self) -> Result<&EnvelopeKeys, StoreError> {
        self.vault.as_deref().ok_or_else(|| StoreError::internal("there is no CONTENT_KEYS"))
    }
}

/// Looks at some data keys, those under one master key beside each other. A master key is wrong when none opens with it; otherwise
/// whichever does not is told of.
fn check_each(
    rows: &[Row],
    open: impl Fn(&Row) -> Result<Result<(), EnvelopeError>, StoreError>,
) -> Result<Result<(), EnvelopeError>, StoreError> {
    let mut masters: BTreeMap<&str, (bool, Option<EnvelopeError>)> = BTreeMap::new();
    for row in rows {
        let (opened, failed) = masters.entry(row.try_get("master_key_id")?).or_default();
        match open(row) {
            Ok(Ok(())) => *opened = true,
            Ok(Err(error)) => {
                tracing::error!(key = %UnopenableKey::from_row(row)?, %error, "a data key does not open");
                failed.get_or_insert(error);
            }
            Err(error) => tracing::error!(key = %UnopenableKey::from_row(row)?, %error, "a data key cannot be read"),
        }
    }
    let wrong = masters.into_values().find_map(|(opened, failed)| failed.filter(|_| !opened));
    Ok(wrong.map_or(Ok(()), Err))
}

/// Why a service must not start on a database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyMismatchError {
    /// It holds what was sealed, and there is no master key.
    #[error("the database holds encrypted content, and there is no CONTENT_KEYS")]
    Missing,
    /// It holds what none of the master keys opens.
    #[error(transparent)]
    Envelope(EnvelopeError),
}
