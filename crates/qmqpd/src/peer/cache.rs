//! A cache that never grows beyond its bound, in constant time per use.

use std::collections::HashMap;
use std::hash::Hash;

/// Two generations, each of at most half the bound: what is used moves to the young one; when that is full it becomes the old
/// one, and the former old one is forgotten. So an entry that is used stays, and no sweep ever holds anyone up.
#[derive(Debug)]
pub(super) struct Cache<K, V> {
    generation_entries_max: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    /// At least two entries, one per generation.
    pub(super) fn new(entries_max: usize) -> Self {
        let generation_entries_max = entries_max.checked_div(2).unwrap_or(0).max(1);
        Self { generation_entries_max, young: HashMap::new(), old: HashMap::new() }
    }

    /// The value for `key` if it is there and `keep` likes it; otherwise a new one, which is put there.
    pub(super) fn get_or_insert(&mut self, key: K, keep: impl Fn(&V) -> bool, new: impl FnOnce() -> V) -> V {
        if let Some(value) = self.young.get(&key).filter(|value| keep(value)) {
            return value.clone();
        }
        let value = self.old.remove(&key).filter(|value| keep(value)).unwrap_or_else(new);
        if self.young.len() >= self.generation_entries_max && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value.clone());
        value
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
        let mut cache = Cache::new(10);
        cache.get_or_insert(0, |_| true, || "first");
        for key in 1..1000 {
            cache.get_or_insert(key, |_| true, || "filler");
            assert_eq!(cache.get_or_insert(0, |_| true, || "lost"), "first");
        }
        assert_eq!(cache.get_or_insert(1, |_| true, || "new"), "new");
    }

    #[test]
    fn what_is_not_liked_is_replaced() {
        let mut cache = Cache::new(10);
        cache.get_or_insert(0, |_| true, || 1);
        assert_eq!(cache.get_or_insert(0, |&value| value > 1, || 2), 2);
        assert_eq!(cache.get_or_insert(0, |&value| value > 1, || 3), 2);
    }

    proptest! {
        #[test]
        fn the_bound_holds(keys in proptest::collection::vec(0u16..100, 0..500), entries_max in 2usize..40) {
            let mut cache = Cache::new(entries_max);
            for key in keys {
                cache.get_or_insert(key, |_| true, || key);
                prop_assert!(cache.young.len() + cache.old.len() <= entries_max);
            }
        }
    }
}
