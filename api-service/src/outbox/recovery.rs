//! Tries again what Redis has refused, beside everything else: a dead node costs these tries their time, and nothing else.

use std::time::Duration;

use futures_util::future::join_all;
use shared::ids::ConversationId;
use tokio::time::{Instant, sleep};

use super::Outbox;
use super::set_aside::{News, Try, Unit};
use crate::store::StoreError;

/// Between two looks at what is due.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often sockets are told again that their events wait. Gateways forget it after [`shared::event::PUBLISH_STATUS_TTL`].
const ANNOUNCE_EVERY: Duration = Duration::from_secs(8);
/// Deferred rows that one statement resumes.
const RESUMED_AT_ONCE: i64 = 5_000;
/// Conversations that one statement looks for among the deferred rows.
const CONVERSATIONS_AT_ONCE: usize = 5_000;
/// Tried, or told, at a time.
const AT_ONCE: usize = 256;

impl Outbox {
    /// Tries what was refused, for ever.
    pub(super) async fn recover(&self) {
        loop {
            sleep(LOOK_EVERY).await;
            if !self.set_aside.is_any() {
                continue;
            }
            let mut due = self.set_aside.due(Instant::now());
            due.truncate(AT_ONCE);
            if due.is_empty() {
                continue;
            }
            let tried = join_all(due.iter().map(|one| self.is_taken_again(one))).await;
            // What was deferred goes first, and in order. Until it is known that the refusal is over, no round of this relay
            // begins: it would leave aside again what is resumed.
            let turn = match tried.contains(&true) {
                true => Some(self.relaying.lock().await),
                false => None,
            };
            let is_resumed = turn.is_some() && self.resume_all().await;
            for (one, is_taken) in due.iter().zip(tried) {
                match is_taken && is_resumed {
                    true => {
                        self.set_aside.is_over(&one.unit);
                        self.is_taken_again.notify_one();
                    }
                    false => self.set_aside.is_not_over(&one.unit),
                }
            }
            drop(turn);
        }
    }

    /// Has everything that was deferred wait again, some of it at a time. False when it is not all.
    async fn resume_all(&self) -> bool {
        let mut last = i64::MIN;
        loop {
            match self.store.resume_deferred(last, RESUMED_AT_ONCE).await {
                Ok(Some(resumed)) => last = resumed,
                Ok(None) => return true,
                Err(error) => {
                    tracing::debug!(%error, "what was deferred cannot be published yet");
                    return false;
                }
            }
        }
    }

    /// The outbox was published. The fast path takes these again, unless another instance has deferred rows of theirs meanwhile,
    /// because it does not know yet that Redis takes them: what comes now would overtake those rows.
    pub(super) async fn drained(&self, units: Vec<Unit>) {
        let mut drained = Vec::new();
        for unit in units {
            match self.is_any_deferred(&self.set_aside.conversations(&unit)).await {
                Ok(false) => drained.push(unit),
                Ok(true) => self.set_aside.is_deferred_again(&unit),
                Err(error) => {
                    tracing::debug!(%error, "whether rows are deferred is not known");
                    self.set_aside.is_deferred_again(&unit);
                }
            }
        }
        self.set_aside.drained(&drained);
    }

    async fn is_any_deferred(&self, conversations: &[ConversationId]) -> Result<bool, StoreError> {
        for some in conversations.chunks(CONVERSATIONS_AT_ONCE) {
            if self.store.is_any_deferred(some).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Tells sockets whose events wait, and again now and then, since who has just come has not heard it. For ever.
    pub(super) async fn announce(&self) {
        let mut again_at = Instant::now() + ANNOUNCE_EVERY;
        loop {
            sleep(LOOK_EVERY).await;
            let again = Instant::now() >= again_at;
            if again {
                again_at = Instant::now() + ANNOUNCE_EVERY;
            }
            let News { waiting, over } = self.set_aside.news(again);
            for (channels, is_over) in [(waiting, false), (over, true)] {
                for some in channels.chunks(AT_ONCE) {
                    self.broker.announce(self.relay, some, is_over).await;
                }
            }
        }
    }

    async fn is_taken_again(&self, one: &Try) -> bool {
        match &one.unit {
            Unit::Node(_) => self.broker.probe(&one.channel).await.is_ok(),
            // Of another type: it stands where the log should be, and is moved out of the way. Of any other refusal nobody knows
            // more until an event is tried.
            Unit::Conversation(channel) if one.refusal.is_wrong_type() => match self.broker.clear_log(channel).await {
                Ok(was_there) => {
                    if was_there {
                        let (location, conversation) = channel.conversation().unwrap_or_default();
                        tracing::error!(
                            location,
                            conversation,
                            "a key that was no event log was moved out of its place"
                        );
                    }
                    true
                }
                Err(_) => false,
            },
            Unit::Conversation(_) => true,
        }
    }
}
