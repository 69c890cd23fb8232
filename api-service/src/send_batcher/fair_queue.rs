//! A bounded, fair queue of sends: round-robin by location, then by conversation. A flood fills only its own share and delays no
//! other conversation. Within a conversation the order is first in, first out.
//!
//! A blocked conversation keeps its sends and takes no turns.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Sends in the queue.
pub(super) const CAPACITY: usize = 4_096;
/// Sends of one location: half of all, so that other locations always have room.
const LOCATION_CAPACITY: usize = CAPACITY / 2;
/// Sends of one conversation.
const CONVERSATION_CAPACITY: usize = CAPACITY / 4;

/// Sends by location and conversation.
#[derive(Debug)]
pub(super) struct FairQueue<L, C, T> {
    locations: RoundRobin<L, RoundRobin<C, ConversationQueue<T>>>,
    /// Queued sends, including those of blocked conversations.
    waiting: usize,
}

/// The sends of one conversation.
#[derive(Debug)]
struct ConversationQueue<T> {
    items: VecDeque<T>,
    is_blocked: bool,
}

/// Values under keys that take turns.
#[derive(Debug)]
struct RoundRobin<K, V> {
    by_key: HashMap<K, Slot<V>>,
    /// Keys in turn order, each once. A key that has nothing to give is skipped.
    order: VecDeque<K>,
    /// Items under all keys.
    waiting: usize,
}

#[derive(Debug, Default)]
struct Slot<V> {
    value: V,
    is_in_order: bool,
}

/// A value that takes turns.
trait Schedulable: Default {
    /// Whether it can give an item now.
    fn is_ready(&self) -> bool;
    /// Whether it is empty and can be removed.
    fn is_removable(&self) -> bool;
}

impl<T> Schedulable for ConversationQueue<T> {
    fn is_ready(&self) -> bool {
        !self.is_blocked && !self.items.is_empty()
    }

    fn is_removable(&self) -> bool {
        !self.is_blocked && self.items.is_empty()
    }
}

impl<K, V> Schedulable for RoundRobin<K, V> {
    fn is_ready(&self) -> bool {
        !self.order.is_empty()
    }

    fn is_removable(&self) -> bool {
        self.by_key.is_empty()
    }
}

impl<K: Hash + Eq + Clone, V: Schedulable> RoundRobin<K, V> {
    fn get(&self, key: &K) -> Option<&V> {
        self.by_key.get(key).map(|slot| &slot.value)
    }

    /// Changes a value, then enrols its key for a turn or removes it, as needed.
    fn update<R>(&mut self, key: &K, change: impl FnOnce(&mut V) -> R) -> R {
        let slot = self.by_key.entry(key.clone()).or_default();
        let done = change(&mut slot.value);
        if slot.value.is_ready() && !slot.is_in_order {
            slot.is_in_order = true;
            self.order.push_back(key.clone());
        } else if slot.value.is_removable() && !slot.is_in_order {
            self.by_key.remove(key);
        }
        done
    }

    /// Takes an item from the next value that has one.
    fn take_turn<R>(&mut self, mut take: impl FnMut(&mut V) -> Option<R>) -> Option<R> {
        loop {
            let key = self.order.pop_front()?;
            let slot = self.by_key.get_mut(&key)?;
            let taken = if slot.value.is_ready() { take(&mut slot.value) } else { None };
            self.waiting -= usize::from(taken.is_some());
            slot.is_in_order = slot.value.is_ready();
            if slot.is_in_order {
                self.order.push_back(key);
            } else if slot.value.is_removable() {
                self.by_key.remove(&key);
            }
            if taken.is_some() {
                return taken;
            }
        }
    }
}

impl<T> Default for ConversationQueue<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), is_blocked: false }
    }
}

impl<K, V> Default for RoundRobin<K, V> {
    fn default() -> Self {
        Self { by_key: HashMap::new(), order: VecDeque::new(), waiting: 0 }
    }
}

impl<L: Hash + Eq + Clone, C: Hash + Eq + Clone, T> Default for FairQueue<L, C, T> {
    fn default() -> Self {
        Self { locations: RoundRobin::default(), waiting: 0 }
    }
}

impl<L: Hash + Eq + Clone, C: Hash + Eq + Clone, T> FairQueue<L, C, T> {
    /// Number of queued sends.
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// Whether some send may be taken now.
    pub(super) fn is_ready(&self) -> bool {
        self.locations.is_ready()
    }

    /// Adds a send, or returns it when a bound is reached: of the queue, the location or the conversation.
    pub(super) fn push(&mut self, location: &L, conversation: &C, item: T) -> Result<(), T> {
        let of_location = self.locations.get(location);
        let of_conversation = of_location.and_then(|location| location.get(conversation));
        if self.waiting >= CAPACITY
            || of_location.is_some_and(|location| location.waiting >= LOCATION_CAPACITY)
            || of_conversation.is_some_and(|conversation| conversation.items.len() >= CONVERSATION_CAPACITY)
        {
            return Err(item);
        }
        self.insert(location, conversation, |items| items.push_back(item));
        Ok(())
    }

    /// Puts a taken send back to the front of its conversation. Ignores the bounds.
    pub(super) fn requeue(&mut self, location: &L, conversation: &C, item: T) {
        self.insert(location, conversation, |items| items.push_front(item));
    }

    fn insert(&mut self, location: &L, conversation: &C, insert: impl FnOnce(&mut VecDeque<T>)) {
        self.locations.update(location, |location| {
            location.update(conversation, |conversation| insert(&mut conversation.items));
            location.waiting += 1;
        });
        self.locations.waiting += 1;
        self.waiting += 1;
    }

    /// Takes the next send.
    pub(super) fn pop(&mut self) -> Option<T> {
        let taken =
            self.locations.take_turn(|location| location.take_turn(|conversation| conversation.items.pop_front()));
        self.waiting -= usize::from(taken.is_some());
        taken
    }

    /// Blocks or unblocks a conversation.
    pub(super) fn block(&mut self, location: &L, conversation: &C, is_blocked: bool) {
        self.locations
            .update(location, |location| location.update(conversation, |waiting| waiting.is_blocked = is_blocked));
    }

    /// Drops sends of a conversation that are not wanted. Returns how many remain.
    pub(super) fn retain(&mut self, location: &L, conversation: &C, is_wanted: impl FnMut(&T) -> bool) -> usize {
        let (dropped, left) = self.locations.update(location, |location| {
            let (dropped, left) = location.update(conversation, |waiting| {
                let before = waiting.items.len();
                waiting.items.retain(is_wanted);
                (before - waiting.items.len(), waiting.items.len())
            });
            location.waiting -= dropped;
            (dropped, left)
        });
        self.locations.waiting -= dropped;
        self.waiting -= dropped;
        left
    }

    /// Takes all sends. Blocked conversations stay blocked.
    pub(super) fn drain(&mut self) -> Vec<T> {
        let mut drained = Vec::with_capacity(self.waiting);
        let locations: Vec<L> = self.locations.by_key.keys().cloned().collect();
        for location in locations {
            self.locations.update(&location, |location| {
                let conversations: Vec<C> = location.by_key.keys().cloned().collect();
                for conversation in conversations {
                    location.update(&conversation, |waiting| drained.extend(waiting.items.drain(..)));
                }
                location.waiting = 0;
            });
        }
        (self.locations.waiting, self.waiting) = (0, 0);
        drained
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Numbers = FairQueue<&'static str, u32, u32>;

    fn drain(queue: &mut Numbers) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn flooded_conversation_delays_no_other() {
        let mut queue = Numbers::default();
        for number in 0..1_000 {
            queue.push(&"busy", &1, number).unwrap();
        }
        queue.push(&"busy", &2, 10_000).unwrap();
        queue.push(&"quiet", &3, 20_000).unwrap();
        let order = drain(&mut queue);
        assert!(order.iter().position(|number| *number == 20_000).unwrap() <= 1, "the other location is next");
        assert!(order.iter().position(|number| *number == 10_000).unwrap() <= 3, "and then the other conversation");
        assert_eq!(order.len(), 1_002);
    }

    #[test]
    fn flood_is_rejected_at_its_own_share() {
        let mut queue = Numbers::default();
        let mut taken = 0;
        while queue.push(&"busy", &1, 0).is_ok() {
            taken += 1;
        }
        assert_eq!(taken, CONVERSATION_CAPACITY);
        for conversation in 2.. {
            if queue.push(&"busy", &conversation, 0).is_err() {
                break;
            }
            taken += 1;
        }
        assert_eq!(taken, LOCATION_CAPACITY);
        queue.push(&"quiet", &1, 0).unwrap();
        for (location, conversation) in
            ["a", "b", "c"].into_iter().flat_map(|location| (0..CAPACITY as u32).map(move |c| (location, c)))
        {
            let _full = queue.push(&location, &conversation, 0);
        }
        assert_eq!(queue.len(), CAPACITY);
        assert_eq!(drain(&mut queue).len(), CAPACITY);
        assert!(queue.locations.by_key.is_empty() && queue.locations.order.is_empty(), "nothing stays behind");
    }

    #[test]
    fn blocked_conversation_waits_while_others_proceed() {
        let mut queue = Numbers::default();
        for number in 0..3 {
            queue.push(&"a", &1, number).unwrap();
            queue.push(&"a", &2, 10 + number).unwrap();
        }
        assert_eq!(queue.pop(), Some(0));
        queue.block(&"a", &1, true);
        queue.requeue(&"a", &1, 0);
        queue.push(&"a", &1, 3).unwrap();
        assert_eq!(drain(&mut queue), [10, 11, 12], "its location goes on");
        assert_eq!((queue.len(), queue.pop()), (4, None));
        queue.push(&"a", &2, 13).unwrap();
        assert_eq!(queue.pop(), Some(13), "and wakes up again");
        assert_eq!(queue.retain(&"a", &1, |number| *number != 2), 3);
        queue.block(&"a", &1, false);
        assert_eq!(drain(&mut queue), [0, 1, 3], "in their order");
        assert!(queue.locations.by_key.is_empty() && queue.locations.order.is_empty(), "nothing stays behind");
        queue.block(&"b", &9, true);
        queue.push(&"b", &9, 1).unwrap();
        assert_eq!((queue.drain(), queue.len()), (vec![1], 0));
        queue.push(&"b", &9, 2).unwrap();
        assert_eq!(queue.pop(), None, "it stays blocked");
        queue.block(&"b", &9, false);
        assert_eq!(queue.pop(), Some(2));
        assert!(queue.locations.by_key.is_empty());
    }

    proptest! {
        #[test]
        fn conversations_keep_order_and_lose_nothing(sends in prop::collection::vec((0_usize..3, 0_u32..4, any::<bool>()), 0..300)) {
            let locations = ["a", "b", "c"];
            let mut queue = Numbers::default();
            let mut pushed: HashMap<u32, (usize, u32)> = HashMap::new();
            let mut popped = Vec::new();
            for (number, (location, conversation, also_pop)) in (0_u32..).zip(sends) {
                queue.push(&locations[location], &conversation, number).unwrap();
                pushed.insert(number, (location, conversation));
                if also_pop {
                    popped.extend(queue.pop());
                }
            }
            popped.extend(drain(&mut queue));
            prop_assert_eq!(popped.len(), pushed.len());
            let mut last: HashMap<(usize, u32), u32> = HashMap::new();
            for number in popped {
                if let Some(before) = last.insert(pushed[&number], number) {
                    prop_assert!(before < number);
                }
            }
            prop_assert_eq!(queue.len(), 0);
        }
    }
}
