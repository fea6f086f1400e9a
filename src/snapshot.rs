//! What one request sees: a configuration made ready for use, immutable, replaced whole on reload.

mod health;
mod router;
mod upstream;

pub use health::{Health, Verdict};
pub use router::{Match, Router};
pub use upstream::Upstream;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::client::ProxyVariables;
use crate::config::{Config, ListenAddress, Listener, RateLimit};
use crate::metrics::Metrics;
use crate::resilience::rate::Rate;

pub struct Snapshot {
    pub config: Config,
    /// In the order of [`Config::upstreams`].
    pub upstreams: Vec<Arc<Upstream>>,
    pub router: Router,
    /// In the order of `limits.rate`; counts outlive a reload that does not change the limit.
    pub rates: Vec<Arc<Rate>>,
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
        let upstreams: Vec<_> = (0..config.upstreams.len())
            .map(|index| Arc::new(Upstream::new(&config, index, previous, proxies, metrics)))
            .collect();
        let listeners = config
            .listeners
            .iter()
            .enumerate()
            .map(|(index, listener)| (listener_key(&listener.address), index))
            .collect();
        let rates = config.limits.rate.iter();
        Self {
            rates: rates.map(|limit| rate(limit, previous)).collect(),
            router: Router::new(&config),
            upstreams,
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
