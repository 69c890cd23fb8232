//! Keeps everybody's knowledge of revoked tokens in step: PostgreSQL has the truth, every instance of this service
//! reads it a few times a second, and copies it to Redis for the gateways.

use std::sync::Arc;
use std::time::Duration;

use fred::prelude::*;
use shared::channel::REVOKED;
use shared::revocation::{Revocation, Revocations};
use shared::shutdown::Shutdown;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::store::{Store, StoreError};

/// Between two looks at what is new. With the gateways' own pause it must stay below the second that is promised.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Between two readings of everything, in case an instance was away for longer than "recent".
const RELOAD_EVERY: Duration = Duration::from_secs(60);

/// Knows what is revoked, and revokes.
pub struct Revoker {
    store: Store,
    redis: Client,
    known: Arc<Revocations>,
    loaded: watch::Sender<bool>,
}

impl Revoker {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(store: Store, redis: Client) -> Self {
        Self { store, redis, known: Arc::default(), loaded: watch::Sender::new(false) }
    }

    /// What is known, for the verifier of tokens.
    #[must_use]
    pub fn known(&self) -> Arc<Revocations> {
        self.known.clone()
    }

    /// Whether the truth was read once. Until then no token may be accepted: it could be a revoked one.
    pub fn is_loaded(&self) -> bool {
        *self.loaded.borrow()
    }

    /// Waits until it was.
    pub async fn loaded(&self) {
        let mut loaded = self.loaded.subscribe();
        // It cannot be closed: the sender is in our hands.
        let _open = loaded.wait_for(|loaded| *loaded).await;
    }

    /// Revokes: for good, here at once, elsewhere within a second.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is revoked then.
    pub async fn revoke(&self, revocation: Revocation) -> Result<(), StoreError> {
        self.store.revoke(&revocation).await?;
        self.known.add([revocation.clone()]);
        self.copy(&[revocation]).await;
        Ok(())
    }

    /// Follows the truth until the shutdown begins.
    pub async fn follow(self: Arc<Self>, shutdown: Shutdown) {
        let mut reload_at = Instant::now();
        let mut held = 0;
        while !shutdown.has_begun() {
            let reload = Instant::now() >= reload_at;
            match self.store.revocations(!reload).await {
                Ok(revocations) => {
                    let news = self.known.add(revocations.iter().cloned());
                    self.loaded.send_replace(true);
                    let told = !(news || reload) || self.copy(&revocations).await;
                    // A Redis that came back empty, or did not take them, gets everything again.
                    let holds = self.redis.hlen(REVOKED).await.unwrap_or(0);
                    if !told || holds < held {
                        reload_at = Instant::now();
                    } else if reload {
                        reload_at = Instant::now() + RELOAD_EVERY;
                    }
                    held = holds;
                }
                Err(error) => tracing::debug!(%error, "revocations cannot be read; those that are known stand"),
            }
            tokio::select! {
                () = sleep(LOOK_EVERY) => {}
                () = shutdown.begun() => {}
            }
        }
    }

    /// Tells the gateways. Returns whether Redis took it.
    async fn copy(&self, revocations: &[Revocation]) -> bool {
        let fields: Vec<(String, &str)> =
            revocations.iter().filter_map(|revocation| Some((serde_json::to_string(revocation).ok()?, ""))).collect();
        fields.is_empty() || self.redis.hset::<(), _, _>(REVOKED, fields).await.is_ok()
    }
}
