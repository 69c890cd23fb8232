//! A bounded map that drops the least recently used entries, approximately: one generation at a time.

use std::collections::HashMap;
use std::hash::Hash;

pub(super) struct GenerationalCache<K, V> {
    current: HashMap<K, V>,
    previous: HashMap<K, V>,
    generation_capacity: usize,
}

impl<K: Hash + Eq + Clone, V: Clone> GenerationalCache<K, V> {
    /// Holds at most `capacity` entries.
    pub(super) fn new(capacity: usize) -> Self {
        Self { current: HashMap::new(), previous: HashMap::new(), generation_capacity: capacity / 2 }
    }

    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.current.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.previous.remove_entry(key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.current.len() >= self.generation_capacity {
            self.previous = std::mem::take(&mut self.current);
        }
        // The current generation is searched first, so an older value of the same key is never returned.
        self.current.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_entries_stay_and_others_are_dropped() {
        let mut recent = GenerationalCache::new(8);
        for number in 0..100 {
            recent.insert(number, number);
            assert_eq!(recent.get(&0), Some(0), "used again and again");
            assert!(recent.current.len() + recent.previous.len() <= 8);
        }
        assert_eq!((recent.get(&99), recent.get(&50)), (Some(99), None));
    }

    #[test]
    fn new_value_replaces_old() {
        let mut recent = GenerationalCache::new(4);
        for (key, value) in [(1, 'a'), (2, 'b'), (3, 'c'), (1, 'd')] {
            recent.insert(key, value);
        }
        assert_eq!(recent.get(&1), Some('d'));
    }
}
