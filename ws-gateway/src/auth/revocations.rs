//! Revoked tokens, read from the copy that the API service keeps in Redis ([`shared::contract::redis::revocations`]).
//!
//! A known revocation stays until its token has expired, even if Redis loses it. No token is accepted before the
//! first complete read. An empty Redis does not mean that nothing is revoked: the first read counts only if the copy
//! is marked complete.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fred::error::Error;
use fred::types::Value;
use fred::types::scripts::Script;
use shared::contract::redis::keys::REVOCATIONS_KEY;
use shared::contract::redis::revocations;
use shared::contract::revocation::{RevocationEntry, RevocationSet};
use shared::kit::shutdown::Shutdown;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep};

use crate::hub::Hub;
use crate::redis::RedisNodes;

/// Between two polls. Together with the delay of the API service it must stay well below the time that the API
/// service waits for a revocation to reach all gateways.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Between two removals of revocations whose tokens have expired.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(10);
/// Between two log lines that say why no socket opens.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Entries per read, so that neither Redis nor the lock here is held for long.
const PAGE_ENTRIES: usize = 2_000;

/// Keeps the revocations up to date.
pub(crate) struct RevocationSync {
    revocations: Arc<RevocationSet>,
    loaded: AtomicBool,
}

/// The position in the copy.
#[derive(Default)]
struct Position {
    epoch: String,
    /// The score up to which it was read; empty at the start.
    score: String,
}

/// The result of a poll.
enum PollResult {
    /// There is no copy, or no complete one.
    NoCopy,
    /// The copy was read to its end.
    Read {
        /// Whether a revocation is new.
        has_new: bool,
    },
}

impl RevocationSync {
    /// Follows Redis until `shutdown`, and closes the sockets of revoked tokens.
    pub(crate) fn start(redis: RedisNodes, hub: Arc<Hub>, shutdown: &Shutdown) -> Arc<Self> {
        let sync = Arc::new(Self { revocations: Arc::default(), loaded: AtomicBool::new(false) });
        let syncing = sync.clone();
        shutdown.spawn_until("revocations", async move {
            tokio::select! {
                () = syncing.sync_loop(&redis, &hub) => {}
                () = syncing.expire_loop() => {}
            }
        });
        sync
    }

    /// The known revocations, for the token verifier.
    #[must_use]
    pub(crate) fn revocations(&self) -> &Arc<RevocationSet> {
        &self.revocations
    }

    /// Whether the first complete read is done.
    #[must_use]
    pub(crate) fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    async fn sync_loop(&self, redis: &RedisNodes, hub: &Hub) {
        let script = Script::from_lua(revocations::READ);
        let (mut position, mut logged_at) = (Position::default(), None::<Instant>);
        loop {
            let is_quiet = self.is_loaded() || logged_at.is_some_and(|at| at.elapsed() < LOG_INTERVAL);
            match self.poll(redis, &script, &mut position).await {
                Ok(PollResult::Read { has_new }) => {
                    if !self.loaded.swap(true, Ordering::AcqRel) {
                        tracing::info!(revocations = self.revocations.len(), "revocations loaded");
                    }
                    if has_new {
                        let closed = hub.close_revoked(&self.revocations);
                        tracing::info!(closed, "revocations applied");
                    }
                }
                Ok(PollResult::NoCopy) if !is_quiet => {
                    logged_at = Some(Instant::now());
                    tracing::warn!("no complete copy of the revocations in redis, no socket opens");
                }
                Ok(PollResult::NoCopy) => {
                    tracing::debug!("no copy of the revocations in redis, known ones stay");
                }
                Err(error) if !is_quiet => {
                    logged_at = Some(Instant::now());
                    tracing::warn!(%error, "revocation read failed, no socket opens");
                }
                Err(error) => tracing::debug!(%error, "revocation read failed, known ones stay"),
            }
            metrics::gauge!("ehr_chat_gateway_revocations").set(self.revocations.len() as f64);
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Reads from the position to the end of the copy.
    async fn poll(&self, redis: &RedisNodes, script: &Script, position: &mut Position) -> Result<PollResult, Error> {
        let mut has_new = false;
        loop {
            let must_be_complete = if self.is_loaded() { "0" } else { "1" };
            let arguments: [Value; 5] = [
                position.epoch.as_str().into(),
                position.score.as_str().into(),
                PAGE_ENTRIES.to_string().into(),
                must_be_complete.into(),
                revocations::CONFIRMATION_TTL_MS.to_string().into(),
            ];
            // Read as bytes: an entry that is not UTF-8 must not stop the others.
            let reply: Vec<Value> = redis.run_script(script, [REVOCATIONS_KEY], arguments).await?;
            let text = |value: &Value| String::from_utf8_lossy(value.as_bytes().unwrap_or_default()).into_owned();
            let reply: Vec<String> = reply.iter().map(text).collect();
            let Some((epoch, members)) = reply.split_first().filter(|(epoch, _)| !epoch.is_empty()) else {
                return Ok(PollResult::NoCopy);
            };
            has_new |= self.add(members.iter().step_by(2));
            if *epoch != position.epoch {
                *position = Position { epoch: epoch.clone(), score: "-inf".to_owned() };
            }
            if let Some(score) = members.last() {
                position.score.clone_from(score);
            }
            if members.len() < 2 * PAGE_ENTRIES {
                return Ok(PollResult::Read { has_new });
            }
        }
    }

    /// Returns whether a revocation is new.
    fn add<'a>(&self, members: impl Iterator<Item = &'a String>) -> bool {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let (entries, unreadable): (Vec<_>, Vec<_>) =
            members.map(|member| member.parse::<RevocationEntry>()).partition(Result::is_ok);
        if !unreadable.is_empty() {
            tracing::error!(count = unreadable.len(), "malformed revocations ignored");
        }
        self.revocations.add(entries.into_iter().flatten().filter(|entry| entry.ends_at > now))
    }

    async fn expire_loop(&self) {
        loop {
            sleep(EXPIRE_INTERVAL).await;
            let _ended = self.revocations.remove_expired(OffsetDateTime::now_utc().unix_timestamp());
        }
    }
}
