//! Where results are kept: bounded in bytes, shared by all event loops.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use super::kept::Kept;

/// What an entry takes beside its result, in bytes: keys, clocks, the table's slot and its ghost.
const OVERHEAD: usize = 320;
/// One result may take this part of all there is.
const MAX_SHARE: usize = 4;
/// For sizing the table; it grows with what is in it.
const TYPICAL_RESULT: usize = 4096;

/// Partition and digest: SHA-256, so that nobody can ask a question that has another's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    pub partition: u64,
    pub digest: [u8; 32],
}

#[derive(Clone)]
pub enum Entry {
    Result(Arc<Kept>),
    /// The last answer was not for keeping: until then nobody waits for somebody else's.
    Pass {
        until: Instant,
        generation: u64,
    },
}

impl Entry {
    pub fn generation(&self) -> u64 {
        match self {
            Self::Result(kept) => kept.generation,
            Self::Pass { generation, .. } => *generation,
        }
    }
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Key, Entry> for Bytes {
    fn weight(&self, _: &Key, entry: &Entry) -> u64 {
        let result = match entry {
            Entry::Result(kept) => kept.size(),
            Entry::Pass { .. } => 0,
        };
        (result + OVERHEAD) as u64
    }
}

pub struct Store {
    cache: Cache<Key, Entry, Bytes>,
    capacity: AtomicUsize,
}

impl Store {
    /// Takes up to `capacity` bytes; none are taken before there is something to keep.
    pub fn new(capacity: usize) -> Self {
        let options = OptionsBuilder::new()
            // One, or a result could be too large for its shard though there is room enough.
            .shards(1)
            .estimated_items_capacity((capacity / TYPICAL_RESULT).max(1))
            .weight_capacity(capacity as u64)
            .build()
            .expect("both capacities are given");
        let (hasher, lifecycle) = (DefaultHashBuilder::default(), DefaultLifecycle::default());
        Self {
            cache: Cache::with_options(options, Bytes, hasher, lifecycle),
            capacity: AtomicUsize::new(capacity),
        }
    }

    pub fn set_capacity(&self, capacity: usize) {
        if self.capacity.swap(capacity, Ordering::AcqRel) != capacity {
            self.cache.set_capacity(capacity as u64);
        }
    }

    /// The largest result that is taken, in bytes. 0: none is.
    pub fn largest(&self) -> usize {
        (self.capacity.load(Ordering::Acquire) / MAX_SHARE).saturating_sub(OVERHEAD)
    }

    pub fn get(&self, key: &Key) -> Option<Entry> {
        self.cache.get(key)
    }

    pub fn put(&self, key: Key, entry: Entry) {
        let is_too_large = matches!(&entry, Entry::Result(kept) if kept.size() > self.largest());
        if is_too_large || self.largest() == 0 {
            self.cache.remove(&key);
        } else {
            self.cache.insert(key, entry);
        }
    }

    pub fn remove(&self, key: &Key) {
        self.cache.remove(key);
    }

    pub fn bytes(&self) -> u64 {
        self.cache.weight()
    }

    pub fn entries(&self) -> usize {
        self.cache.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::kept::{self, Seen};
    use super::*;

    fn entry(size: usize) -> Entry {
        let message = format!(
            r#"{{"id":1,"result":{{"ttlMs":9,"x":"{}"}}}}"#,
            "a".repeat(size)
        );
        let Seen::Cacheable(cacheable) = kept::read(message.as_bytes(), "1", None) else {
            panic!("cacheable");
        };
        let now = Instant::now();
        Entry::Result(Arc::new(Kept {
            cacheable,
            fresh_until: now,
            stale_until: now,
            generation: 0,
            asker: 0,
        }))
    }

    fn key(number: u64) -> Key {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_le_bytes());
        Key {
            partition: 0,
            digest,
        }
    }

    #[test]
    fn it_never_holds_more_bytes_than_it_may_and_keeps_what_is_asked_for() {
        let store = Store::new(256 * 1024);
        for number in 0..2000 {
            store.put(key(number), entry(5000));
            store.get(&key(0));
            assert!(store.bytes() <= 256 * 1024);
        }
        assert!(store.entries() > 30, "{}", store.entries());
        assert!(store.get(&key(0)).is_some());
        store.set_capacity(64 * 1024);
        assert!(store.bytes() <= 64 * 1024 && store.entries() > 3);
        store.set_capacity(0);
        assert_eq!((store.bytes(), store.entries()), (0, 0));
        store.put(key(1), entry(1));
        assert_eq!(store.entries(), 0);
        store.set_capacity(64 * 1024);
        store.put(key(1), entry(1));
        assert_eq!(store.entries(), 1);
    }

    #[test]
    fn a_result_that_would_take_too_much_replaces_what_was_there_by_nothing() {
        let store = Store::new(64 * 1024);
        store.put(key(1), entry(100));
        store.put(key(2), entry(100));
        store.put(key(1), entry(32 * 1024));
        assert!(store.get(&key(1)).is_none());
        assert!(store.get(&key(2)).is_some());
    }
}
