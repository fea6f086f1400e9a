//! Whose cached results are whose, and which of them are void.
//!
//! A partition is one authorization context at one upstream, or the common ground
//! for what an upstream calls public. It holds no results: those are in the
//! proxy's store, under the partition's number. A new number voids them all.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::mcp::cacheable::{Change, Kind};

/// Resources are told apart by this many generations: one that changes voids a few others.
const SLOTS: usize = 64;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// Where an upstream's results are kept.
#[derive(Clone, Default)]
pub struct Partitions {
    /// For this upstream and its present credential.
    pub private: Arc<Partition>,
    /// For every upstream at the same place, whatever its credential.
    pub public: Arc<Partition>,
}

impl Partitions {
    /// The upstream itself said so; it cannot have meant another credential's results.
    pub fn void(&self, change: &Change) {
        self.private.void(change);
        self.public.void(change);
    }

    /// Whether there has ever been something that could be void.
    pub fn are_used(&self) -> bool {
        let is_used = |partition: &Partition| partition.is_used.load(Ordering::Relaxed);
        is_used(&self.private) || is_used(&self.public)
    }

    pub fn use_them(&self) {
        self.private.is_used.store(true, Ordering::Relaxed);
        self.public.is_used.store(true, Ordering::Relaxed);
    }
}

pub struct Partition {
    /// Never used twice.
    pub number: u64,
    kinds: [AtomicU64; Kind::COUNT],
    resources: [AtomicU64; SLOTS],
    is_used: AtomicBool,
}

impl Default for Partition {
    fn default() -> Self {
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            kinds: Default::default(),
            resources: [const { AtomicU64::new(0) }; SLOTS],
            is_used: AtomicBool::new(false),
        }
    }
}

impl Partition {
    /// The generation of what is kept now. A result that was asked for in another one is void.
    pub fn generation(&self, kind: Kind, uri: Option<&str>) -> u64 {
        let of_kind = self.kinds[kind as usize].load(Ordering::Acquire);
        // Both only grow, so a sum that is the same means that neither did.
        uri.map_or(of_kind, |uri| {
            of_kind.wrapping_add(self.resources[slot(uri)].load(Ordering::Acquire))
        })
    }

    pub fn void_all(&self) {
        for kind in &self.kinds {
            kind.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn void(&self, change: &Change) {
        let kinds: &[Kind] = match change {
            Change::Tools => &[Kind::Tools],
            Change::Prompts => &[Kind::Prompts],
            // A resource that is gone from the list shall not be read on.
            Change::Resources => &[Kind::Resources, Kind::Templates, Kind::Read],
            Change::Resource(uri) => {
                self.resources[slot(uri)].fetch_add(1, Ordering::AcqRel);
                &[]
            }
        };
        for kind in kinds {
            self.kinds[*kind as usize].fetch_add(1, Ordering::AcqRel);
        }
    }
}

fn slot(uri: &str) -> usize {
    let mut hasher = DefaultHasher::new();
    uri.hash(&mut hasher);
    (hasher.finish() % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_voids_what_it_names_and_nothing_else() {
        let partition = Partition::default();
        let generation = |kind| partition.generation(kind, None);
        let resource = |uri| partition.generation(Kind::Read, Some(uri));
        let other = (0..)
            .map(|i| format!("file:///{i}"))
            .find(|uri| slot(uri) != slot("file:///a"))
            .unwrap();
        partition.void(&Change::Tools);
        partition.void(&Change::Resource("file:///a".to_owned()));
        assert_eq!((generation(Kind::Tools), generation(Kind::Prompts)), (1, 0));
        assert_eq!((resource("file:///a"), resource(&other)), (1, 0));
        partition.void(&Change::Resources);
        assert_eq!((resource("file:///a"), resource(&other)), (2, 1));
        assert_eq!(
            (generation(Kind::Templates), generation(Kind::Discover)),
            (1, 0)
        );
    }
}
