//! Revoked tokens. PostgreSQL is the source of truth. Every instance reads new revocations ten times per second
//! ([`postgres_reader`]), and [`redis_copy`] keeps a complete copy in Redis for the gateways.

mod history;
mod postgres_reader;
mod redis_copy;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use shared::contract::audit::AuditEntry;
use shared::contract::revocation::{Revocation, RevocationSet};
use shared::kit::redis::RedisNodes;
use shared::kit::shutdown::Shutdown;
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use self::history::History;
use crate::store::{Class, Store, StoreError};

/// Between two reads. With the gateways' own interval it must stay well below [`PROPAGATION_DELAY`].
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long a revocation may take to reach all instances and gateways before it is confirmed.
const PROPAGATION_DELAY: Duration = Duration::from_millis(300);
/// Time limit for reading the database's clock. With the steps that follow, the response still precedes the load balancer's
/// timeout.
const CLOCK_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two removals of expired revocations.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(10);
/// Rows per removal, and removals in a row.
const EXPIRY_PAGE: i32 = 1_000;
const MAX_EXPIRY_PAGES: usize = 20;

/// Knows which tokens are revoked, and revokes tokens.
pub struct RevocationService {
    store: Store,
    /// Connections of the watch class: other load must not delay a revocation.
    watch_store: Store,
    redis: RedisNodes,
    /// Maximum lifetime of a token, in seconds.
    max_lifetime: i64,
    known: Arc<RevocationSet>,
    history: Mutex<History>,
    loaded: watch::Sender<bool>,
    /// This instance has revoked a token and not read it back yet.
    revoked: Notify,
    /// Rows were read that the Redis copy may lack.
    changed: Notify,
}

impl RevocationService {
    /// No token lives longer than `max_lifetime` seconds.
    #[must_use]
    pub fn new(store: Store, redis: RedisNodes, max_lifetime: i64) -> Self {
        Self {
            watch_store: store.for_class(Class::Watch),
            store,
            redis,
            max_lifetime,
            known: Arc::default(),
            history: Mutex::default(),
            loaded: watch::Sender::new(false),
            revoked: Notify::new(),
            changed: Notify::new(),
        }
    }

    /// The revocations, for the token verifier.
    #[must_use]
    pub fn revocations(&self) -> Arc<RevocationSet> {
        self.known.clone()
    }

    /// Whether the table was read once. Until then no token is accepted, because it could be revoked.
    pub fn is_loaded(&self) -> bool {
        *self.loaded.borrow()
    }

    /// Waits until [`is_loaded`](Self::is_loaded).
    pub async fn until_loaded(&self) {
        let mut loaded = self.loaded.subscribe();
        // The sender lives as long as `self`, so the channel stays open.
        let _open = loaded.wait_for(|loaded| *loaded).await;
    }

    /// Revokes: here at once, elsewhere [soon](Self::wait_for_propagation). `entry` is the audit entry.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was revoked.
    pub async fn revoke(&self, revocation: Revocation, entry: &AuditEntry) -> Result<(), StoreError> {
        let store = self.store.for_class(Class::Write);
        // With a slow local clock the revocation would expire too early, so the later clock counts.
        let clock = timeout(CLOCK_TIMEOUT, store.clock()).await;
        let clock = clock.map_err(|_| StoreError::Unavailable("its clock was not read in time".into()))?;
        let latest = now().max(clock?.unix_timestamp());
        let ends_at = revocation.ends_at(latest, self.max_lifetime);
        store.revoke(&revocation, ends_at, entry).await?;
        self.known.add([revocation.entry(ends_at)]);
        self.revoked.notify_one();
        Ok(())
    }

    /// Waits for the time that propagation normally takes. It does not wait for confirmation: an unreachable instance must not
    /// block a revocation.
    pub async fn wait_for_propagation(&self) {
        sleep(PROPAGATION_DELAY).await;
    }

    /// Refreshes, replicates and expires until the shutdown. PostgreSQL and Redis delay only their own task.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        tokio::select! {
            () = self.refresh() => {}
            () = self.replicate() => {}
            () = self.expire() => {}
            () = shutdown.wait_for_begin() => {}
        }
    }

    /// Removes revocations whose tokens have expired: from memory, Redis and PostgreSQL.
    async fn expire(&self) {
        loop {
            sleep(EXPIRY_INTERVAL).await;
            let database = match self.store.clock().await {
                Ok(database) => database.unix_timestamp(),
                Err(error) => {
                    tracing::debug!(%error, "database clock not read");
                    continue;
                }
            };
            let ended = self.known.remove_expired(passed_on_both_clocks(now(), database));
            self.remove_from_copy(&ended).await;
            for _ in 0..MAX_EXPIRY_PAGES {
                match self.store.forget_ended_revocations(EXPIRY_PAGE).await {
                    Ok(removed) => {
                        metrics::counter!("ehr_chat_revocations_expired_total").increment(removed.unsigned_abs());
                        if removed < i64::from(EXPIRY_PAGE) {
                            break;
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%error, "expired revocations not removed");
                        break;
                    }
                }
            }
        }
    }
}

/// The time that has passed on both clocks. A clock that runs ahead must not expire revocations that other instances need; one
/// that is behind must not expire those that local tokens need.
fn passed_on_both_clocks(here: i64, database: i64) -> i64 {
    here.min(database)
}

/// In seconds since 1970.
fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revocation_responds_before_balancer_timeout() {
        let longest = CLOCK_TIMEOUT + Class::Write.max_duration() + PROPAGATION_DELAY;
        assert!(longest <= crate::model::deadline::REQUEST_TIMEOUT, "{longest:?}");
    }

    #[test]
    fn wrong_clock_expires_no_revocation_early() {
        let known = RevocationSet::default();
        let revocation = Revocation::Token { jti: "j1".to_owned(), expires_at: Some(1_000) };
        let entry = revocation.entry(1_000);
        known.add([entry.clone()]);
        for (here, database) in [(5_000, 999), (999, 5_000)] {
            assert_eq!(known.remove_expired(passed_on_both_clocks(here, database)), [], "{here} {database}");
        }
        assert_eq!(known.remove_expired(passed_on_both_clocks(1_000, 5_000)), [entry]);
    }
}
