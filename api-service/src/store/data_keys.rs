//! The table `data_keys`: finds the keys that seal for some locations, and the keys that open some rows.

use std::collections::HashMap;
use std::sync::Arc;

use deadpool_postgres::GenericClient;
use shared::contract::ids::{LocationId, MessageId};
use tokio_postgres::Row;

use crate::envelope::{DataKey, DataKeyId, EnvelopeError, EnvelopeKeys, MessageAad, WrappedKey};
use crate::model::message::Content;
use crate::store::StoreError;

/// Selects wrapped keys.
macro_rules! select {
    ($rest:literal) => {
        concat!("select id, location_id, master_key_id, wrapped from data_keys ", $rest)
    };
}
pub(in crate::store) use select;

/// The key per location that seals a batch. `None` when content is stored as plain text.
pub(in crate::store) type SealingKeys = Option<HashMap<LocationId, Arc<DataKey>>>;

/// The keys that open some rows.
pub(in crate::store) struct OpeningKeys {
    keys: HashMap<DataKeyId, Arc<DataKey>>,
    has_master_keys: bool,
    /// All content is encrypted, so plain text was not written by this service.
    refuses_plain: bool,
}

impl OpeningKeys {
    /// Accepts the text of a message that is stored as plain text.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] when all content is encrypted.
    pub(in crate::store) fn plain(&self, id: MessageId, text: String) -> Result<Content, StoreError> {
        if self.refuses_plain {
            metrics::counter!("ehr_chat_content_decrypt_failures_total", "cause" => "plain").increment(1);
            return Err(StoreError::Unreadable(id));
        }
        Ok(Content::trusted(text))
    }

    /// Whether a row is sealed with a key that is missing here.
    pub(in crate::store) fn lacks_key_of(&self, row: &Row) -> bool {
        let key = row.try_get::<_, Option<DataKeyId>>("content_key").ok().flatten();
        key.is_some_and(|key| !self.keys.contains_key(&key))
    }

    /// Opens the text of a sealed message.
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
            metrics::counter!("ehr_chat_content_decrypt_failures_total", "cause" => "no_key").increment(1);
            return Err(StoreError::internal(match self.has_master_keys {
                true => format!("content is sealed with the data key {key}, which is not in data_keys"),
                false => "content is sealed, and there is no CONTENT_KEYS".to_owned(),
            }));
        };
        key.open(aad, sealed).map_err(|_| {
            metrics::counter!("ehr_chat_content_decrypt_failures_total", "cause" => "refused").increment(1);
            StoreError::Unreadable(aad.id)
        })
    }
}

/// The keys that open these rows, by their column `content_key`. Without encryption no query runs.
pub(in crate::store) async fn opening_keys(
    client: &impl GenericClient,
    envelope_keys: Option<&EnvelopeKeys>,
    rows: &[Row],
) -> Result<OpeningKeys, StoreError> {
    let refuses_plain = envelope_keys.is_some_and(EnvelopeKeys::is_complete);
    let mut opening = OpeningKeys { keys: HashMap::new(), has_master_keys: envelope_keys.is_some(), refuses_plain };
    let Some(envelope_keys) = envelope_keys else { return Ok(opening) };
    let mut missing = Vec::new();
    for row in rows {
        let Some(id) = row.try_get::<_, Option<DataKeyId>>("content_key")? else { continue };
        if opening.keys.contains_key(&id) || missing.contains(&id) {
            continue;
        }
        match envelope_keys.cached(id) {
            Some(key) => drop(opening.keys.insert(id, key)),
            None => missing.push(id),
        }
    }
    if !missing.is_empty() {
        let statement = client.prepare_cached(select!("where id = any($1)")).await?;
        for row in client.query(&statement, &[&missing]).await? {
            // A key that does not open affects only the messages of its location.
            match wrapped_key(&row).and_then(|wrapped| Ok(envelope_keys.unwrap_key(&wrapped)?)) {
                Ok(key) => drop(opening.keys.insert(key.id, key)),
                Err(error) => tracing::error!(%error, "data key does not open"),
            }
        }
    }
    Ok(opening)
}

/// The keys that seal for these locations. `server` is the generation of the server from before `client` was taken. The first key of a location is created here, in a statement of its own, so that the
/// transaction of the batch need not.
///
/// # Errors
/// [`StoreError::DataKey`] names all locations whose keys cannot be used, so that the others can proceed.
pub(in crate::store) async fn sealing_keys<'a>(
    client: &impl GenericClient,
    envelope_keys: Option<&EnvelopeKeys>,
    locations: impl Iterator<Item = &'a LocationId>,
    server: u64,
) -> Result<SealingKeys, StoreError> {
    let Some(envelope_keys) = envelope_keys else { return Ok(None) };
    if envelope_keys.current().is_none() {
        // No message could be read that it would write.
        return if envelope_keys.is_complete() { Err(EnvelopeError::MustSeal.into()) } else { Ok(None) };
    }
    let mut keys = HashMap::new();
    let mut missing: Vec<&LocationId> = Vec::new();
    for location in locations {
        if keys.contains_key(location) || missing.contains(&location) {
            continue;
        }
        match envelope_keys.active_key(location, server) {
            Some(key) => drop(keys.insert(location.clone(), key)),
            None => missing.push(location),
        }
    }
    if !missing.is_empty() {
        keys.extend(active_keys(client, envelope_keys, &missing, server).await?);
        missing.retain(|location| !keys.contains_key(*location));
    }
    if !missing.is_empty() {
        match detect_complete(client, envelope_keys).await {
            // An empty database is completely encrypted from its first message on.
            Ok(false) if !envelope_keys.is_complete() => {
                let statement = client.prepare_cached("select exists (select from messages)").await?;
                if !client.query_one(&statement, &[]).await?.try_get::<_, bool>(0)? {
                    envelope_keys.mark_complete();
                }
            }
            // Without knowing what a new key must state, none is created. Locations with a key proceed.
            Err(error @ StoreError::Internal(_)) => {
                return Err(StoreError::DataKey(missing.into_iter().cloned().collect(), error.to_string().into()));
            }
            learnt => drop(learnt?),
        }
        let new_keys =
            missing.iter().map(|location| envelope_keys.generate(location)).collect::<Result<Vec<_>, _>>()?;
        insert(client, &new_keys).await?;
        // Another instance may have been faster: use the stored keys.
        keys.extend(active_keys(client, envelope_keys, &missing, server).await?);
    }
    Ok(Some(keys))
}

/// Reads what data keys state about the database: the oldest, which every later state has, and the latest. A single key that does
/// not open is ignored, unless none opens. Returns whether a key exists.
pub(in crate::store) async fn detect_complete(
    client: &impl GenericClient,
    envelope_keys: &EnvelopeKeys,
) -> Result<bool, StoreError> {
    const ENDS: &str =
        concat!("(", select!("order by id limit 8"), ") union all (", select!("order by id desc limit 16"), ")");
    if envelope_keys.is_complete() {
        return Ok(true);
    }
    let statement = client.prepare_cached(ENDS).await?;
    let rows = client.query(&statement, &[]).await?;
    let (mut opened, mut failed) = (false, None);
    for row in &rows {
        match wrapped_key(row).and_then(|wrapped| Ok(envelope_keys.check_complete(&wrapped)?)) {
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
    envelope_keys: &EnvelopeKeys,
    locations: &[&LocationId],
    server: u64,
) -> Result<Vec<(LocationId, Arc<DataKey>)>, StoreError> {
    let statement =
        client.prepare_cached(select!("where location_id = any($1::text[]) and retired_at is null")).await?;
    let locations: Vec<&str> = locations.iter().map(|location| location.as_str()).collect();
    let rows = client.query(&statement, &[&locations]).await?;
    let (mut keys, mut unusable, mut why) = (Vec::with_capacity(rows.len()), Vec::new(), None);
    for row in &rows {
        let location: LocationId = row.try_get::<_, &str>("location_id")?.parse().map_err(StoreError::internal)?;
        match wrapped_key(row).and_then(|wrapped| Ok(envelope_keys.unwrap_key(&wrapped)?)) {
            Ok(key) => {
                envelope_keys.set_active_key(&location, key.clone(), server);
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

/// A location that has an active key keeps it.
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
