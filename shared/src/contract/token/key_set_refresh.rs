//! The keys that verify tokens now: the secret, and the issuer's latest set, which a background task reads again.
//!
//! Verification never waits. A failed refresh changes nothing. A key that left the set verifies nothing.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::DecodingKey;
use parking_lot::RwLock;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};

use super::TokenConfig;
use super::jwk::{KeySet, VerificationKeyId};
use super::jwks_fetcher::{Jwks, JwksDocument, JwksError, JwksFetcher};
use crate::kit::shutdown::Shutdown;

/// Between two looks at a file.
const FILE_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Between two readings, however many tokens name keys that are not known: strangers shall not hammer the issuer.
const MIN_REFRESH_INTERVAL: Duration = Duration::from_secs(2);
/// The soonest that an answer which asks for it is asked for again.
const MIN_CACHE_AGE: Duration = Duration::from_secs(30);
/// After a reading that failed.
const RETRY_DELAY: Duration = Duration::from_secs(10);
/// How long a service that starts waits for an issuer that does not answer, and how often it asks.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(10);
const STARTUP_RETRY_DELAY: Duration = Duration::from_millis(500);
/// How long a request waits for the key that its token names.
const KEY_WAIT_TIMEOUT: Duration = Duration::from_secs(3);
/// Requests that wait so; beyond that they are refused at once.
const MAX_WAITING_REQUESTS: usize = 64;

/// Why there are no keys to begin with.
#[derive(Debug, thiserror::Error)]
#[error("no keys to verify tokens with: the JWKS {0}")]
pub struct NoVerificationKeysError(#[from] JwksError);

/// The keys that count now.
pub struct KeySetCache {
    pub(crate) secret: Option<DecodingKey>,
    set: RwLock<Arc<KeySet>>,
    /// The document that was read last. The same document again is not parsed.
    text: RwLock<Vec<u8>>,
    /// Counts what was read.
    updates: watch::Sender<u64>,
    wanted: Notify,
    waiting: Semaphore,
}

impl KeySetCache {
    /// Keys that stay as they are.
    #[must_use]
    pub fn new(secret: Option<&crate::kit::env::Secret>, set: KeySet) -> Self {
        Self {
            secret: secret.map(|secret| DecodingKey::from_secret(secret.expose().as_bytes())),
            set: RwLock::new(Arc::new(set)),
            text: RwLock::default(),
            updates: watch::Sender::new(0),
            wanted: Notify::new(),
            waiting: Semaphore::new(MAX_WAITING_REQUESTS),
        }
    }

    /// Reads the configured keys, and keeps them current until the shutdown. If the issuer does not answer at the start, asks
    /// again for ten seconds.
    ///
    /// # Errors
    /// [`NoVerificationKeysError`]
    pub async fn open(rules: &TokenConfig, shutdown: &Shutdown) -> Result<Arc<Self>, NoVerificationKeysError> {
        let keyring = Arc::new(Self::new(rules.secret.as_ref(), KeySet::default()));
        let Some(jwks) = &rules.jwks else { return Ok(keyring) };
        let reader = JwksFetcher::new(jwks)?;
        let deadline = Instant::now() + STARTUP_TIMEOUT;
        let next = loop {
            match keyring.refresh(&reader, jwks).await {
                Ok(next) => break next,
                Err(unread) if Instant::now() >= deadline || matches!(jwks, Jwks::File(_)) => return Err(unread.into()),
                Err(unread) => tracing::warn!("the JWKS {unread}: asking again"),
            }
            sleep(STARTUP_RETRY_DELAY).await;
        };
        let (following, jwks) = (keyring.clone(), jwks.clone());
        shutdown.spawn_until("token keys", async move { following.refresh_loop(&reader, &jwks, next).await });
        Ok(keyring)
    }

    /// The issuer's keys.
    pub(crate) fn set(&self) -> Arc<KeySet> {
        self.set.read().clone()
    }

    /// Whether a key that verified a token still counts.
    #[must_use]
    pub fn contains(&self, key: VerificationKeyId) -> bool {
        if key == VerificationKeyId::SECRET { self.secret.is_some() } else { self.set.read().contains(key) }
    }

    /// Changes with every refresh. An open socket then checks whether its token's key is still in the set.
    #[must_use]
    pub fn updates(&self) -> watch::Receiver<u64> {
        self.updates.subscribe()
    }

    /// Has the set read soon, because a token names a key that is not known.
    pub fn request_refresh(&self) {
        self.wanted.notify_one();
    }

    /// The same, and waits for it. Returns whether it was read, so that the token is worth another look.
    pub async fn refresh_now(&self) -> bool {
        let Ok(_turn) = self.waiting.try_acquire() else { return false };
        let mut readings = self.updates();
        self.request_refresh();
        matches!(timeout(KEY_WAIT_TIMEOUT, readings.changed()).await, Ok(Ok(())))
    }

    /// Reads again and again. Never returns.
    async fn refresh_loop(&self, reader: &JwksFetcher, jwks: &Jwks, mut pause: Duration) {
        loop {
            let read_at = Instant::now();
            tokio::select! {
                () = sleep(pause) => {}
                () = self.wanted.notified() => sleep(MIN_REFRESH_INTERVAL.saturating_sub(read_at.elapsed())).await,
            }
            pause = match self.refresh(reader, jwks).await {
                Ok(next) => next,
                Err(unread) => {
                    count("failed");
                    tracing::warn!("the JWKS {unread}; the keys that are known stand");
                    match jwks {
                        // It may have been caught in the middle of being written.
                        Jwks::File(_) => FILE_POLL_INTERVAL,
                        Jwks::Url { refresh, .. } => RETRY_DELAY.min(*refresh),
                    }
                }
            };
        }
    }

    /// Reads once. Returns how long that is good for.
    async fn refresh(&self, reader: &JwksFetcher, jwks: &Jwks) -> Result<Duration, JwksError> {
        let JwksDocument { text, max_age } = reader.fetch().await?;
        if *self.text.read() != text {
            let set = KeySet::parse(&text)?;
            *self.text.write() = text;
            if !self.set().equals(&set) {
                metrics::gauge!("ehr_chat_jwks_keys").set(f64::from(u32::try_from(set.len()).unwrap_or(u32::MAX)));
                tracing::info!(keys = ?set, "these keys verify tokens");
                *self.set.write() = Arc::new(set);
                count("changed");
            }
        }
        self.updates.send_modify(|readings| *readings += 1);
        Ok(match jwks {
            Jwks::File(_) => FILE_POLL_INTERVAL,
            Jwks::Url { refresh, .. } => max_age.map_or(*refresh, |age| age.max(MIN_CACHE_AGE).min(*refresh)),
        })
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("ehr_chat_jwks_refreshes_total", "outcome" => outcome).increment(1);
}

#[cfg(test)]
#[path = "tests/key_set_refresh.rs"]
mod tests;
