//! State that callers and the batcher share: the queue, blocked conversations, and whether PostgreSQL is down.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use shared::contract::ids::{ConversationId, LocationId};
use tokio::sync::Notify;

use super::error::SendError;
use super::fair_queue::{CAPACITY, FairQueue};
use super::pending::{Caller, PendingSend};
use crate::model::message::NewMessage;
use crate::model::send::SendRequest;
use crate::store::StoreError;

/// Sends per transaction.
pub(super) const MAX_BATCH: usize = 256;
/// How long a conversation stays a suspect after it was unblocked, unless a send into it succeeds earlier.
const SUSPECT_TTL: Duration = Duration::from_secs(30);
/// Suspects that are remembered.
const MAX_SUSPECTS: usize = 1_024;

#[derive(Default)]
pub(super) struct SharedQueue {
    state: Mutex<State>,
    /// Work has arrived, or may continue.
    pub(super) changed: Notify,
    /// A conversation was blocked.
    pub(super) block: Notify,
}

#[derive(Default)]
struct State {
    queue: FairQueue<LocationId, ConversationId, PendingSend>,
    is_closed: bool,
    /// PostgreSQL does not answer: sends are rejected.
    is_unavailable: bool,
    /// Conversations that another transaction holds.
    blocked: BTreeMap<ConversationId, LocationId>,
    /// The last blocked conversation that was polled.
    looked_at: Option<ConversationId>,
    /// Conversations that were blocked recently.
    suspects: HashMap<ConversationId, Instant>,
}

/// The result of taking a batch.
pub(super) enum NextBatch {
    Batch(Group),
    /// No send can be taken now.
    Empty,
    /// The queue is closed and empty.
    Closed,
}

impl SharedQueue {
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_one();
    }

    /// Queues a send.
    pub(super) fn push(&self, pending: PendingSend) -> Result<(), SendError> {
        let mut state = self.state.lock();
        if state.is_unavailable {
            return Err(database_unavailable());
        }
        let message = pending.request.message.clone();
        if state.queue.push(message.conversation.location(), &message.conversation.id(), pending).is_err() {
            metrics::counter!("ehr_chat_send_queue_overflows_total").increment(1);
            return Err(SendError::Overloaded);
        }
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Takes the next batch.
    pub(super) fn next_batch(&self) -> NextBatch {
        let mut state = self.state.lock();
        let mut group = Group::default();
        while group.len() < MAX_BATCH
            && let Some(pending) = state.queue.pop()
        {
            if pending.caller.try_start() {
                group.push(pending);
            }
        }
        metrics::gauge!("ehr_chat_send_queue_depth").set(state.queue.len() as f64);
        match group.is_empty() {
            false => NextBatch::Batch(group),
            true if state.is_closed && state.queue.len() == 0 => NextBatch::Closed,
            true => NextBatch::Empty,
        }
    }

    /// Whether [`next_batch`](Self::next_batch) may return something.
    pub(super) fn is_ready(&self) -> bool {
        let state = self.state.lock();
        state.queue.is_ready() || (state.is_closed && state.queue.len() == 0)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    /// Requeues sends that were taken and not written, in order.
    pub(super) fn requeue(&self, group: Group) {
        let mut state = self.state.lock();
        state.requeue(group);
        drop(state);
        self.changed.notify_one();
    }

    /// Blocks the conversations of a group and requeues its sends.
    pub(super) fn block(&self, group: Group) {
        let mut state = self.state.lock();
        for SendRequest { message, .. } in &group.requests {
            let (location, id) = (message.conversation.location(), message.conversation.id());
            if state.blocked.len() < CAPACITY && state.blocked.insert(id, location.clone()).is_none() {
                metrics::counter!("ehr_chat_send_conversations_locked_total").increment(1);
                state.queue.block(location, &id, true);
            }
        }
        state.requeue(group);
        metrics::gauge!("ehr_chat_send_conversations_locked").set(state.blocked.len() as f64);
        drop(state);
        self.block.notify_one();
    }

    /// The next `limit` blocked conversations, in rotation. Drops their sends that timed out or lost their caller.
    pub(super) fn blocked(&self, limit: usize) -> Vec<ConversationId> {
        let mut state = self.state.lock();
        let State { blocked, looked_at, queue, .. } = &mut *state;
        for (id, location) in blocked.iter() {
            queue.retain(location, id, |pending| pending.caller.is_waiting());
        }
        let ids = next_in_rotation(blocked, looked_at, limit);
        let is_over = state.is_closed && state.queue.len() == 0;
        drop(state);
        if is_over {
            self.changed.notify_one();
        }
        ids
    }

    /// Unblocks conversations. They become suspects.
    pub(super) fn unblock(&self, conversations: impl Iterator<Item = ConversationId>) {
        let now = Instant::now();
        let mut state = self.state.lock();
        for id in conversations {
            let Some(location) = state.blocked.remove(&id) else { continue };
            state.queue.block(&location, &id, false);
            if state.suspects.len() >= MAX_SUSPECTS {
                state.suspects.retain(|_, since| now.duration_since(*since) < SUSPECT_TTL);
            }
            if state.suspects.len() < MAX_SUSPECTS {
                state.suspects.insert(id, now);
            }
        }
        metrics::gauge!("ehr_chat_send_conversations_locked").set(state.blocked.len() as f64);
        drop(state);
        self.changed.notify_one();
    }

    /// The suspects among a group's conversations.
    pub(super) fn suspects(&self, group: &Group) -> Vec<ConversationId> {
        let mut state = self.state.lock();
        if state.suspects.is_empty() {
            return Vec::new();
        }
        let now = Instant::now();
        state.suspects.retain(|_, since| now.duration_since(*since) < SUSPECT_TTL);
        group.conversations().into_iter().filter(|id| state.suspects.contains_key(id)).collect()
    }

    /// A written conversation is no suspect any more.
    pub(super) fn clear_suspects(&self, written: &Group) {
        let mut state = self.state.lock();
        for SendRequest { message, .. } in &written.requests {
            state.suspects.remove(&message.conversation.id());
        }
    }

    /// Records that PostgreSQL is down, which rejects all queued sends, or that it is back.
    pub(super) fn set_database_unavailable(&self, is_unavailable: bool) {
        let mut state = self.state.lock();
        state.is_unavailable = is_unavailable;
        let refused = if is_unavailable { state.queue.drain() } else { Vec::new() };
        drop(state);
        for pending in refused {
            pending.caller.reply(Err(database_unavailable()));
        }
    }
}

impl State {
    fn requeue(&mut self, group: Group) {
        for pending in group.into_pending().rev() {
            let message = pending.request.message.clone();
            match pending.caller.try_requeue() {
                true => self.queue.requeue(message.conversation.location(), &message.conversation.id(), pending),
                false => pending.caller.reject_requeue(),
            }
        }
    }
}

/// The next keys after `last`, continuing at the start, each once.
fn next_in_rotation<K: Ord + Copy, V>(all: &BTreeMap<K, V>, last: &mut Option<K>, limit: usize) -> Vec<K> {
    let keys: Vec<K> = match *last {
        None => all.keys().take(limit).copied().collect(),
        Some(last) => {
            let behind = all.range((Bound::Excluded(last), Bound::Unbounded));
            behind.chain(all.range(..=last)).take(limit).map(|(key, _)| *key).collect()
        }
    };
    *last = keys.last().copied();
    keys
}

fn database_unavailable() -> SendError {
    StoreError::Unavailable("the last probe got no answer".into()).into()
}

/// Sends that are written together, in order.
#[derive(Default)]
pub(super) struct Group {
    pub(super) requests: Vec<SendRequest>,
    pub(super) callers: Vec<Caller>,
    /// Attempts of this group as a whole.
    pub(super) attempts: usize,
}

impl Group {
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Adds a group at the end.
    pub(super) fn append(&mut self, behind: Self) {
        behind.into_pending().for_each(|pending| self.push(pending));
    }

    fn push(&mut self, PendingSend { request, caller }: PendingSend) {
        self.requests.push(request);
        self.callers.push(caller);
    }

    fn into_pending(self) -> impl DoubleEndedIterator<Item = PendingSend> {
        self.requests.into_iter().zip(self.callers).map(|(request, caller)| PendingSend { request, caller })
    }

    /// Its conversations, each once.
    pub(super) fn conversations(&self) -> Vec<ConversationId> {
        let mut ids: Vec<ConversationId> =
            self.requests.iter().map(|request| request.message.conversation.id()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Splits the group; both parts keep their order.
    pub(super) fn partition(self, is_first: impl Fn(&NewMessage) -> bool) -> (Self, Self) {
        let (mut first, mut second) = (Self::default(), Self::default());
        for pending in self.into_pending() {
            if is_first(&pending.request.message) { first.push(pending) } else { second.push(pending) }
        }
        (first, second)
    }

    /// Splits the group in two halves.
    pub(super) fn split_half(mut self) -> (Self, Self) {
        let middle = self.len() / 2;
        let (requests, callers) = (self.requests.split_off(middle), self.callers.split_off(middle));
        let second = Self { requests, callers, attempts: 0 };
        self.attempts = 0;
        (self, second)
    }

    /// Rejects all sends for the same reason.
    pub(super) fn reject(self, why: impl Fn() -> SendError) {
        for caller in self.callers {
            caller.reply(Err(why()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocked_conversations_are_polled_in_rotation() {
        let mut all: BTreeMap<u32, ()> = (0..25).map(|key| (key, ())).collect();
        let mut last = None;
        let mut looked: Vec<u32> = (0..3).flat_map(|_| next_in_rotation(&all, &mut last, 10)).collect();
        assert_eq!(looked.split_off(25), [0, 1, 2, 3, 4]);
        assert_eq!(looked, (0..25).collect::<Vec<_>>());
        all.remove(&4);
        assert_eq!(next_in_rotation(&all, &mut last, 3), [5, 6, 7]);
        assert_eq!(next_in_rotation(&all, &mut last, 100).len(), 24, "each once");
        assert!(next_in_rotation(&BTreeMap::<u32, ()>::new(), &mut last, 3).is_empty());
    }
}
