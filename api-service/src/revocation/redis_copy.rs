//! The copy of all revocations in Redis, from which gateways read. It is written from memory, so Redis can be filled while
//! PostgreSQL is down. It is compared ten times per second, so an empty or outdated Redis is repaired at once.
//!
//! An instance that cannot reach PostgreSQL reads from the copy what other instances have revoked.

use std::time::Duration;

use fred::error::Error;
use fred::types::Value;
use fred::types::scripts::Script;
use shared::contract::redis::keys::{REVOCATIONS_KEY, moved_suffix};
use shared::contract::redis::revocations;
use shared::contract::redis::scripts::RENAME_WRONG_TYPE;
use shared::contract::revocation::RevocationEntry;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::{POLL_INTERVAL, RevocationService};
use crate::store::Position;

/// Members per script call, so that Redis is never blocked for long.
const PAGE: usize = 1_000;
/// How long an unfinished copy stays in Redis, in milliseconds.
const DRAFT_TTL_MILLIS: u32 = 60_000;
/// An instance that read PostgreSQL this recently has contact with it.
const CONTACT_WINDOW: Duration = Duration::from_millis(500);
/// An instance that read PostgreSQL this recently is in sync. Well below the propagation delay.
const IN_SYNC_WINDOW: Duration = Duration::from_millis(150);
/// Expired members are removed one by one. The copy is rewritten when it has more than twice the live members plus this many.
const MAX_LEFTOVER_MEMBERS: usize = 1_000;

/// The scripts, hashed once.
struct Scripts {
    compare: Script,
    append: Script,
    fill: Script,
    replace: Script,
    read: Script,
}

/// How the copy compares with memory.
struct Comparison {
    outcome: String,
    epoch: String,
    position: Position,
    members: usize,
}

/// The part of the copy that was read.
#[derive(Default)]
struct CopyPosition {
    epoch: String,
    /// Members up to this score were read.
    score: String,
}

/// A copy that claims more than this instance knows.
struct AheadCopy {
    /// When that was seen.
    at: Instant,
    position: Position,
}

impl RevocationService {
    /// Keeps the copy complete. Runs until it is dropped.
    pub(super) async fn replicate(&self) {
        let scripts = Scripts {
            compare: Script::from_lua(revocations::COMPARE),
            append: Script::from_lua(revocations::APPEND),
            fill: Script::from_lua(revocations::FILL),
            replace: Script::from_lua(revocations::REPLACE),
            read: Script::from_lua(revocations::READ),
        };
        let (mut ahead, mut copy_position) = (None, CopyPosition::default());
        loop {
            let _look_or_news = timeout(POLL_INTERVAL, self.changed.notified()).await;
            if !self.is_loaded() {
                continue;
            }
            let is_complete = match self.reconcile(&scripts, &mut ahead, &mut copy_position).await {
                Ok(is_complete) => is_complete,
                Err(error) => {
                    tracing::debug!(%error, "revocation copy not compared");
                    if error.details().contains("WRONGTYPE") {
                        self.move_wrong_type_key().await;
                    }
                    false
                }
            };
            metrics::gauge!("ehr_chat_revocation_copy_complete").set(f64::from(u8::from(is_complete)));
        }
    }

    /// A key of another type has the name of the copy, so no gateway could read revocations. It is renamed, not deleted.
    async fn move_wrong_type_key(&self) {
        let script = Script::from_lua(RENAME_WRONG_TYPE);
        let arguments = ["zset".to_owned(), moved_suffix()];
        let moved: Result<Vec<String>, Error> =
            self.run_script(&script, vec![REVOCATIONS_KEY.to_owned()], arguments).await;
        let moved = moved.map_or(0, |moved| moved.len());
        tracing::error!(key = REVOCATIONS_KEY, moved, "revocation key of wrong type renamed");
        metrics::counter!("ehr_chat_redis_keys_moved_total", "key" => "revoked").increment(moved as u64);
    }

    /// Compares once and repairs. Returns whether the copy was complete.
    async fn reconcile(
        &self,
        scripts: &Scripts,
        ahead: &mut Option<AheadCopy>,
        copy_position: &mut CopyPosition,
    ) -> Result<bool, Error> {
        let (newest, is_complete, read_at) = {
            let history = self.history.lock();
            (history.newest(), history.is_complete(), history.read_at())
        };
        // Memory is being filled from the start; the copy is compared after that.
        if !is_complete {
            return Ok(false);
        }
        let has_contact = read_at.is_some_and(|at| at.elapsed() < CONTACT_WINDOW);
        let comparison = self.compare(scripts, newest, has_contact).await?;
        let was_ahead = ahead.take();
        match comparison.outcome.as_str() {
            "same" => *copy_position = CopyPosition { epoch: comparison.epoch.clone(), score: newest.id.to_string() },
            "ahead" if read_at.is_none_or(|at| at.elapsed() > IN_SYNC_WINDOW) => {
                self.read_copy(scripts, copy_position).await?;
            }
            _ => {}
        }
        match comparison.outcome.as_str() {
            "same" if comparison.members > 2 * self.known.len() + MAX_LEFTOVER_MEMBERS => {
                self.rewrite(scripts, &comparison.epoch, newest, has_contact).await?;
                Ok(true)
            }
            "same" => Ok(true),
            "behind" => {
                let missing = self.history.lock().after(comparison.position);
                match missing {
                    Some(missing) => self.append(scripts, comparison, &missing, has_contact).await?,
                    None => self.rewrite(scripts, &comparison.epoch, newest, has_contact).await?,
                }
                Ok(false)
            }
            "ahead" => {
                // Another instance may have read rows that this one lacks. If a later read still does not find them, the database
                // was restored to an earlier state.
                match was_ahead {
                    Some(seen) if read_at.is_none_or(|read_at| read_at <= seen.at) => *ahead = Some(seen),
                    Some(seen) if self.history.lock().after(seen.position).is_none() => {
                        self.rewrite(scripts, &comparison.epoch, newest, has_contact).await?;
                        return Ok(false);
                    }
                    _ => *ahead = Some(AheadCopy { at: Instant::now(), position: comparison.position }),
                }
                Ok(true)
            }
            _ => {
                self.rewrite(scripts, "", newest, has_contact).await?;
                Ok(false)
            }
        }
    }

    /// Reads what other instances have written. PostgreSQL may be unreachable for this instance only.
    async fn read_copy(&self, scripts: &Scripts, copy_position: &mut CopyPosition) -> Result<(), Error> {
        loop {
            let arguments = [copy_position.epoch.clone(), copy_position.score.clone(), PAGE.to_string()]
                .into_iter()
                // An incomplete copy contains no wrong members either.
                .chain(["0".to_owned(), revocations::CONFIRMATION_TTL_MS.to_string()]);
            // Read as bytes: a member that is no text is skipped and must not hide the others.
            let answer: Vec<Value> =
                self.run_script(&scripts.read, vec![REVOCATIONS_KEY.to_owned()], arguments).await?;
            let text = |value: &Value| String::from_utf8_lossy(value.as_bytes().unwrap_or_default()).into_owned();
            let answer: Vec<String> = answer.iter().map(text).collect();
            let Some((epoch, members)) = answer.split_first().filter(|(epoch, _)| !epoch.is_empty()) else {
                return Ok(());
            };
            let entries = members.iter().step_by(2).filter_map(|member| member.parse::<RevocationEntry>().ok());
            if self.known.add(entries) {
                tracing::info!("revocations read from Redis");
                metrics::gauge!("ehr_chat_revocations").set(self.known.len() as f64);
            }
            if *epoch != copy_position.epoch {
                *copy_position = CopyPosition { epoch: epoch.clone(), score: "-inf".to_owned() };
            }
            if let Some(score) = members.last() {
                copy_position.score.clone_from(score);
            }
            if members.len() < 2 * PAGE {
                return Ok(());
            }
        }
    }

    async fn compare(&self, scripts: &Scripts, newest: Position, has_contact: bool) -> Result<Comparison, Error> {
        let arguments = [newest.id.to_string(), newest.stamp.to_string(), flag(has_contact)]
            .into_iter()
            .chain([revocations::CONFIRM_INTERVAL_MS.to_string()]);
        let answer: Value = self.run_script(&scripts.compare, vec![REVOCATIONS_KEY.to_owned()], arguments).await?;
        let (outcome, epoch, id, stamp, members): (String, String, String, String, usize) = answer.convert()?;
        let number = |text: String| text.parse().unwrap_or_default();
        Ok(Comparison { outcome, epoch, position: Position { id: number(id), stamp: number(stamp) }, members })
    }

    async fn append(
        &self,
        scripts: &Scripts,
        mut copy: Comparison,
        missing: &[(Position, RevocationEntry)],
        has_contact: bool,
    ) -> Result<(), Error> {
        for page in missing.chunks(PAGE) {
            let Some((last, _)) = page.last() else { continue };
            let Position { id, stamp } = copy.position;
            let mut arguments = vec![copy.epoch.clone()];
            arguments.extend([id, stamp, last.id, last.stamp].map(|number| number.to_string()));
            arguments.push(flag(has_contact));
            for (position, entry) in page {
                arguments.extend([position.id.to_string(), entry.to_string()]);
            }
            let done: u8 = self.run_script(&scripts.append, vec![REVOCATIONS_KEY.to_owned()], arguments).await?;
            // Another instance was faster.
            if done == 0 {
                return Ok(());
            }
            copy.position = *last;
        }
        Ok(())
    }

    /// Writes all revocations to a draft, then replaces the copy in one step.
    async fn rewrite(
        &self,
        scripts: &Scripts,
        replaced: &str,
        newest: Position,
        has_contact: bool,
    ) -> Result<(), Error> {
        let epoch = Uuid::now_v7().simple().to_string();
        let draft = revocations::draft_key(&epoch);
        // Contains everything that was read up to `newest`.
        let entries = self.known.entries();
        // Distinct scores, below those of members that are added later.
        let first = newest.id - i64::try_from(entries.len()).unwrap_or(0) + 1;
        for (page, first) in entries.chunks(PAGE).zip((first..).step_by(PAGE)) {
            let members = page.iter().zip(first..).flat_map(|(entry, score)| [score.to_string(), entry.to_string()]);
            let arguments = std::iter::once(DRAFT_TTL_MILLIS.to_string()).chain(members);
            let _filled: Value = self.run_script(&scripts.fill, vec![draft.clone()], arguments).await?;
        }
        let arguments = [replaced.to_owned(), epoch]
            .into_iter()
            .chain([newest.id, newest.stamp].map(|number| number.to_string()))
            .chain([entries.len().to_string(), flag(has_contact), revocations::SETTLE_DELAY_MS.to_string()]);
        let done: u8 = self.run_script(&scripts.replace, vec![REVOCATIONS_KEY.to_owned(), draft], arguments).await?;
        if done == 1 {
            metrics::counter!("ehr_chat_revocation_copies_total").increment(1);
            tracing::info!(revocations = entries.len(), "revocation copy rewritten");
        }
        Ok(())
    }

    /// Removes expired members. Members that are missed stay until the copy is rewritten.
    pub(super) async fn remove_from_copy(&self, ended: &[RevocationEntry]) {
        let script = Script::from_lua(revocations::REMOVE);
        for page in ended.chunks(PAGE) {
            let members = page.iter().map(ToString::to_string);
            let removed: Result<Value, Error> =
                self.run_script(&script, vec![REVOCATIONS_KEY.to_owned()], members).await;
            if let Err(error) = removed {
                tracing::debug!(%error, "expired revocations not removed from Redis");
                return;
            }
        }
    }

    async fn run_script<T: fred::types::FromValue>(
        &self,
        script: &Script,
        keys: Vec<String>,
        arguments: impl IntoIterator<Item = String>,
    ) -> Result<T, Error> {
        self.redis.run_script(script, keys, arguments).await
    }
}

fn flag(is_set: bool) -> String {
    if is_set { "1" } else { "0" }.to_owned()
}
