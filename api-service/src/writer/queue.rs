//! The sends that wait: bounded, and fair. Locations take turns, and within a location its conversations do, so a flood in
//! one of them delays and refuses nobody but itself. Within a conversation the first to come is the first to go.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Sends that may wait in all.
pub(super) const MOST: usize = 4_096;
/// Sends of one location that may wait: half of all, so that there is always room for others.
const MOST_OF_A_LOCATION: usize = MOST / 2;
/// Sends of one conversation that may wait.
const MOST_OF_A_CONVERSATION: usize = MOST / 4;

/// What waits, by location and conversation.
#[derive(Debug)]
pub(super) struct Queue<L, C, T> {
    locations: Turns<L, Turns<C, VecDeque<T>>>,
    waiting: usize,
}

/// Things under keys that take turns.
#[derive(Debug)]
struct Turns<K, V> {
    by_key: HashMap<K, V>,
    /// Every key once; the first is next.
    order: VecDeque<K>,
    /// Of what is under the keys.
    waiting: usize,
}

impl<K: Hash + Eq + Clone, V: Default> Turns<K, V> {
    fn under(&mut self, key: &K) -> &mut V {
        if !self.by_key.contains_key(key) {
            self.order.push_back(key.clone());
        }
        self.by_key.entry(key.clone()).or_default()
    }

    /// Lets the next one take its turn. `take` says what it took, and whether there is more of it.
    fn turn<T>(&mut self, take: impl FnOnce(&mut V) -> (Option<T>, bool)) -> Option<T> {
        let key = self.order.pop_front()?;
        let (taken, is_left) = take(self.by_key.get_mut(&key)?);
        if is_left {
            self.order.push_back(key);
        } else {
            self.by_key.remove(&key);
        }
        self.waiting -= usize::from(taken.is_some());
        taken
    }
}

impl<K, V> Default for Turns<K, V> {
    fn default() -> Self {
        Self { by_key: HashMap::new(), order: VecDeque::new(), waiting: 0 }
    }
}

impl<L: Hash + Eq + Clone, C: Hash + Eq + Clone, T> Default for Queue<L, C, T> {
    fn default() -> Self {
        Self { locations: Turns::default(), waiting: 0 }
    }
}

impl<L: Hash + Eq + Clone, C: Hash + Eq + Clone, T> Queue<L, C, T> {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// Adds one, or gives it back when too many wait: in all, of its location, or of its conversation.
    pub(super) fn push(&mut self, location: &L, conversation: &C, item: T) -> Result<(), T> {
        let of_location = self.locations.by_key.get(location);
        let of_conversation = of_location.and_then(|location| location.by_key.get(conversation));
        if self.waiting >= MOST
            || of_location.is_some_and(|location| location.waiting >= MOST_OF_A_LOCATION)
            || of_conversation.is_some_and(|conversation| conversation.len() >= MOST_OF_A_CONVERSATION)
        {
            return Err(item);
        }
        let location = self.locations.under(location);
        location.waiting += 1;
        location.under(conversation).push_back(item);
        self.locations.waiting += 1;
        self.waiting += 1;
        Ok(())
    }

    /// Takes the next one.
    pub(super) fn pop(&mut self) -> Option<T> {
        let taken = self.locations.turn(|location| {
            let taken = location.turn(|conversation| {
                let taken = conversation.pop_front();
                (taken, !conversation.is_empty())
            });
            (taken, location.waiting > 0)
        });
        self.waiting -= usize::from(taken.is_some());
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Numbers = Queue<&'static str, u32, u32>;

    fn drain(queue: &mut Numbers) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn a_flood_in_one_conversation_delays_nobody_else() {
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
    fn a_flood_is_refused_before_it_leaves_no_room_for_others() {
        let mut queue = Numbers::default();
        let mut taken = 0;
        while queue.push(&"busy", &1, 0).is_ok() {
            taken += 1;
        }
        assert_eq!(taken, MOST_OF_A_CONVERSATION);
        for conversation in 2.. {
            if queue.push(&"busy", &conversation, 0).is_err() {
                break;
            }
            taken += 1;
        }
        assert_eq!(taken, MOST_OF_A_LOCATION);
        queue.push(&"quiet", &1, 0).unwrap();
        for (location, conversation) in
            ["a", "b", "c"].into_iter().flat_map(|location| (0..MOST as u32).map(move |c| (location, c)))
        {
            let _full = queue.push(&location, &conversation, 0);
        }
        assert_eq!(queue.len(), MOST);
        assert_eq!(drain(&mut queue).len(), MOST);
        assert!(queue.locations.by_key.is_empty() && queue.locations.order.is_empty(), "nothing stays behind");
    }

    proptest! {
        #[test]
        fn every_conversation_keeps_its_order_and_nothing_is_lost(sends in prop::collection::vec((0_usize..3, 0_u32..4, any::<bool>()), 0..300)) {
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
