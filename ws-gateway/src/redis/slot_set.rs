//! A set of Redis Cluster slots.

use std::fmt;

use shared::kit::redis::{SLOT_COUNT, slot_of};

const WORD: usize = u64::BITS as usize;

/// A set of slots. It computes the slot of a channel only if it is neither empty nor complete, so a single server
/// never pays for that.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SlotSet {
    words: Box<[u64]>,
    len: usize,
}

impl Default for SlotSet {
    fn default() -> Self {
        Self { words: vec![0; SLOT_COUNT / WORD].into(), len: 0 }
    }
}

impl SlotSet {
    /// All slots.
    pub(crate) fn all() -> Self {
        Self { words: vec![u64::MAX; SLOT_COUNT / WORD].into(), len: SLOT_COUNT }
    }

    pub(crate) fn insert(&mut self, slot: usize) {
        let (word, bit) = (&mut self.words[slot / WORD], 1 << (slot % WORD));
        self.len += usize::from(*word & bit == 0);
        *word |= bit;
    }

    pub(crate) fn extend(&mut self, other: &Self) {
        self.combine(other, |mine, theirs| mine | theirs);
    }

    pub(crate) fn remove(&mut self, other: &Self) {
        self.combine(other, |mine, theirs| mine & !theirs);
    }

    fn combine(&mut self, other: &Self, how: impl Fn(u64, u64) -> u64) {
        for (mine, theirs) in self.words.iter_mut().zip(&other.words) {
            *mine = how(*mine, *theirs);
        }
        self.len = self.words.iter().map(|word| word.count_ones() as usize).sum();
    }

    /// Whether the slot of a channel is in the set.
    pub(crate) fn contains(&self, channel: &str) -> bool {
        match self.len {
            0 => false,
            SLOT_COUNT => true,
            _ => {
                let slot = slot_of(channel);
                self.words[slot / WORD] & (1 << (slot % WORD)) != 0
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it contains all slots.
    pub(crate) fn is_whole(&self) -> bool {
        self.len == SLOT_COUNT
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotSet({} slots)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_contains_only_channels_of_its_slots() {
        let channels = ["one:{loc1:a}", "one:{loc1:b}", "other:{loc1:user:doc123}"];
        let mut set = SlotSet::default();
        assert!(set.is_empty() && !channels.iter().any(|channel| set.contains(channel)));
        set.insert(slot_of(channels[0]));
        set.insert(slot_of(channels[0]));
        assert_eq!(channels.map(|channel| set.contains(channel)), [true, false, false]);
        let mut both = set.clone();
        both.insert(slot_of(channels[1]));
        both.remove(&set);
        assert_eq!(channels.map(|channel| both.contains(channel)), [false, true, false]);
        both.extend(&set);
        assert_eq!(both.len, 2);
    }

    #[test]
    fn full_set_is_whole_until_slot_is_removed() {
        let (mut all, mut one) = (SlotSet::all(), SlotSet::default());
        one.insert(SLOT_COUNT - 1);
        assert!(all.is_whole() && !one.is_empty());
        all.remove(&one);
        assert!(!all.is_whole());
        all.insert(SLOT_COUNT - 1);
        assert!(all.is_whole());
    }
}
