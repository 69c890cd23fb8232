//! The table `data_keys`, and which of its keys a statement needs: those that seal for some locations, and those that open
//! what some rows hold.

use std::collections::HashMap;
use std::sync::Arc;

use deadpool_postgres::GenericClient;
use shared::ids::LocationId;
use tokio_postgres::Row;

use super::{Store, StoreError};
use crate::domain::message::Content;
use crate::vault::{DataKey, DataKeyId, Place, Vault, VaultError, WrappedKey};

/// Rows of a batch of [`Store::rewrap_keys`] and [`Store::rotate_keys`].
const BATCH: i64 = 500;

macro_rules! select {
    ($rest:literal) => {
        concat!("select id, location_id, master_key_id, wrapped from data_keys ", $rest)
    };
}

/// What seals new messages: a key for each location of a batch. `None` when content is stored as it is.
pub(super) type Sealing = Option<HashMap<LocationId, Arc<DataKey>>>;

/// What opens the messages of some rows.
pub(super) struct Opening {
    keys: HashMap<DataKeyId, Arc<DataKey>>,
    has_vault: bool,
}

impl Opening {
    /// The text of a message that is stored sealed.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] when it was not sealed for this message.
    pub(super) fn open(&self, place: &Place<'_>, key: DataKeyId, sealed: Vec<u8>) -> Result<Content, StoreError> {
        let Some(key) = self.keys.get(&key) else {
            metrics::counter!("content_unreadable_total", "cause" => "no_key").increment(1);
            return Err(StoreError::internal(match self.has_vault {
                true => format!("content is sealed with the data key {key}, which is not in data_keys"),
                false => "content is sealed, and there is no CONTENT_KEYS".to_owned(),
            }));
        };
        key.open(place, sealed).map_err(|_| {
            metrics::counter!("content_unreadable_total", "cause" => "refused").increment(1);
            StoreError::Unreadable(place.id)
        })
    }
}

/// The keys that open what these rows hold; each has a column `content_key`. Where nothing is sealed, nothing is asked.
pub(super) async fn opening(
    client: &impl GenericClient,
    vault: Option<&Vault>,
    rows: &[Row],
) -> Result<Opening, StoreError> {
    let mut opening = Opening { keys: HashMap::new(), has_vault: vault.is_some() };
    let Some(vault) = vault else { return Ok(opening) };
    let mut missing = Vec::new();
    for row in rows {
        let Some(id) = row.try_get::<_, Option<DataKeyId>>("content_key")? else { continue };
        if opening.keys.contains_key(&id) || missing.contains(&id) {
            continue;
        }
        match vault.known(id) {
            Some(key) => drop(opening.keys.insert(id, key)),
            None => missing.push(id),
        }
    }
    if !missing.is_empty() {
        let statement = client.prepare_cached(select!("where id = any($1)")).await?;
        for row in client.query(&statement, &[&missing]).await? {
            let key = vault.unwrap_key(&wrapped_key(&row)?)?;
            opening.keys.insert(key.id, key);
        }
    }
    Ok(opening)
}

/// The keys that seal for these locations. A location's first key is made here, in a statement of its own: not in the
/// transaction of those who wait for it.
pub(super) async fn sealing<'a>(
    client: &impl GenericClient,
    vault: Option<&Vault>,
    locations: impl Iterator<Item = &'a LocationId>,
) -> Result<Sealing, StoreError> {
    let Some(vault) = vault.filter(|vault| vault.current().is_some()) else { return Ok(None) };
    let mut keys = HashMap::new();
    let mut missing: Vec<&LocationId> = Vec::new();
    for location in locations {
        if keys.contains_key(location) || missing.contains(&location) {
            continue;
        }
        match vault.in_use(location) {
            Some(key) => drop(keys.insert(location.clone(), key)),
            None => missing.push(location),
        }
    }
    if !missing.is_empty() {
        keys.extend(in_use(client, vault, &missing).await?);
        missing.retain(|location| !keys.contains_key(*location));
    }
    if !missing.is_empty() {
        let made = missing.iter().map(|location| vault.generate(location)).collect::<Result<Vec<_>, _>>()?;
        insert(client, &made).await?;
        // Somebody else may have been quicker: all take what is there.
        keys.extend(in_use(client, vault, &missing).await?);
    }
    Ok(Some(keys))
}

async fn in_use(
    client: &impl GenericClient,
    vault: &Vault,
    locations: &[&LocationId],
) -> Result<Vec<(LocationId, Arc<DataKey>)>, StoreError> {
    let statement =
        client.prepare_cached(select!("where location_id = any($1::text[]) and retired_at is null")).await?;
    let locations: Vec<&str> = locations.iter().map(|location| location.as_str()).collect();
    let rows = client.query(&statement, &[&locations]).await?;
    let key = |row: &Row| {
        let wrapped = wrapped_key(row)?;
        let key = vault.unwrap_key(&wrapped)?;
        vault.use_for(&wrapped.location, key.clone());
        Ok((wrapped.location, key))
    };
    rows.iter().map(key).collect()
}

/// Where a location has a key in use already, it keeps that one.
async fn insert(client: &impl GenericClient, keys: &[WrappedKey]) -> Result<(), StoreError> {
    let statement = client
        .prepare_cached(
            "insert into data_keys (id, location_id, master_key_id, wrapped)
             select id, location_id, master_key_id, wrapped
             from unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[]) as x (id, location_id, master_key_id, wrapped)
             order by location_id
             on conflict (location_id) where retired_at is null do nothing",
        )
        .await?;
    let ids: Vec<_> = keys.iter().map(|key| key.id).collect();
    let locations: Vec<_> = keys.iter().map(|key| key.location.as_str()).collect();
    let masters: Vec<_> = keys.iter().map(|key| key.master.as_str()).collect();
    let wrapped: Vec<_> = keys.iter().map(|key| key.wrapped.as_slice()).collect();
    client.execute(&statement, &[&ids, &locations, &masters, &wrapped]).await?;
    Ok(())
}

fn wrapped_key(row: &Row) -> Result<WrappedKey, StoreError> {
    Ok(WrappedKey {
        id: row.try_get("id")?,
        location: row.try_get::<_, &str>("location_id")?.parse().map_err(StoreError::internal)?,
        master: row.try_get::<_, &str>("master_key_id")?.parse().map_err(StoreError::internal)?,
        wrapped: row.try_get("wrapped")?,
    })
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
                    let retired = retired.collect::<Result<std::collections::HashSet<_>, _>>()?;
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
