//! Keeps everybody's knowledge of revoked tokens in step: PostgreSQL has the truth, every instance of this service
//! reads what is new ten times a second, and `redis_copy` sees to it that Redis holds all of it for the gateways.

mod history;
mod redis_copy;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use shared::audit::AuditEntry;
use shared::redis::Nodes;
use shared::revocation::{Revocation, RevocationSet};
use shared::shutdown::Shutdown;
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use self::history::History;
use crate::store::{Class, RevocationPage, Store, StoreError};

/// Between two looks at what is new. With the gateways' own pause it must stay well below [`PROPAGATION_DELAY`].
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long everybody may take to learn of a revocation before whoever made it is told that it stands.
const PROPAGATION_DELAY: Duration = Duration::from_millis(300);
/// How long the database may take to say what time it is, when something is to be revoked. With what comes behind, whoever revokes is
/// answered before the balancer gives up.
const CLOCK_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two looks whether there are revocations whose tokens have ended.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(10);
/// Rows read at a time.
const PAGE: u32 = 20_000;
/// Rows removed from the table at a time, and how often in a row.
const EXPIRY_PAGE: i32 = 1_000;
const MAX_EXPIRY_PAGES: usize = 20;

/// Knows what is revoked, and revokes.
pub struct RevocationService {
    store: Store,
    /// What is read ten times a second, and must be, for another instance to say that a revocation stands.
    watch_store: Store,
    redis: Nodes,
    /// How long a token may live, in seconds.
    max_lifetime: i64,
    known: Arc<RevocationSet>,
    history: Mutex<History>,
    loaded: watch::Sender<bool>,
    /// Something was revoked here that has not been read back yet.
    revoked: Notify,
    /// Something was read that the copy may lack.
    changed: Notify,
}

impl RevocationService {
    /// Knows nothing yet. No token lives longer than `max_lifetime` seconds.
    #[must_use]
    pub fn new(store: Store, redis: Nodes, max_lifetime: i64) -> Self {
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

    /// What is known, for the verifier of tokens.
    #[must_use]
    pub fn revocations(&self) -> Arc<RevocationSet> {
        self.known.clone()
    }

    /// Whether the truth was read once. Until then no token may be accepted: it could be a revoked one.
    pub fn is_loaded(&self) -> bool {
        *self.loaded.borrow()
    }

    /// Waits until it was.
    pub async fn until_loaded(&self) {
        let mut loaded = self.loaded.subscribe();
        // It cannot be closed: the sender is in our hands.
        let _open = loaded.wait_for(|loaded| *loaded).await;
    }

    /// Revokes: for good, here at once, elsewhere [soon](Self::wait_for_propagation). `entry` says in the audit trail who did it.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is revoked then.
    pub async fn revoke(&self, revocation: Revocation, entry: &AuditEntry) -> Result<(), StoreError> {
        let store = self.store.for_class(Class::Write);
        // A machine whose clock is behind must not have it end early.
        let clock = timeout(CLOCK_TIMEOUT, store.clock()).await;
        let clock = clock.map_err(|_| StoreError::Unavailable("its clock was not read in time".into()))?;
        let latest = now().max(clock?.unix_timestamp());
        let ends_at = revocation.ends_at(latest, self.max_lifetime);
        store.revoke(&revocation, ends_at, entry).await?;
        self.known.add([revocation.entry(ends_at)]);
        self.revoked.notify_one();
        Ok(())
    }

    /// Waits until the others have had the time to learn what was revoked here. Not until they have: one that cannot be
    /// reached must not keep a revocation from being made.
    pub async fn wait_for_propagation(&self) {
        sleep(PROPAGATION_DELAY).await;
    }

    /// Follows the truth until the shutdown begins. Neither PostgreSQL nor Redis holds up more than its own part.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        tokio::select! {
            () = self.refresh() => {}
            () = self.replicate() => {}
            () = self.expire() => {}
            () = shutdown.begun() => {}
        }
    }

    /// Reads what was revoked here and elsewhere.
    async fn refresh(&self) {
        loop {
            match self.read_next_page().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "revocations cannot be read; those that are known stand"),
            }
            // The sooner it is read back, the sooner gateways can have it.
            let _look_or_notice = timeout(POLL_INTERVAL, self.revoked.notified()).await;
        }
    }

    /// Reads the next rows. Returns whether there may be more.
    async fn read_next_page(&self) -> Result<bool, StoreError> {
        let (started, behind) = (Instant::now(), self.history.lock().newest());
        let rows = match self.watch_store.revocations(behind, PAGE).await? {
            RevocationPage::Rows(rows) => rows,
            RevocationPage::HistoryChanged => {
                // What is known stands.
                tracing::warn!("the database's revocations are in another order than before: reading all of them");
                self.history.lock().reset();
                return Ok(true);
            }
        };
        let count = rows.len();
        // Whether some have ended is for `forget` to say, by the database's clock.
        self.known.add(rows.iter().map(|(_, entry)| entry).cloned());
        let mut history = self.history.lock();
        history.add(rows);
        if count >= PAGE as usize {
            return Ok(true);
        }
        history.mark_complete(started);
        drop(history);
        metrics::gauge!("revocations").set(self.known.len() as f64);
        if count > 0 || !self.is_loaded() {
            self.changed.notify_one();
        }
        self.loaded.send_replace(true);
        Ok(false)
    }

    /// Forgets revocations whose tokens have ended: here, in Redis, and in PostgreSQL.
    async fn expire(&self) {
        loop {
            sleep(EXPIRY_INTERVAL).await;
            let database = match self.store.clock().await {
                Ok(database) => database.unix_timestamp(),
                Err(error) => {
                    tracing::debug!(%error, "nobody knows what has ended: the database's clock cannot be read");
                    continue;
                }
            };
            let ended = self.known.remove_expired(passed_on_both_clocks(now(), database));
            self.remove_from_copy(&ended).await;
            for _ in 0..MAX_EXPIRY_PAGES {
                match self.store.forget_ended_revocations(EXPIRY_PAGE).await {
                    Ok(removed) => {
                        metrics::counter!("revocations_forgotten_total").increment(removed.unsigned_abs());
                        if removed < i64::from(EXPIRY_PAGE) {
                            break;
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%error, "revocations that have ended cannot be removed");
                        break;
                    }
                }
            }
        }
    }
}

/// Up to when everything has ended by two clocks. A machine whose clock is ahead must not forget, here and in Redis, what others still
/// need; one whose clock is behind must not forget what its own tokens still need.
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
    fn a_revocation_is_answered_before_the_balancer_gives_up() {
        let longest = CLOCK_TIMEOUT + Class::Write.max_duration() + PROPAGATION_DELAY;
        assert!(longest <= crate::model::deadline::REQUEST_TIMEOUT, "{longest:?}");
    }

    #[test]
    fn a_clock_that_is_wrong_in_either_direction_forgets_nothing_early() {
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
