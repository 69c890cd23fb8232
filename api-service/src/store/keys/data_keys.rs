//! The table `data_keys`: which of its keys a statement needs, those that seal for some locations, and those that open what
//! some rows hold.

use std::collections::HashMap;
use std::sync::Arc;

use deadpool_postgres::GenericClient;
use shared::ids::{LocationId, MessageId};
use tokio_postgres::Row;

use crate::envelope::{DataKey, DataKeyId, EnvelopeError, EnvelopeKeys, MessageAad, WrappedKey};
use crate::model::message::Content;
use crate::store::StoreError;

/// Asks for wrapped keys.
macro_rules! select {
    ($rest:literal) => {
        concat!("select id, location_id, master_key_id, wrapped from data_keys ", $rest)
    };
}
pub(in crate::store) use select;

/// What seals new messages: a key for each location of a batch. `None` when content is stored as it is.
pub(in crate::store) type SealingKeys = Option<HashMap<LocationId, Arc<DataKey>>>;

/// What opens the messages of some rows.
pub(in crate::store) struct OpeningKeys {
    keys: HashMap<DataKeyId, Arc<DataKey>>,
    has_vault: bool,
    /// All content is sealed: what is not was put there past the service.
    refuses_plain: bool,
}

impl OpeningKeys {
    /// The text of a message that is stored in the open.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] when all content of the database is sealed.
    pub(in crate::store) fn plain(&self, id: MessageId, text: String) -> Result<Content, StoreError> {
        if self.refuses_plain {
            metrics::counter!("content_unreadable_total", "cause" => "plain").increment(1);
            return Err(StoreError::Unreadable(id));
        }
        Ok(Content::trusted(text))
    }

    /// Whether a row's text is sealed with a key that is not here.
    pub(in crate::store) fn lacks_key_of(&self, row: &Row) -> bool {
        let key = row.try_get::<_, Option<DataKeyId>>("content_key").ok().flatten();
        key.is_some_and(|key| !self.keys.contains_key(&key))
    }

    /// The text of a message that is stored sealed.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] when it was not sealed for this message.
    pub(in crate::store) fn open(
        &self,
        aad: &MessageAad<'_>,
        key: DataKeyId,
        sealed: Vec<u8>,
    ) -> Result<Content, StoreError> {
        let Some(key) = self.keys.get(&key) else {
            metrics::counter!("content_unreadable_total", "cause" => "no_key").increment(1);
            return Err(StoreError::internal(match self.has_vault {
                true => format!("content is sealed with the data key {key}, which is not in data_keys"),
                false => "content is sealed, and there is no CONTENT_KEYS".to_owned(),
            }));
        };
        key.open(aad, sealed).map_err(|_| {
            metrics::counter!("content_unreadable_total", "cause" => "refused").increment(1);
            StoreError::Unreadable(aad.id)
        })
    }
}

/// The keys that open what these rows hold; each has a column `content_key`. Where nothing is sealed, nothing is asked.
pub(in crate::store) async fn opening(
    client: &impl GenericClient,
    vault: Option<&EnvelopeKeys>,
    rows: &[Row],
) -> Result<OpeningKeys, StoreError> {
    let refuses_plain = vault.is_some_and(EnvelopeKeys::is_complete);
    let mut opening = OpeningKeys { keys: HashMap::new(), has_vault: vault.is_some(), refuses_plain };
    let Some(vault) = vault else { return Ok(opening) };
    let mut missing = Vec::new();
    for row in rows {
        let Some(id) = row.try_get::<_, Option<DataKeyId>>("content_key")? else { continue };
        if opening.keys.contains_key(&id) || missing.contains(&id) {
            continue;
        }
        match vault.cached(id) {
            Some(key) => drop(opening.keys.insert(id, key)),
            None => missing.push(id),
        }
    }
    if !missing.is_empty() {
        let statement = client.prepare_cached(select!("where id = any($1)")).await?;
        for row in client.query(&statement, &[&missing]).await? {
            // One that does not open is like one that is not there: it concerns the messages of its location, and no others.
            match wrapped_key(&row).and_then(|wrapped| Ok(vault.unwrap_key(&wrapped)?)) {
                Ok(key) => drop(opening.keys.insert(key.id, key)),
                Err(error) => tracing::error!(%error, "a data key does not open"),
            }
        }
    }
    Ok(opening)
}

/// The keys that seal for these locations. A location's first key is made here, in a statement of its own: not in the
/// transaction of those who wait for it.
///
/// # Errors
/// [`StoreError::DataKey`] names all locations whose keys cannot be used: the others can be had without them.
pub(in crate::store) async fn sealing_keys<'a>(
    client: &impl GenericClient,
    vault: Option<&EnvelopeKeys>,
    locations: impl Iterator<Item = &'a LocationId>,
) -> Result<SealingKeys, StoreError> {
    let Some(vault) = vault else { return Ok(None) };
    if vault.current().is_none() {
        // Nobody could read what it would write.
        return if vault.is_complete() { Err(EnvelopeError::MustSeal.into()) } else { Ok(None) };
    }
    let mut keys = HashMap::new();
    let mut missing: Vec<&LocationId> = Vec::new();
    for location in locations {
        if keys.contains_key(location) || missing.contains(&location) {
            continue;
        }
        match vault.active_key(location) {
            Some(key) => drop(keys.insert(location.clone(), key)),
            None => missing.push(location),
        }
    }
    if !missing.is_empty() {
        keys.extend(active_keys(client, vault, &missing).await?);
        missing.retain(|location| !keys.contains_key(*location));
    }
    if !missing.is_empty() {
        match detect_complete(client, vault).await {
            // Where nothing was ever written, whatever will be is sealed: there, all content is from the beginning.
            Ok(false) if !vault.is_complete() => {
                let statement = client.prepare_cached("select exists (select from messages)").await?;
                if !client.query_one(&statement, &[]).await?.try_get::<_, bool>(0)? {
                    vault.mark_complete();
                }
            }
            // Where nobody knows what to promise, no key is made; locations that have one go on.
            Err(error @ StoreError::Internal(_)) => {
                return Err(StoreError::DataKey(missing.into_iter().cloned().collect(), error.to_string().into()));
            }
            learnt => drop(learnt?),
        }
        let new_keys = missing.iter().map(|location| vault.generate(location)).collect::<Result<Vec<_>, _>>()?;
        insert(client, &new_keys).await?;
        // Somebody else may have been quicker: all take what is there.
        keys.extend(active_keys(client, vault, &missing).await?);
    }
    Ok(Some(keys))
}

/// Looks what data keys say of the database: the oldest, which every later state of it has, and the newest. One that does not
/// open is its location's own trouble, unless none does. Returns whether there is any.
pub(in crate::store) async fn detect_complete(
    client: &impl GenericClient,
    vault: &EnvelopeKeys,
) -> Result<bool, StoreError> {
    const ENDS: &str =
        concat!("(", select!("order by id limit 8"), ") union all (", select!("order by id desc limit 16"), ")");
    if vault.is_complete() {
        return Ok(true);
    }
    let statement = client.prepare_cached(ENDS).await?;
    let rows = client.query(&statement, &[]).await?;
    let (mut opened, mut failed) = (false, None);
    for row in &rows {
        match wrapped_key(row).and_then(|wrapped| Ok(vault.check_complete(&wrapped)?)) {
            Ok(_) => opened = true,
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) if !opened => Err(error),
        _ => Ok(!rows.is_empty()),
    }
}

async fn active_keys(
    client: &impl GenericClient,
    vault: &EnvelopeKeys,
    locations: &[&LocationId],
) -> Result<Vec<(LocationId, Arc<DataKey>)>, StoreError> {
    let statement =
        client.prepare_cached(select!("where location_id = any($1::text[]) and retired_at is null")).await?;
    let locations: Vec<&str> = locations.iter().map(|location| location.as_str()).collect();
    let rows = client.query(&statement, &[&locations]).await?;
    let (mut keys, mut unusable, mut why) = (Vec::with_capacity(rows.len()), Vec::new(), None);
    for row in &rows {
        let location: LocationId = row.try_get::<_, &str>("location_id")?.parse().map_err(StoreError::internal)?;
        match wrapped_key(row).and_then(|wrapped| Ok(vault.unwrap_key(&wrapped)?)) {
            Ok(key) => {
                vault.set_active_key(&location, key.clone());
                keys.push((location, key));
            }
            Err(error) => {
                unusable.push(location);
                why = Some(error);
            }
        }
    }
    match why {
        None => Ok(keys),
        Some(why) => Err(StoreError::DataKey(unusable, why.into())),
    }
}

/// Where a location has a key in use already, it keeps that one.
pub(in crate::store) async fn insert(client: &impl GenericClient, keys: &[WrappedKey]) -> Result<(), StoreError> {
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

pub(in crate::store) fn wrapped_key(row: &Row) -> Result<WrappedKey, StoreError> {
    Ok(WrappedKey {
        id: row.try_get("id")?,
        location: row.try_get::<_, &str>("location_id")?.parse().map_err(StoreError::internal)?,
        master: row.try_get::<_, &str>("master_key_id")?.parse().map_err(StoreError::internal)?,
        wrapped: row.try_get("wrapped")?,
    })
}
