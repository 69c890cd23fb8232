//! A batch of sends, whatever stands in its way. Ordinarily it is one transaction. Otherwise it is divided, so that what
//! cannot be written fails or waits alone, and its neighbours are written:
//!
//! - A conversation that another transaction holds is set aside. Its sends wait until it is free, or for as long as a send may.
//!   For a while it comes last then, in a transaction of its own: there it waits for the lock as anybody does, which two services that
//!   send into one conversation have to, and holds up no neighbour of its batch.
//! - A location whose data key cannot be used leaves first.
//! - Of sends that the database refuses, split_half are tried until those are found that it does not take.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use shared::ids::ConversationId;
use tokio::time::{sleep, timeout};

use super::SendError;
use super::SendResult;
use super::shared_queue::{Group, SharedQueue};
use crate::model::message::NewMessage;
use crate::publisher::Publisher;
use crate::store::{BatchResult, SendOutcome, Store, StoreError};

/// How long a batch may take in all its parts. What has not started by then waits again, or is refused if it has waited for long.
const BATCH_TIMEOUT: Duration = Duration::from_millis(2_500);
/// How long the look which conversations are locked may take. It waits for nothing but a lock on the table.
const LOCK_CHECK_TIMEOUT: Duration = Duration::from_millis(500);
/// How often a group is tried as it is when another transaction stands in the way, and none of its conversations is locked.
const MAX_ATTEMPTS: usize = 3;
/// How long to wait when all of them are: a migration holds the table, say.
const TABLE_LOCKED_DELAY: Duration = Duration::from_millis(100);

/// How a batch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BatchOutcome {
    /// Everybody was answered, or waits again.
    Completed,
    /// The database did not answer.
    DatabaseLost,
}

/// Writes batches.
pub(super) struct BatchWriter<'a> {
    pub(super) store: &'a Store,
    pub(super) publisher: &'a Publisher,
    pub(super) queue: &'a SharedQueue,
}

/// What is left of a batch; the last is next.
struct Remaining(Vec<Group>);

impl Remaining {
    /// Takes what belongs to some conversations, behind those of `first`, in order.
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
                // Those that came late may wait on; the others are refused.
                let all = remaining.take(group, |_| true);
                self.queue.requeue(all);
                break;
            }
            group.attempts += 1;
            let error = match self.store.send(&group.new, &group.origins).await {
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
                    tracing::warn!(%error, sends, "sends are refused, and nobody knows whether they were written");
                    let failed = || SendError::Store(error.duplicate());
                    group.reject(failed);
                    remaining.0.into_iter().for_each(|group| group.reject(failed));
                    return BatchOutcome::DatabaseLost;
                }
                StoreError::Locked(_) => self.block_locked(group, &mut remaining, &error).await,
                StoreError::TimedOut(_) => {
                    tracing::warn!(%error, sends, "a batch took too long; it is divided");
                    divide(group, &mut remaining, &error);
                }
                StoreError::DataKey(ref locations, _) => {
                    tracing::error!(%error, "the sends of a location cannot be sealed");
                    let (failed, others) = group.partition(|new| locations.contains(new.conversation.location()));
                    failed.reject(|| SendError::Store(error.duplicate()));
                    remaining.0.push(others);
                }
                StoreError::Contended(_) if group.attempts < MAX_ATTEMPTS => remaining.0.push(group),
                error => {
                    if sends > 1 {
                        tracing::warn!(%error, sends, "a batch failed; it is divided");
                    }
                    divide(group, &mut remaining, &error);
                }
            }
        }
        BatchOutcome::Completed
    }

    fn reply(&self, group: Group, BatchResult { outcomes, entry }: BatchResult) {
        self.publisher.publish(entry);
        for (outcome, caller) in outcomes.into_iter().zip(group.callers) {
            caller.reply(match outcome {
                SendOutcome::Sent(json) => Ok(SendResult { json, created: true }),
                SendOutcome::Repeated(json) => Ok(SendResult { json, created: false }),
                SendOutcome::IdReused => Err(SendError::IdReused),
            });
        }
    }

    /// A lock was not given in time. Finds the conversations that are locked, and goes on without them.
    async fn block_locked(&self, group: Group, remaining: &mut Remaining, error: &StoreError) {
        match self.locked(&group.conversations()).await {
            Some(locked) if !locked.is_empty() => {
                tracing::warn!(conversations = locked.len(), "conversations are locked by others: their sends wait");
                self.block(group, remaining, &locked);
            }
            // It is free by now, or something else is locked.
            Some(_) if group.attempts < MAX_ATTEMPTS => remaining.0.push(group),
            Some(_) if group.len() > 1 => {
                tracing::warn!(%error, sends = group.len(), "something that sends need is locked: it is found out which of them do");
                let (mut first, mut second) = group.split_half();
                // It was found to be no passing thing.
                (first.attempts, second.attempts) = (MAX_ATTEMPTS - 1, MAX_ATTEMPTS - 1);
                remaining.0.push(second);
                remaining.0.push(first);
            }
            // A table, perhaps, or a row that only this one needs: it waits with its conversation, for as long as a send may.
            Some(_) => {
                let waiting: HashSet<ConversationId> = group.conversations().into_iter().collect();
                self.block(group, remaining, &waiting);
            }
            None => {
                tracing::warn!(%error, "the table of conversations is locked: all sends wait");
                let all = remaining.take(group, |_| true);
                self.queue.requeue(all);
                sleep(TABLE_LOCKED_DELAY).await;
            }
        }
    }

    /// Those of some conversations that others hold. None when nobody can say: the table is locked.
    async fn locked(&self, conversations: &[ConversationId]) -> Option<HashSet<ConversationId>> {
        timeout(LOCK_CHECK_TIMEOUT, self.store.locked_conversations(conversations)).await.ok()?.ok()
    }

    /// Sets these conversations aside, with all of their sends; the others are next.
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

/// A batch without its suspects, which is next, and behind it the suspects.
fn split_suspects(batch: Group, suspects: &[ConversationId]) -> Vec<Group> {
    if suspects.is_empty() {
        return vec![batch];
    }
    let (theirs, others) = batch.partition(|new| suspects.contains(&new.conversation.id()));
    vec![theirs, others]
}

/// Halves what failed, until it is one send that fails alone.
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
    fn a_send_is_answered_before_the_balancer_gives_up() {
        let balancer = include_str!("../../../deploy/haproxy.cfg").split_once("backend apis").unwrap().1;
        let balancer = balancer.split_once("timeout server ").unwrap().1.split_once("s\n").unwrap().0;
        let balancer = Duration::from_secs(balancer.parse().unwrap());
        // It starts in the last moment of its patience, in a batch that is divided until the last moment of its own.
        let longest = MAX_WAIT + BATCH_TIMEOUT + Class::Send.max_duration() + LOCK_CHECK_TIMEOUT + TABLE_LOCKED_DELAY;
        assert!(longest <= balancer - Duration::from_millis(500), "{longest:?} of {balancer:?}");
    }
}
