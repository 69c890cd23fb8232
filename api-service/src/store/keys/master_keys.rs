//! Jobs on the table `data_keys`: check the master keys, rewrap with another one, rotate data keys.

use std::collections::{BTreeMap, HashSet};

use shared::contract::ids::LocationId;
use tokio_postgres::Row;

use super::running_services;
use crate::envelope::{DataKeyId, EnvelopeError, EnvelopeKeys, WrappedKey};
use crate::store::data_keys::{self, insert, select, wrapped_key};
use crate::store::{Store, StoreError};

/// Keys per statement.
const MAX_BATCH: i64 = 500;

/// What running services must fulfil.
#[derive(Clone, Copy)]
enum ServiceCheck {
    HoldsKey,
    Seals,
    None,
}

/// The oldest and latest data keys under each master key.
const SAMPLE_PER_MASTER: &str = "select id, location_id, master_key_id, wrapped from data_keys where id in (
        select id from (
            select id, row_number() over (partition by master_key_id order by id) as oldest,
                   row_number() over (partition by master_key_id order by id desc) as newest
            from data_keys
        ) placed where oldest <= 8 or newest <= 16
    ) order by master_key_id, id";

/// The result of rewrapping.
#[derive(Debug, Default)]
pub struct RewrapReport {
    /// Number of data keys.
    pub count: usize,
    /// Data keys that do not open and were left as they are: their rows were altered.
    pub skipped: Vec<UnopenableKey>,
}

/// A data key that does not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnopenableKey {
    /// Its id.
    pub id: DataKeyId,
    /// The location whose messages it sealed.
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
    /// Checks the master keys against this database by opening a sample of data keys under each. A single key that does not open
    /// was altered, which concerns its location only.
    ///
    /// # Errors
    /// [`StoreError`]. A mismatch is the inner error, which ends the service.
    pub async fn check_master_keys(&self) -> Result<Result<(), KeyMismatchError>, StoreError> {
        self.with_connection(async |client| {
            let rows = client.query(SAMPLE_PER_MASTER, &[]).await?;
            let Some(envelope_keys) = self.envelope_keys.as_deref() else {
                return Ok(if rows.is_empty() { Ok(()) } else { Err(KeyMismatchError::Missing) });
            };
            if let Err(wrong) = check_each(&rows, |row| Ok(envelope_keys.unwrap_key(&wrapped_key(row)?).map(drop)))? {
                return Ok(Err(KeyMismatchError::Envelope(wrong)));
            }
            data_keys::detect_complete(&*client, envelope_keys).await?;
            let must_seal = envelope_keys.is_complete() && envelope_keys.current().is_none();
            Ok(if must_seal { Err(KeyMismatchError::Envelope(EnvelopeError::MustSeal)) } else { Ok(()) })
        })
        .await
    }

    /// Rewraps all data keys with the current master key. Returns how many were rewrapped, and which could not be.
    ///
    /// # Errors
    /// [`StoreError`]; it may be repeated. Contains [`RunningServicesError`](crate::store::RunningServicesError) when a running
    /// service lacks the key.
    pub async fn rewrap_keys(&self) -> Result<RewrapReport, StoreError> {
        let envelope_keys = self.envelope_keys()?;
        let current = envelope_keys.current().ok_or(EnvelopeError::NothingSeals)?.as_str();
        self.rewrap_all(Some(current), ServiceCheck::HoldsKey, |key| envelope_keys.rewrap(key)).await
    }

    /// Has all data keys state that all content is encrypted, so that plain text is rejected from now on. Returns how many there
    /// are.
    ///
    /// # Errors
    /// As [`Store::rewrap_keys`], and when a running service writes plain text.
    pub async fn mark_encryption_complete(&self) -> Result<RewrapReport, StoreError> {
        let envelope_keys = self.envelope_keys()?;
        // Checked first: keys that this process creates from now on state it too.
        self.check_sealing().await?;
        envelope_keys.mark_complete();
        self.rewrap_all(None, ServiceCheck::Seals, |key| envelope_keys.rewrap(key)).await
    }

    async fn check_sealing(&self) -> Result<(), StoreError> {
        self.with_connection(async |client| running_services::check_seals(&client.transaction().await?).await).await
    }

    /// Has all data keys state that plain text is accepted. Returns how many there are.
    ///
    /// # Errors
    /// [`StoreError`]. It may be repeated.
    pub async fn allow_plain(&self) -> Result<RewrapReport, StoreError> {
        let envelope_keys = self.envelope_keys()?;
        self.rewrap_all(None, ServiceCheck::None, |key| envelope_keys.rewrap_incomplete(key)).await
    }

    /// Rewraps data keys, except those that `all_but` wraps, a few per transaction. A key that does not open is left as it is, so
    /// that it blocks no other.
    async fn rewrap_all(
        &self,
        all_but: Option<&str>,
        service_check: ServiceCheck,
        wrap: impl Fn(&WrappedKey) -> Result<WrappedKey, EnvelopeError>,
    ) -> Result<RewrapReport, StoreError> {
        const NEXT: &str =
            select!("where ($1::text is null or master_key_id <> $1::text) and id > $2 order by id limit $3");
        // Except keys that another run has rewrapped in the meantime.
        const UPDATE: &str = "update data_keys d set master_key_id = x.master_key_id, wrapped = x.wrapped
            from unnest($1::uuid[], $2::text[], $3::bytea[], $4::bytea[]) as x (id, master_key_id, wrapped, before)
            where d.id = x.id and d.wrapped = x.before";
        let envelope_keys = self.envelope_keys()?;
        let (mut wrapped, mut last) = (RewrapReport::default(), DataKeyId::nil());
        loop {
            let (newest, done, bad) = self
                .with_connection(async |client| {
                    let transaction = client.transaction().await?;
                    match service_check {
                        ServiceCheck::HoldsKey => {
                            running_services::lock_and_check(&transaction, envelope_keys.current_fingerprint()?)
                                .await?;
                        }
                        ServiceCheck::Seals => {
                            running_services::lock_and_check(&transaction, envelope_keys.current_fingerprint()?)
                                .await?;
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
                                bad.push(UnopenableKey::from_row(row)?);
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

    /// Gives locations, or one, a new data key and retires the old one. Returns their number.
    ///
    /// # Errors
    /// [`StoreError`]. It may be repeated.
    pub async fn rotate_keys(&self, only: Option<&LocationId>) -> Result<usize, StoreError> {
        const IN_USE: &str = select!(
            "where retired_at is null and location_id > $1::text and ($2::text is null or location_id = $2::text)
             order by location_id limit $3"
        );
        const RETIRE: &str = "update data_keys set retired_at = clock_timestamp()
            where id = any($1) and retired_at is null returning location_id::text";
        let envelope_keys = self.envelope_keys()?;
        let only = only.map(LocationId::as_str);
        let (mut rotated, mut last) = (0, String::new());
        loop {
            let locations = self
                .with_connection(async |client| {
                    let transaction = client.transaction().await?;
                    running_services::lock_and_check(&transaction, envelope_keys.current_fingerprint()?).await?;
                    let rows = transaction.query(IN_USE, &[&last, &only, &MAX_BATCH]).await?;
                    let keys = rows.iter().map(wrapped_key).collect::<Result<Vec<_>, _>>()?;
                    let ids: Vec<_> = keys.iter().map(|key| key.id).collect();
                    // Locations that another run has rotated in the meantime have a new key.
                    let retired = transaction.query(RETIRE, &[&ids]).await?;
                    let retired = retired.iter().map(|row| row.try_get::<_, String>(0));
                    let retired = retired.collect::<Result<HashSet<_>, _>>()?;
                    let keys = keys.iter().filter(|key| retired.contains(key.location.as_str()));
                    let new_keys =
                        keys.map(|key| envelope_keys.generate(&key.location)).collect::<Result<Vec<_>, _>>()?;
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

    /// Whether all content of the database is encrypted; `false` without encryption.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn refresh_encryption_state(&self) -> Result<bool, StoreError> {
        let Some(envelope_keys) = self.envelope_keys.as_deref() else { return Ok(false) };
        if !envelope_keys.is_complete() {
            self.with_connection(async |client| data_keys::detect_complete(&*client, envelope_keys).await).await?;
        }
        Ok(envelope_keys.is_complete())
    }

    pub(in crate::store) fn envelope_keys(&self) -> Result<&EnvelopeKeys, StoreError> {
        self.envelope_keys.as_deref().ok_or_else(|| StoreError::internal("there is no CONTENT_KEYS"))
    }
}

/// Opens a sample of data keys, grouped by master key. A master key is wrong when none opens; single failures are logged.
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
                tracing::error!(key = %UnopenableKey::from_row(row)?, %error, "data key does not open");
                failed.get_or_insert(error);
            }
            Err(error) => tracing::error!(key = %UnopenableKey::from_row(row)?, %error, "data key unreadable"),
        }
    }
    let wrong = masters.into_values().find_map(|(opened, failed)| failed.filter(|_| !opened));
    Ok(wrong.map_or(Ok(()), Err))
}

/// Why a service must not start with this database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyMismatchError {
    /// The database holds encrypted content, and CONTENT_KEYS is not set.
    #[error("the database holds encrypted content, and there is no CONTENT_KEYS")]
    Missing,
    /// The database holds data keys that do not open.
    #[error(transparent)]
    Envelope(EnvelopeError),
}
