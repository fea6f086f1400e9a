//! Cached results, and the requests that they might answer.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::{Registry, Unit};

use super::UpstreamMetrics;
use super::family::{Counters, Number, of_outcome};
use super::gauges::Gauges;

#[derive(Default)]
pub struct Families {
    requests: Counters<2>,
    bytes: Number,
    entries: Number,
}

impl Families {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "cache_requests",
            "Requests whose results may be kept, by upstream and where the answer came from",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "cache_size",
            "What cached results take",
            Unit::Bytes,
            self.bytes.clone(),
        );
        registry.register("cache_entries", "Cached results", self.entries.clone());
    }

    pub fn of(&self, upstream: &str) -> Answers {
        CacheOutcome::ALL.map(|outcome| {
            let labels = of_outcome(upstream, outcome.as_str());
            self.requests.get_or_create(&labels).clone()
        })
    }

    pub fn set(&self, now: &Gauges<'_>) {
        self.bytes.set(now.cache_bytes as i64);
        self.entries.set(now.cache_entries as i64);
    }
}

/// How a request for a cacheable result fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheOutcome {
    Hit,
    Miss,
    /// A hit on what somebody else had asked for at the same time.
    Collapsed,
    Stale,
}

impl CacheOutcome {
    const ALL: [Self; 4] = [Self::Hit, Self::Miss, Self::Collapsed, Self::Stale];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Collapsed => "collapsed",
            Self::Stale => "stale",
        }
    }
}

/// One upstream's, as in [`CacheOutcome::ALL`].
pub type Answers = [Counter; CacheOutcome::ALL.len()];

impl UpstreamMetrics {
    /// A request for a cacheable result is answered.
    pub fn cache_answered(&self, outcome: CacheOutcome) {
        self.cache[outcome as usize].inc();
    }
}
