//! Keeps everybody's knowledge of revoked tokens in step: PostgreSQL has the truth, every instance of this service
//! reads it ten times a second, and copies it to Redis for the gateways.

use std::sync::Arc;
use std::time::Duration;

use fred::prelude::*;
use shared::audit::Entry;
use shared::channel::REVOKED;
use shared::revocation::{Revocation, Revocations};
use shared::shutdown::Shutdown;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use crate::store::{Class, Store, StoreError};

/// Between two looks at what is new. With the gateways' own pause it must stay well below [`SPREAD`].
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long everybody may take to learn of a revocation before whoever made it is told that it stands.
const SPREAD: Duration = Duration::from_millis(300);
/// Between two readings of everything, in case an instance was away for longer than "recent".
const RELOAD_EVERY: Duration = Duration::from_secs(60);

/// Revocations copied at a time: Redis is not kept from others for long.
const PAGE: usize = 1_000;

/// Knows what is revoked, and revokes.
pub struct Revoker {
    store: Store,
    redis: Client,
    known: Arc<Revocations>,
    loaded: watch::Sender<bool>,
    /// Something was revoked that the gateways may not have heard of.
    news: Notify,
}

impl Revoker {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(store: Store, redis: Client) -> Self {
        Self { store, redis, known: Arc::default(), loaded: watch::Sender::new(false), news: Notify::new() }
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

    /// Revokes: for good, here at once, elsewhere [soon](Self::spread). `entry` says in the audit trail who did it.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is revoked then.
    pub async fn revoke(&self, revocation: Revocation, entry: &Entry) -> Result<(), StoreError> {
        self.store.for_class(Class::Write).revoke(&revocation, entry).await?;
        self.known.add([revocation]);
        self.news.notify_one();
        Ok(())
    }

    /// Waits until the others have had the time to learn what was revoked here. Not until they have: one that cannot be
    /// reached must not keep a revocation from being made.
    pub async fn spread(&self) {
        sleep(SPREAD).await;
    }

    /// Follows the truth until the shutdown begins. A Redis that does not answer holds up nothing but the gateways.
    pub async fn follow(self: Arc<Self>, shutdown: Shutdown) {
        tokio::select! {
            () = self.learn() => {}
            () = self.tell() => {}
            () = shutdown.begun() => {}
        }
    }

    /// Reads what was revoked here and elsewhere.
    async fn learn(&self) {
        let mut reload_at = Instant::now();
        loop {
            let reload = Instant::now() >= reload_at;
            match self.store.revocations(!reload).await {
                Ok(revocations) => {
                    if self.known.add(revocations) {
                        self.news.notify_one();
                    }
                    self.loaded.send_replace(true);
                    if reload {
                        reload_at = Instant::now() + RELOAD_EVERY;
                    }
                }
                Err(error) => tracing::debug!(%error, "revocations cannot be read; those that are known stand"),
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Copies it to Redis: what is new, and now and then everything; at once to a Redis that did not take it or came back
    /// empty.
    async fn tell(&self) {
        let mut all_at = Instant::now();
        let mut held = 0;
        loop {
            let is_news = tokio::select! {
                () = self.news.notified() => true,
                () = sleep(LOOK_EVERY) => false,
            };
            let all = Instant::now() >= all_at;
            let told = match all || is_news {
                true => match self.store.revocations(!all).await {
                    Ok(revocations) => self.copy(&revocations).await,
                    Err(_) => false,
                },
                false => true,
            };
            let holds = self.redis.hlen(REVOKED).await.unwrap_or(0);
            if !told || holds < held {
                all_at = Instant::now();
            } else if all {
                all_at = Instant::now() + RELOAD_EVERY;
            }
            held = holds;
        }
    }

    /// Returns whether Redis took it.
    async fn copy(&self, revocations: &[Revocation]) -> bool {
        for page in revocations.chunks(PAGE) {
            let field = |revocation: &Revocation| Some((serde_json::to_string(revocation).ok()?, ""));
            let fields: Vec<(String, &str)> = page.iter().filter_map(field).collect();
            if self.redis.hset::<(), _, _>(REVOKED, fields).await.is_err() {
                return false;
            }
        }
        true
    }
}
