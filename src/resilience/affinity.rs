//! Which of several places has something: bounded, and the longest unused is forgotten first.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, PoisonError};

/// Keys that are remembered for sure; up to twice as many may be.
const GENERATION: usize = 8 * 1024;

#[derive(Default)]
pub struct Affinity {
    /// Keys are hashed with a secret: they may be secrets, and nobody can choose one like another's.
    keys: RandomState,
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    young: HashMap<u64, u8>,
    old: HashMap<u64, u8>,
}

impl Affinity {
    pub fn get(&self, key: impl Hash) -> Option<u8> {
        let key = self.keys.hash_one(key);
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = places.young.get(&key) {
            return Some(*place);
        }
        let place = places.old.remove(&key)?;
        places.put(key, place);
        Some(place)
    }

    pub fn set(&self, key: impl Hash, place: u8) {
        let key = self.keys.hash_one(key);
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.put(key, place);
    }
}

impl Places {
    fn put(&mut self, key: u64, place: u8) {
        if self.young.len() >= GENERATION && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
        let affinity = Affinity::default();
        affinity.set("used", 1);
        affinity.set("unused", 2);
        for number in 0..4 * GENERATION {
            affinity.set(number, 0);
            assert_eq!(affinity.get("used"), Some(1));
        }
        assert_eq!(affinity.get("unused"), None);
        let places = affinity.places.lock().unwrap();
        assert!(places.young.len() + places.old.len() <= 2 * GENERATION);
    }

    #[test]
    fn the_last_word_counts() {
        let affinity = Affinity::default();
        affinity.set("s", 0);
        affinity.set("s", 1);
        assert_eq!(affinity.get("s"), Some(1));
        assert_eq!(affinity.get("t"), None);
    }
}
