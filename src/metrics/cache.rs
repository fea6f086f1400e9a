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
        UpstreamMetrics::CACHE_OUTCOMES.map(|outcome| {
            let labels = of_outcome(upstream, outcome);
            self.requests.get_or_create(&labels).clone()
        })
    }

    pub fn set(&self, now: &Gauges<'_>) {
        self.bytes.set(now.cache_bytes as i64);
        self.entries.set(now.cache_entries as i64);
    }
}

/// One upstream's, as in [`UpstreamMetrics::CACHE_OUTCOMES`].
pub type Answers = [Counter; UpstreamMetrics::CACHE_OUTCOMES.len()];

impl UpstreamMetrics {
    /// In the order of the proxy's own enumeration of them.
    pub const CACHE_OUTCOMES: [&str; 4] = ["hit", "miss", "collapsed", "stale"];

    /// A request for a cacheable result is answered.
    pub fn cache_answered(&self, outcome: usize) {
        self.cache[outcome].inc();
    }
}
