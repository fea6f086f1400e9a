//! What one request sees: a configuration made ready for use, immutable, replaced whole on reload.

mod health;
mod router;
mod upstream;

pub use health::{Health, Verdict};
pub use router::{Match, Router};
pub use upstream::Upstream;

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::SystemTime;

use crate::client::ProxyVariables;
use crate::config::{Config, ListenAddress, Listener};
use crate::metrics::Metrics;

pub struct Snapshot {
    pub config: Config,
    /// In the order of [`Config::upstreams`].
    pub upstreams: Vec<Arc<Upstream>>,
    /// Over the routes for every listener that has none of its own.
    pub router: Router,
    pub loaded_at: SystemTime,
    /// Whether a rule or the audit asks which program a client is.
    pub asks_for_programs: bool,
    /// By [`listener_key`].
    listeners: HashMap<u64, Place>,
    /// Listeners with rules of their own, now or under a configuration before this one:
    /// what still comes in by one that was removed must not fall under the shared rules.
    restricted: HashSet<u64>,
}

struct Place {
    /// Into [`Config::listeners`].
    listener: usize,
    router: Option<Router>,
}

/// What holds where a request came in.
#[derive(Clone, Copy)]
pub struct Entrance<'a> {
    /// `None` for one that was handed over and is not in the configuration, or was removed from it.
    pub listener: Option<&'a Listener>,
    pub router: &'a Router,
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
            .map(|(index, listener)| {
                let own = listener.routes.clone();
                let router = own.map(|routes| Router::new(&config, routes));
                let place = Place {
                    listener: index,
                    router,
                };
                (listener_key(&listener.address), place)
            })
            .collect();
        Self {
            router: Router::new(&config, 0..config.shared_routes),
            upstreams,
            loaded_at: SystemTime::now(),
            asks_for_programs: config.audit.is_some() || config.asks_for_programs(),
            listeners,
            restricted: restricted(&config, previous),
            config,
        }
    }

    /// What holds for requests by the listener with this key. `None`: a reload removed it, and
    /// it had rules of its own.
    pub fn entrance(&self, key: u64) -> Option<Entrance<'_>> {
        match self.listeners.get(&key) {
            Some(place) => Some(Entrance {
                listener: Some(&self.config.listeners[place.listener]),
                router: place.router.as_ref().unwrap_or(&self.router),
            }),
            None if self.restricted.contains(&key) => None,
            None => Some(Entrance {
                listener: None,
                router: &self.router,
            }),
        }
    }

    pub fn upstream_named(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.upstreams
            .iter()
            .find(|upstream| upstream.config.name == name)
    }
}

fn restricted(config: &Config, previous: Option<&Snapshot>) -> HashSet<u64> {
    let before = previous.map(|previous| previous.restricted.clone());
    let now = config
        .listeners
        .iter()
        .filter(|listener| listener.has_rules());
    let mut restricted = before.unwrap_or_default();
    restricted.extend(now.map(|listener| listener_key(&listener.address)));
    restricted
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
