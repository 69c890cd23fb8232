//! Probes whether Redis accepts rejected conversations and nodes again. Runs beside the fast path, so a dead node delays only
//! these probes.

use std::time::Duration;

use futures_util::future::join_all;
use shared::contract::ids::ConversationId;
use tokio::time::{Instant, sleep};

use super::rejections::{Probe, RejectionTarget, WaitNotices};
use super::relay::OutboxRelay;
use crate::store::StoreError;

/// Between two checks for due probes.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Between two repeated notices to sockets. Gateways drop the state after [`shared::contract::event::PUBLISH_STATUS_TTL`].
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(8);
/// Deferred rows that one statement resumes.
const RESUME_ROWS: i64 = 5_000;
/// Conversations that one statement checks for deferred rows.
const MAX_CONVERSATIONS: usize = 5_000;
/// Probes, or notices, at a time.
const CONCURRENCY: usize = 256;

impl OutboxRelay {
    /// Probes rejected targets. Runs until it is dropped.
    pub(super) async fn probe_rejections(&self) {
        loop {
            sleep(POLL_INTERVAL).await;
            if !self.rejections.is_active() {
                continue;
            }
            let mut due = self.rejections.due(Instant::now());
            due.truncate(CONCURRENCY);
            if due.is_empty() {
                continue;
            }
            let tried = join_all(due.iter().map(|one| self.probe(one))).await;
            // Deferred rows come first, in order. Until the rejection is over no relay batch begins, because it would defer the
            // resumed rows again.
            let turn = match tried.contains(&true) {
                true => Some(self.relay_turn.lock().await),
                false => None,
            };
            let is_resumed = turn.is_some() && self.resume_all().await;
            for (one, is_taken) in due.iter().zip(tried) {
                match is_taken && is_resumed {
                    true => {
                        self.rejections.begin_draining(&one.target);
                        self.resumed.notify_one();
                    }
                    false => self.rejections.extend_backoff(&one.target),
                }
            }
            drop(turn);
        }
    }

    /// Resumes all deferred rows, page by page. Returns `false` after a failure.
    async fn resume_all(&self) -> bool {
        let mut last = i64::MIN;
        loop {
            match self.store.resume_deferred(last, RESUME_ROWS).await {
                Ok(Some(resumed)) => last = resumed,
                Ok(None) => return true,
                Err(error) => {
                    tracing::debug!(%error, "deferred rows not resumed");
                    return false;
                }
            }
        }
    }

    /// Ends the rejection of these targets after a catch-up. A target with newly deferred rows is kept: another instance may not
    /// know yet that Redis accepts it, and new events would overtake those rows.
    pub(super) async fn finish_draining(&self, targets: Vec<RejectionTarget>) {
        let mut drained = Vec::new();
        for target in targets {
            match self.is_any_deferred(&self.rejections.conversations(&target)).await {
                Ok(false) => drained.push(target),
                Ok(true) => self.rejections.back_off_again(&target),
                Err(error) => {
                    tracing::debug!(%error, "deferred rows not read");
                    self.rejections.back_off_again(&target);
                }
            }
        }
        self.rejections.mark_drained(&drained);
    }

    async fn is_any_deferred(&self, conversations: &[ConversationId]) -> Result<bool, StoreError> {
        for some in conversations.chunks(MAX_CONVERSATIONS) {
            if self.store.is_any_deferred(some).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Notifies sockets whose events wait, and repeats the notice for sockets that have just connected. Runs until it is dropped.
    pub(super) async fn announce_waiting(&self) {
        let mut again_at = Instant::now() + ANNOUNCE_INTERVAL;
        loop {
            sleep(POLL_INTERVAL).await;
            let again = Instant::now() >= again_at;
            if again {
                again_at = Instant::now() + ANNOUNCE_INTERVAL;
            }
            let WaitNotices { waiting, over } = self.rejections.take_notices(again);
            for (channels, is_over) in [(waiting, false), (over, true)] {
                for some in channels.chunks(CONCURRENCY) {
                    self.broker.announce(self.instance, some, is_over).await;
                }
            }
        }
    }

    async fn probe(&self, one: &Probe) -> bool {
        match &one.target {
            RejectionTarget::Node(_) => self.broker.probe(&one.channel).await.is_ok(),
            // A key of another type has the name of the event log and is renamed. Other rejections end only when an event is
            // tried.
            RejectionTarget::Conversation(channel) if one.rejection.is_wrong_type() => {
                match self.broker.move_wrong_type_log(channel).await {
                    Ok(was_there) => {
                        if was_there {
                            let (location, conversation) = channel.conversation().unwrap_or_default();
                            tracing::error!(location, conversation, "event log key of wrong type renamed");
                        }
                        true
                    }
                    Err(_) => false,
                }
            }
            RejectionTarget::Conversation(_) => true,
        }
    }
}
