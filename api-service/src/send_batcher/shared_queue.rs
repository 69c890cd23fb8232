//! What callers and the writer share: the queue, which conversations are set aside, and whether the database is away.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use shared::ids::{ConversationId, LocationId};
use tokio::sync::Notify;

use super::fair_queue::{MOST, Queue};
use super::pending::{Caller, Pending};
use crate::domain::error::Refused;
use crate::model::message::NewMessage;
use crate::model::origin::Origin;
use crate::store::StoreError;

/// Sends in one transaction.
pub(super) const MAX_BATCH: usize = 256;
/// How long a conversation that was locked shares no transaction with those that were not, unless it is written before.
const SUSPECT_FOR: Duration = Duration::from_secs(30);
/// Conversations that are remembered as having been locked.
const MOST_SUSPECTS: usize = 1_024;

#[derive(Default)]
pub(super) struct Line {
    state: Mutex<State>,
    /// Something has come, or can go on.
    pub(super) changed: Notify,
    /// A conversation was set aside.
    pub(super) set_aside: Notify,
}

#[derive(Default)]
struct State {
    queue: Queue<LocationId, ConversationId, Pending>,
    is_closed: bool,
    /// The database does not answer: nothing can be written now.
    is_away: bool,
    /// Conversations that another transaction holds.
    aside: BTreeMap<ConversationId, LocationId>,
    /// The last of them that was looked at.
    looked_at: Option<ConversationId>,
    /// Conversations that were set aside a moment ago.
    suspects: HashMap<ConversationId, Instant>,
}

/// What is next.
pub(super) enum Next {
    Batch(Group),
    /// Nothing can be taken now.
    Nothing,
    /// Nobody can hand in sends any more, and none is left.
    Closed,
}

impl Line {
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_one();
    }

    /// Adds a send.
    pub(super) fn push(&self, pending: Pending) -> Result<(), Refused> {
        let mut state = self.state.lock();
        if state.is_away {
            return Err(away());
        }
        let new = pending.new.clone();
        if state.queue.push(new.conversation.location(), &new.conversation.id(), pending).is_err() {
            metrics::counter!("send_queue_overflows_total").increment(1);
            return Err(Refused::Overloaded);
        }
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Takes the sends of the next transaction.
    pub(super) fn next(&self) -> Next {
        let mut state = self.state.lock();
        let mut group = Group::default();
        while group.len() < MAX_BATCH
            && let Some(pending) = state.queue.pop()
        {
            if pending.caller.start() {
                group.push(pending);
            }
        }
        metrics::gauge!("send_queue_depth").set(state.queue.len() as f64);
        match group.is_empty() {
            false => Next::Batch(group),
            true if state.is_closed && state.queue.len() == 0 => Next::Closed,
            true => Next::Nothing,
        }
    }

    /// Whether there may be something to take.
    pub(super) fn has_work(&self) -> bool {
        let state = self.state.lock();
        state.queue.is_ready() || (state.is_closed && state.queue.len() == 0)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    /// Gives back what was taken and not written, in its order.
    pub(super) fn put_back(&self, group: Group) {
        let mut state = self.state.lock();
        state.put_back(group);
        drop(state);
        self.changed.notify_one();
    }

    /// Sets aside the conversations of a group, whose sends wait from now on. When too many are set aside, they are refused.
    pub(super) fn set_aside(&self, group: Group) {
        let mut state = self.state.lock();
        for new in &group.new {
            let (location, id) = (new.conversation.location(), new.conversation.id());
            if state.aside.len() < MOST && state.aside.insert(id, location.clone()).is_none() {
                metrics::counter!("send_conversations_set_aside_total").increment(1);
                state.queue.set_aside(location, &id, true);
            }
        }
        state.put_back(group);
        metrics::gauge!("send_conversations_aside").set(state.aside.len() as f64);
        drop(state);
        self.set_aside.notify_one();
    }

    /// Conversations that are set aside, `most` at most, and each time the next ones. Sends that nobody waits for any more are dropped.
    pub(super) fn aside(&self, most: usize) -> Vec<ConversationId> {
        let mut state = self.state.lock();
        let State { aside, looked_at, queue, .. } = &mut *state;
        for (id, location) in aside.iter() {
            queue.retain(location, id, |pending| pending.caller.is_waiting());
        }
        let ids = next_of(aside, looked_at, most);
        let is_over = state.is_closed && state.queue.len() == 0;
        drop(state);
        if is_over {
            self.changed.notify_one();
        }
        ids
    }

    /// Lets conversations take part again. They are suspects for a while.
    pub(super) fn release(&self, conversations: impl Iterator<Item = ConversationId>) {
        let now = Instant::now();
        let mut state = self.state.lock();
        for id in conversations {
            let Some(location) = state.aside.remove(&id) else { continue };
            state.queue.set_aside(&location, &id, false);
            if state.suspects.len() >= MOST_SUSPECTS {
                state.suspects.retain(|_, since| now.duration_since(*since) < SUSPECT_FOR);
            }
            if state.suspects.len() < MOST_SUSPECTS {
                state.suspects.insert(id, now);
            }
        }
        metrics::gauge!("send_conversations_aside").set(state.aside.len() as f64);
        drop(state);
        self.changed.notify_one();
    }

    /// Those of a group's conversations that were locked a moment ago.
    pub(super) fn suspects(&self, group: &Group) -> Vec<ConversationId> {
        let mut state = self.state.lock();
        if state.suspects.is_empty() {
            return Vec::new();
        }
        let now = Instant::now();
        state.suspects.retain(|_, since| now.duration_since(*since) < SUSPECT_FOR);
        group.conversations().into_iter().filter(|id| state.suspects.contains_key(id)).collect()
    }

    /// What was written is suspected no more: whoever held it has let it go.
    pub(super) fn trust(&self, written: &Group) {
        let mut state = self.state.lock();
        for new in &written.new {
            state.suspects.remove(&new.conversation.id());
        }
    }

    /// Notes that the database is away, and refuses all that waits; or that it is back.
    pub(super) fn away(&self, is_away: bool) {
        let mut state = self.state.lock();
        state.is_away = is_away;
        let refused = if is_away { state.queue.drain() } else { Vec::new() };
        drop(state);
        for pending in refused {
            pending.caller.answer(Err(away()));
        }
    }
}

impl State {
    fn put_back(&mut self, group: Group) {
        for pending in group.into_pending().rev() {
            let new = pending.new.clone();
            match pending.caller.waits_again() {
                true => self.queue.put_back(new.conversation.location(), &new.conversation.id(), pending),
                false => pending.caller.refuse_waiting(),
            }
        }
    }
}

/// The next keys behind the last one, and from the beginning again, each once.
fn next_of<K: Ord + Copy, V>(all: &BTreeMap<K, V>, last: &mut Option<K>, most: usize) -> Vec<K> {
    let keys: Vec<K> = match *last {
        None => all.keys().take(most).copied().collect(),
        Some(last) => {
            let behind = all.range((Bound::Excluded(last), Bound::Unbounded));
            behind.chain(all.range(..=last)).take(most).map(|(key, _)| *key).collect()
        }
    };
    *last = keys.last().copied();
    keys
}

fn away() -> Refused {
    StoreError::Unavailable("it did not answer a moment ago".into()).into()
}

/// Sends that are written together, in order.
#[derive(Default)]
pub(super) struct Group {
    pub(super) new: Vec<Arc<NewMessage>>,
    pub(super) origins: Vec<Origin>,
    pub(super) callers: Vec<Caller>,
    /// How often it was tried as it is.
    pub(super) attempts: usize,
}

impl Group {
    pub(super) fn len(&self) -> usize {
        self.new.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.new.is_empty()
    }

    /// Adds what comes behind it.
    pub(super) fn append(&mut self, behind: Self) {
        behind.into_pending().for_each(|pending| self.push(pending));
    }

    fn push(&mut self, Pending { new, origin, caller }: Pending) {
        self.new.push(new);
        self.origins.push(origin);
        self.callers.push(caller);
    }

    fn into_pending(self) -> impl DoubleEndedIterator<Item = Pending> {
        let sends = self.new.into_iter().zip(self.origins).zip(self.callers);
        sends.map(|((new, origin), caller)| Pending { new, origin, caller })
    }

    /// Its conversations, each once.
    pub(super) fn conversations(&self) -> Vec<ConversationId> {
        let mut ids: Vec<ConversationId> = self.new.iter().map(|new| new.conversation.id()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Divides it; both parts keep their order.
    pub(super) fn partition(self, is_first: impl Fn(&NewMessage) -> bool) -> (Self, Self) {
        let (mut first, mut second) = (Self::default(), Self::default());
        for pending in self.into_pending() {
            if is_first(&pending.new) { first.push(pending) } else { second.push(pending) }
        }
        (first, second)
    }

    /// The first half and the rest.
    pub(super) fn halves(mut self) -> (Self, Self) {
        let middle = self.len() / 2;
        let (new, origins) = (self.new.split_off(middle), self.origins.split_off(middle));
        let second = Self { new, origins, callers: self.callers.split_off(middle), attempts: 0 };
        self.attempts = 0;
        (self, second)
    }

    /// Gives everybody the same answer.
    pub(super) fn refuse(self, why: impl Fn() -> Refused) {
        for caller in self.callers {
            caller.answer(Err(why()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_set_aside_is_looked_at_in_turn() {
        let mut all: BTreeMap<u32, ()> = (0..25).map(|key| (key, ())).collect();
        let mut last = None;
        let mut looked: Vec<u32> = (0..3).flat_map(|_| next_of(&all, &mut last, 10)).collect();
        assert_eq!(looked.split_off(25), [0, 1, 2, 3, 4]);
        assert_eq!(looked, (0..25).collect::<Vec<_>>());
        all.remove(&4);
        assert_eq!(next_of(&all, &mut last, 3), [5, 6, 7]);
        assert_eq!(next_of(&all, &mut last, 100).len(), 24, "each once");
        assert!(next_of(&BTreeMap::<u32, ()>::new(), &mut last, 3).is_empty());
    }
}
