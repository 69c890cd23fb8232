//! Envelope encryption of content at rest: master keys wrap data keys, and a data key seals the messages of one location. Knows
//! no SQL.
//!
//! Sealed text is bound to its message, conversation, location, sender and key. A row with another row's text does not open.
//! Wrapped keys are bound to their location and id.
//!
//! Once all content of a database is encrypted, its data keys state so in the associated data of their wrapping
//! ([`EnvelopeKeys::is_complete`]). From then on plain text is rejected: it can only come from someone with rights on the
//! database, who cannot wrap a key that states otherwise.

pub(crate) mod settings;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use quick_cache::sync::Cache;
use shared::contract::ids::{LocationId, MessageId};
use shared::contract::participant::{Conversation, Participant};
use shared::kit::crypto::key_ring::{KeyId, KeyRing};
use shared::kit::crypto::seal::{KEY_BYTES, Key, OVERHEAD_BYTES, SealError};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::model::message::{Content, Message};

/// How long a data key seals before the database is asked again. A rotation takes effect that soon.
const ACTIVE_KEY_TTL: Duration = Duration::from_secs(30);
/// Data keys in memory. Keys that were unused longest are read and unwrapped again.
const CACHE_CAPACITY: usize = 20_000;

/// Id of a data key.
pub type DataKeyId = Uuid;

/// A data key as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// Its id.
    pub id: DataKeyId,
    /// The location whose messages it seals.
    pub location: LocationId,
    /// The master key that wraps it.
    pub master: KeyId,
    /// The sealed key.
    pub wrapped: Vec<u8>,
}

/// Why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The setting lacks a master key.
    #[error("the database holds data keys under the master key `{0}`, which CONTENT_KEYS does not hold")]
    UnknownMaster(KeyId),
    /// The master key has other bytes, or the row was altered.
    #[error("the data key {0} does not open with the master key `{1}` of CONTENT_KEYS")]
    WrongMaster(DataKeyId, KeyId),
    /// The list begins with `-`, so nothing is sealed.
    #[error("CONTENT_KEYS names no key that seals")]
    NothingSeals,
    /// Nothing would be sealed, but plain text is rejected.
    #[error(
        "all content of this database is encrypted and text in the open is refused, but CONTENT_KEYS begins with `-`: take \
         that away, or run `api-service keys allow-plain` first"
    )]
    MustSeal,
    /// The cipher failed.
    #[error(transparent)]
    Cipher(#[from] SealError),
}

/// An unwrapped data key.
pub struct DataKey {
    /// Its id.
    pub id: DataKeyId,
    key: Key,
}

/// The key that seals for a location.
#[derive(Clone)]
struct ActiveKey {
    key: Arc<DataKey>,
    /// When the database last confirmed it.
    since: Instant,
    /// Which server that was.
    server: u64,
}

/// Master keys, and a cache of unwrapped data keys.
pub struct EnvelopeKeys {
    masters: HashMap<KeyId, Key>,
    fingerprints: HashMap<KeyId, String>,
    current: Option<KeyId>,
    by_id: Cache<DataKeyId, Arc<DataKey>>,
    active: Cache<LocationId, ActiveKey>,
    /// Set once a data key has stated that all content is encrypted.
    complete: AtomicBool,
}

impl EnvelopeKeys {
    /// With the master keys of a list.
    ///
    /// # Errors
    /// [`EnvelopeError::Cipher`]
    pub fn new(ring: &KeyRing) -> Result<Self, EnvelopeError> {
        let masters = ring.iter().map(|(id, bytes)| Ok((id.clone(), Key::new(bytes)?)));
        Ok(Self {
            masters: masters.collect::<Result<_, EnvelopeError>>()?,
            fingerprints: ring.iter().map(|(id, bytes)| (id.clone(), fingerprint(id, bytes))).collect(),
            current: ring.current().cloned(),
            by_id: Cache::new(CACHE_CAPACITY),
            active: Cache::new(CACHE_CAPACITY),
            complete: AtomicBool::new(false),
        })
    }

    /// Whether all content of the database is known to be encrypted, so that plain text is forged. Never reset while the process
    /// lives.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// Rejects plain text from now on, and states so in every key wrapped from now on.
    pub fn mark_complete(&self) {
        self.complete.store(true, Ordering::Release);
    }

    /// The master key that wraps new data keys. Without it nothing is sealed.
    #[must_use]
    pub fn current(&self) -> Option<&KeyId> {
        self.current.as_ref()
    }

    /// Fingerprints of the master keys. They distinguish keys of equal names and reveal nothing of the bytes.
    pub fn fingerprints(&self) -> Vec<&str> {
        self.fingerprints.values().map(String::as_str).collect()
    }

    /// The fingerprint of the current master key.
    ///
    /// # Errors
    /// [`EnvelopeError::NothingSeals`]
    pub fn current_fingerprint(&self) -> Result<&str, EnvelopeError> {
        let current = self.current.as_ref().and_then(|current| self.fingerprints.get(current));
        current.map(String::as_str).ok_or(EnvelopeError::NothingSeals)
    }

    /// Whether a data key states that all content is encrypted. Bypasses the cache, because the key may have been rewrapped.
    ///
    /// # Errors
    /// [`EnvelopeError`]
    pub fn check_complete(&self, key: &WrappedKey) -> Result<bool, EnvelopeError> {
        Ok(self.unwrap_bytes(key)?.1)
    }

    /// Generates a data key.
    ///
    /// # Errors
    /// [`EnvelopeError::NothingSeals`], [`EnvelopeError::Cipher`]
    pub fn generate(&self, location: &LocationId) -> Result<WrappedKey, EnvelopeError> {
        let mut bytes = Vec::with_capacity(KEY_BYTES + OVERHEAD_BYTES);
        bytes.resize(KEY_BYTES, 0);
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| SealError::Cipher)?;
        self.wrap(Uuid::now_v7(), location, bytes)
    }

    /// The same data key under the current master key.
    ///
    /// # Errors
    /// [`EnvelopeError`]
    pub fn rewrap(&self, key: &WrappedKey) -> Result<WrappedKey, EnvelopeError> {
        let (bytes, _) = self.unwrap_bytes(key)?;
        self.wrap(key.id, &key.location, bytes)
    }

    /// The same data key, stating that plain text is accepted.
    ///
    /// # Errors
    /// [`EnvelopeError`]
    pub fn rewrap_incomplete(&self, key: &WrappedKey) -> Result<WrappedKey, EnvelopeError> {
        let (bytes, _) = self.unwrap_bytes(key)?;
        self.wrap_under(&key.master, key.id, &key.location, bytes, false)
    }

    fn wrap(&self, id: DataKeyId, location: &LocationId, bytes: Vec<u8>) -> Result<WrappedKey, EnvelopeError> {
        let current = self.current.as_ref().ok_or(EnvelopeError::NothingSeals)?;
        self.wrap_under(current, id, location, bytes, self.is_complete())
    }

    fn wrap_under(
        &self,
        master: &KeyId,
        id: DataKeyId,
        location: &LocationId,
        mut bytes: Vec<u8>,
        is_complete: bool,
    ) -> Result<WrappedKey, EnvelopeError> {
        let key = self.masters.get(master).ok_or(EnvelopeError::NothingSeals)?;
        // Sealed in place, so no copy of the key remains.
        key.seal(&key_aad(id, location, is_complete), &mut bytes, 0)?;
        Ok(WrappedKey { id, location: location.clone(), master: master.clone(), wrapped: bytes })
    }

    /// The bytes of a data key, and whether it states that all content is encrypted, which is remembered. The caller must wipe
    /// the bytes.
    fn unwrap_bytes(&self, key: &WrappedKey) -> Result<(Vec<u8>, bool), EnvelopeError> {
        let master = self.masters.get(&key.master).ok_or_else(|| EnvelopeError::UnknownMaster(key.master.clone()))?;
        for is_complete in [true, false] {
            let mut bytes = Vec::with_capacity(KEY_BYTES + OVERHEAD_BYTES);
            bytes.extend_from_slice(&key.wrapped);
            let opened = master.open(&key_aad(key.id, &key.location, is_complete), &mut bytes, 0);
            if opened.is_ok() && bytes.len() == KEY_BYTES {
                if is_complete {
                    self.mark_complete();
                }
                return Ok((bytes, is_complete));
            }
        }
        Err(EnvelopeError::WrongMaster(key.id, key.master.clone()))
    }

    /// Unwraps a data key, and caches it.
    ///
    /// # Errors
    /// [`EnvelopeError`]
    pub fn unwrap_key(&self, key: &WrappedKey) -> Result<Arc<DataKey>, EnvelopeError> {
        if let Some(known) = self.by_id.get(&key.id) {
            return Ok(known);
        }
        let bytes = Zeroizing::new(self.unwrap_bytes(key)?.0);
        let bytes: &[u8; KEY_BYTES] = bytes.as_slice().try_into().map_err(|_| SealError::Cipher)?;
        let opened = Arc::new(DataKey { id: key.id, key: Key::new(bytes)? });
        self.by_id.insert(key.id, opened.clone());
        Ok(opened)
    }

    /// A data key, if it is cached.
    pub fn cached(&self, id: DataKeyId) -> Option<Arc<DataKey>> {
        self.by_id.get(&id)
    }

    /// The data key that seals for a location, if this server confirmed it recently. `server` is its generation: another one may
    /// lack the key, and what it sealed could never be read.
    pub fn active_key(&self, location: &LocationId, server: u64) -> Option<Arc<DataKey>> {
        let active = self.active.get(location)?;
        (active.server == server && active.since.elapsed() < ACTIVE_KEY_TTL).then_some(active.key)
    }

    /// Records which key seals for a location, as the server of this generation says.
    pub fn set_active_key(&self, location: &LocationId, key: Arc<DataKey>, server: u64) {
        self.active.insert(location.clone(), ActiveKey { key, since: Instant::now(), server });
    }
}

impl std::fmt::Debug for EnvelopeKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnvelopeKeys").field("current", &self.current).finish_non_exhaustive()
    }
}

impl DataKey {
    /// Seals the text of a message.
    ///
    /// # Errors
    /// [`SealError::Cipher`]
    pub fn seal(&self, message: &MessageAad<'_>, content: &Content) -> Result<Vec<u8>, SealError> {
        let text = content.as_str().as_bytes();
        let mut sealed = Vec::with_capacity(text.len() + OVERHEAD_BYTES);
        sealed.extend_from_slice(text);
        self.key.seal(&message.bytes(self.id), &mut sealed, 0)?;
        Ok(sealed)
    }

    /// Opens the text of a message.
    ///
    /// # Errors
    /// [`SealError::AuthenticationFailed`]
    pub fn open(&self, message: &MessageAad<'_>, mut sealed: Vec<u8>) -> Result<Content, SealError> {
        self.key.open(&message.bytes(self.id), &mut sealed, 0)?;
        String::from_utf8(sealed).map(Content::trusted).map_err(|_| SealError::AuthenticationFailed)
    }
}

/// The associated data of a sealed text.
#[derive(Debug, Clone, Copy)]
pub struct MessageAad<'a> {
    /// Its id.
    pub id: MessageId,
    /// Its conversation.
    pub conversation: &'a Conversation,
    /// Its sender.
    pub sender: &'a Participant,
}

impl<'a> From<&'a Message> for MessageAad<'a> {
    fn from(message: &'a Message) -> Self {
        Self { id: message.id, conversation: &message.new.conversation, sender: &message.new.sender }
    }
}

impl MessageAad<'_> {
    /// Distinct inputs give distinct bytes: fixed-length values come first, and no identifier contains a space.
    fn bytes(&self, key: DataKeyId) -> Vec<u8> {
        let texts = format!("{} {}", self.conversation.location(), self.sender);
        [&key.as_bytes()[..], self.id.as_bytes(), self.conversation.id().as_bytes(), texts.as_bytes()].concat()
    }
}

fn fingerprint(id: &KeyId, bytes: &[u8; KEY_BYTES]) -> String {
    let key = hmac::Key::new(HMAC_SHA256, bytes);
    let tag = hmac::sign(&key, b"ehr-chat master key fingerprint v1");
    let digits: String = tag.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{id}:{digits}")
}

/// No identifier contains a space, so no location equals another one with the marker.
fn key_aad(id: DataKeyId, location: &LocationId, is_complete: bool) -> Vec<u8> {
    let mark: &[u8] = if is_complete { b" and all is sealed" } else { b"" };
    [id.as_bytes(), location.as_str().as_bytes(), mark].concat()
}

#[cfg(test)]
mod tests;
