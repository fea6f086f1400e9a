//! What one request sees: a configuration made ready for use, immutable, replaced whole on reload.

mod health;
mod partition;
mod router;
mod upstream;

pub use health::{Health, Verdict};
pub use partition::{Partition, Partitions};
pub use router::{Match, Router};
pub use upstream::Upstream;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::client::ProxyVariables;
use crate::config::{Config, ListenAddress, Listener, RateLimit};
use crate::metrics::{Metrics, RouteMetrics};
use crate::resilience::rate::Rate;

pub struct Snapshot {
    pub config: Config,
    /// In the order of [`Config::upstreams`].
    pub upstreams: Vec<Arc<Upstream>>,
    pub router: Router,
    /// In the order of `limits.rate`; counts outlive a reload that does not change the limit.
    pub rates: Vec<Arc<Rate>>,
    /// In the order of [`Config::routes`].
    pub route_metrics: Vec<Arc<RouteMetrics>>,
    pub loaded_at: SystemTime,
    /// Listener policies by [`listener_key`].
    listeners: HashMap<u64, usize>,
}

impl Snapshot {
    /// Makes `config` ready, keeping from `previous` what has not changed: connections above all.
    pub fn new(
        config: Config,
        previous: Option<&Self>,
        proxies: &ProxyVariables,
        metrics: &Metrics,
    ) -> Self {
        let mut upstreams: Vec<Arc<Upstream>> = Vec::with_capacity(config.upstreams.len());
        for index in 0..config.upstreams.len() {
            let mut upstream = Upstream::new(&config, index, previous, proxies, metrics);
            let before = previous.map_or(&[][..], |previous| &previous.upstreams);
            let neighbour = upstreams
                .iter()
                .chain(before)
                .find(|other| upstream.is_at_the_place_of(other));
            if let Some(neighbour) = neighbour {
                upstream.cache.public = Arc::clone(&neighbour.cache.public);
            }
            upstreams.push(Arc::new(upstream));
        }
        let listeners = config
            .listeners
            .iter()
            .enumerate()
            .map(|(index, listener)| (listener_key(&listener.address), index))
            .collect();
        let route_metrics = config.routes.iter().map(|route| {
            let upstream = &config.upstreams[route.upstream];
            metrics.route(&route.path, &upstream.name)
        });
        let route_metrics = route_metrics.collect();
        let rates = config.limits.rate.iter();
        Self {
            rates: rates.map(|limit| rate(limit, previous)).collect(),
            router: Router::new(&config),
            upstreams,
            route_metrics,
            loaded_at: SystemTime::now(),
            listeners,
            config,
        }
    }

    /// The policy of a listener, unless a reload removed it.
    pub fn listener(&self, key: u64) -> Option<&Listener> {
        self.listeners
            .get(&key)
            .map(|&index| &self.config.listeners[index])
    }

    pub fn upstream_named(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.upstreams
            .iter()
            .find(|upstream| upstream.config.name == name)
    }
}

fn rate(limit: &RateLimit, previous: Option<&Snapshot>) -> Arc<Rate> {
    let mut before = previous.into_iter().flat_map(|previous| &previous.rates);
    match before.find(|before| before.settings() == limit) {
        Some(before) => Arc::clone(before),
        None => Arc::new(Rate::new(limit.clone(), Instant::now())),
    }
}

/// Names a listener for as long as its address stays, across reloads.
pub fn listener_key(address: &ListenAddress) -> u64 {
    let mut hasher = DefaultHasher::new();
    match address {
        ListenAddress::Unix(unix) => unix.path.hash(&mut hasher),
        ListenAddress::Tcp(address) => address.hash(&mut hasher),
    }
    hasher.finish()
}
