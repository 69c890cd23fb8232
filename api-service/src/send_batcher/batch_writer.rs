//! Writes one batch of sends. Normally that is one transaction. Otherwise the batch is split, so that sends that cannot be
//! written fail or wait alone:
//!
//! - A conversation that another transaction holds is blocked. Its sends wait until it is free, or until they time out. For a
//!   while afterwards it is a *suspect*: it comes last, in its own transaction. There it waits for the lock like any writer and
//!   delays no other send. Two services that send into one conversation meet this way.
//! - Sends of a location whose data key cannot be used are rejected first.
//! - If PostgreSQL rejects a group, halves are tried until the rejected sends are alone.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use shared::contract::ids::ConversationId;
use tokio::time::{sleep, timeout};

use super::error::SendError;
use super::shared_queue::{Group, SharedQueue};
use crate::model::message::NewMessage;
use crate::outbox::event_queue::EventSender;
use crate::store::{BatchResult, Store, StoreError};

/// Time limit of a batch, with all its parts. Sends that have not started by then are requeued, or rejected if they have waited
/// too long.
const BATCH_TIMEOUT: Duration = Duration::from_millis(2_500);
/// Time limit of the check for locked conversations. Only a lock on the table can delay it.
const LOCK_CHECK_TIMEOUT: Duration = Duration::from_millis(500);
/// Attempts of a group as a whole when another transaction interferes but no conversation is locked.
const MAX_ATTEMPTS: usize = 3;
/// Delay when all conversations are locked, for example by a migration.
const TABLE_LOCKED_DELAY: Duration = Duration::from_millis(100);

/// How a batch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BatchOutcome {
    /// Every send was answered or requeued.
    Completed,
    /// PostgreSQL did not answer.
    DatabaseLost,
}

/// Writes batches.
pub(super) struct BatchWriter<'a> {
    pub(super) store: &'a Store,
    pub(super) events: &'a EventSender,
    pub(super) queue: &'a SharedQueue,
}

/// The groups of a batch that are still to be written; the last is next.
struct Remaining(Vec<Group>);

impl Remaining {
    /// Moves the selected sends to the end of `first`, in order.
    fn take(&mut self, mut first: Group, is_selected: impl Fn(&NewMessage) -> bool) -> Group {
        for group in self.0.iter_mut().rev() {
            let (taken, left) = std::mem::take(group).partition(&is_selected);
            *group = left;
            first.append(taken);
        }
        first
    }
}

impl BatchWriter<'_> {
    pub(super) async fn write(&self, batch: Group) -> BatchOutcome {
        let deadline = Instant::now() + BATCH_TIMEOUT;
        let suspects = self.queue.suspects(&batch);
        let mut remaining = Remaining(split_suspects(batch, &suspects));
        while let Some(mut group) = remaining.0.pop() {
            if group.is_empty() {
                continue;
            }
            if Instant::now() >= deadline {
                // Sends that arrived late are requeued; the others are rejected.
                let all = remaining.take(group, |_| true);
                self.queue.requeue(all);
                break;
            }
            group.attempts += 1;
            let error = match self.store.send(&group.requests).await {
                Ok(done) => {
                    if !suspects.is_empty() {
                        self.queue.clear_suspects(&group);
                    }
                    self.reply(group, done);
                    continue;
                }
                Err(error) => error,
            };
            let sends = group.len();
            match error {
                StoreError::Unavailable(_) => {
                    tracing::warn!(%error, sends, "send outcome unknown");
                    let failed = || SendError::Store(error.duplicate());
                    group.reject(failed);
                    remaining.0.into_iter().for_each(|group| group.reject(failed));
                    return BatchOutcome::DatabaseLost;
                }
                StoreError::Locked(_) => self.block_locked(group, &mut remaining, &error).await,
                StoreError::TimedOut(_) => {
                    tracing::warn!(%error, sends, "send batch timed out, splitting");
                    divide(group, &mut remaining, &error);
                }
                StoreError::DataKey(ref locations, _) => {
                    tracing::error!(%error, "data key unusable, sends rejected");
                    let (failed, others) = group.partition(|new| locations.contains(new.conversation.location()));
                    failed.reject(|| SendError::Store(error.duplicate()));
                    remaining.0.push(others);
                }
                StoreError::Contended(_) if group.attempts < MAX_ATTEMPTS => remaining.0.push(group),
                error => {
                    if sends > 1 {
                        tracing::warn!(%error, sends, "send batch failed, splitting");
                    }
                    divide(group, &mut remaining, &error);
                }
            }
        }
        BatchOutcome::Completed
    }

    fn reply(&self, group: Group, BatchResult { outcomes, entry }: BatchResult) {
        self.events.publish(entry);
        for (outcome, caller) in outcomes.into_iter().zip(group.callers) {
            caller.reply(Ok(outcome));
        }
    }

    /// After a lock timeout: blocks the locked conversations and continues with the others.
    async fn block_locked(&self, group: Group, remaining: &mut Remaining, error: &StoreError) {
        match self.locked(&group.conversations()).await {
            Some(locked) if !locked.is_empty() => {
                tracing::warn!(conversations = locked.len(), "conversations locked, sends waiting");
                self.block(group, remaining, &locked);
            }
            // The lock is free again, or it is another lock.
            Some(_) if group.attempts < MAX_ATTEMPTS => remaining.0.push(group),
            Some(_) if group.len() > 1 => {
                tracing::warn!(%error, sends = group.len(), "unknown lock, splitting batch");
                let (mut first, mut second) = group.split_half();
                // The lock is known to last, so the halves get one attempt each.
                (first.attempts, second.attempts) = (MAX_ATTEMPTS - 1, MAX_ATTEMPTS - 1);
                remaining.0.push(second);
                remaining.0.push(first);
            }
            // A lock that only this send needs. It waits with its conversation until it times out.
            Some(_) => {
                let waiting: HashSet<ConversationId> = group.conversations().into_iter().collect();
                self.block(group, remaining, &waiting);
            }
            None => {
                tracing::warn!(%error, "conversations table locked, all sends waiting");
                let all = remaining.take(group, |_| true);
                self.queue.requeue(all);
                sleep(TABLE_LOCKED_DELAY).await;
            }
        }
    }

    /// The conversations that other transactions hold; `None` when the table itself is locked.
    async fn locked(&self, conversations: &[ConversationId]) -> Option<HashSet<ConversationId>> {
        timeout(LOCK_CHECK_TIMEOUT, self.store.locked_conversations(conversations)).await.ok()?.ok()
    }

    /// Blocks these conversations with all their sends; the others come next.
    fn block(&self, group: Group, remaining: &mut Remaining, locked: &HashSet<ConversationId>) {
        let is_locked = |new: &NewMessage| locked.contains(&new.conversation.id());
        let (blocked, others) = group.partition(is_locked);
        let blocked = remaining.take(blocked, is_locked);
        if !blocked.is_empty() {
            self.queue.block(blocked);
        }
        remaining.0.push(others);
    }
}

/// Splits a batch: first the group without suspects, then the suspects.
fn split_suspects(batch: Group, suspects: &[ConversationId]) -> Vec<Group> {
    if suspects.is_empty() {
        return vec![batch];
    }
    let (theirs, others) = batch.partition(|new| suspects.contains(&new.conversation.id()));
    vec![theirs, others]
}

/// Splits a failed group in halves; a single send is rejected.
fn divide(group: Group, remaining: &mut Remaining, error: &StoreError) {
    if group.len() == 1 {
        group.reject(|| SendError::Store(error.duplicate()));
        return;
    }
    let (first, second) = group.split_half();
    remaining.0.push(second);
    remaining.0.push(first);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::send_batcher::pending::MAX_WAIT;
    use crate::store::Class;

    #[test]
    fn send_responds_before_balancer_timeout() {
        let balancer = include_str!("../../../deploy/haproxy.cfg").split_once("backend apis").unwrap().1;
        let balancer = balancer.split_once("timeout server ").unwrap().1.split_once("s\n").unwrap().0;
        let balancer = Duration::from_secs(balancer.parse().unwrap());
        // The worst case: a send starts at the end of its wait, in a batch that is split until its time limit.
        let longest = MAX_WAIT + BATCH_TIMEOUT + Class::Send.max_duration() + LOCK_CHECK_TIMEOUT + TABLE_LOCKED_DELAY;
        assert!(longest <= balancer - Duration::from_millis(500), "{longest:?} of {balancer:?}");
    }
}
