//! A bounded map of two generations. When the young generation is full it becomes the old one, and the previous old one is
//! dropped. So an entry leaves after about half the capacity of other insertions without a use.

use std::collections::HashMap;
use std::hash::Hash;

/// A map of at most the given capacity. A lookup keeps its entry; entries that are not looked up leave, a generation at a time.
#[derive(Debug)]
pub struct GenerationalCache<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    generation_capacity: usize,
}

impl<K: Hash + Eq, V: Clone> GenerationalCache<K, V> {
    /// An empty cache of at most `capacity` entries.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), generation_capacity: capacity / 2 }
    }

    /// The value of a key. An entry of the old generation moves to the young one.
    pub fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    /// Adds an entry, in place of an earlier one of the same key.
    pub fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.generation_capacity {
            self.old = std::mem::take(&mut self.young);
        }
        // A lookup tries the young generation first, so an old value of the same key is never returned again.
        self.young.insert(key, value);
    }

    /// Removes the entry of a key from both generations.
    pub fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_keeps_used_entries_and_drops_the_rest() {
        let mut cache = GenerationalCache::new(8);
        for number in 0..100 {
            cache.insert(number, number);
            assert_eq!(cache.get(&0), Some(0), "used again and again");
            assert!(cache.young.len() + cache.old.len() <= 8);
        }
        assert_eq!((cache.get(&99), cache.get(&50)), (Some(99), None));
    }

    #[test]
    fn insert_replaces_value_of_older_generation() {
        let mut cache = GenerationalCache::new(4);
        for (key, value) in [(1, 'a'), (2, 'b'), (3, 'c'), (1, 'd')] {
            cache.insert(key, value);
        }
        assert_eq!(cache.get(&1), Some('d'));
    }

    #[test]
    fn remove_drops_value_from_both_generations() {
        let mut cache = GenerationalCache::new(4);
        for (key, value) in [(1, 'a'), (2, 'b'), (3, 'c'), (1, 'd')] {
            cache.insert(key, value);
        }
        cache.remove(&1);
        assert_eq!((cache.get(&1), cache.get(&3)), (None, Some('c')));
    }
}
