//! What one request sees: a configuration made ready for use, immutable, replaced whole on reload.

mod credential;
mod health;
mod partition;
mod refreshes;
mod router;
mod upstream;

pub use credential::Credential;
pub use health::{Health, Verdict};
pub use partition::{Partition, Partitions};
pub use refreshes::{Refreshes, Trouble};
pub use router::{Match, Router};
pub use upstream::Upstream;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use slog::Logger;

use crate::auth::Surroundings;
use crate::client::ProxyVariables;
use crate::config::{Config, ListenAddress, Listener, RateLimit};
use crate::metrics::Metrics;
use crate::resilience::rate::Rate;
use crate::secret::Secret;

pub struct Snapshot {
    pub config: Config,
    /// In the order of [`Config::upstreams`].
    pub upstreams: Vec<Arc<Upstream>>,
    /// In the order of [`Config::credentials`].
    pub credentials: Vec<Credential>,
    pub router: Router,
    /// How the programs fare that print secrets.
    pub refreshes: Arc<Refreshes>,
    /// In the order of `limits.rate`; counts outlive a reload that does not change the limit.
    pub rates: Vec<Arc<Rate>>,
    pub loaded_at: SystemTime,
    /// Listener policies by [`listener_key`].
    listeners: HashMap<u64, usize>,
}

impl Snapshot {
    /// Makes `config` ready, keeping from `previous` what has not changed: connections above all.
    ///
    /// # Errors
    /// A sentence about a credential that cannot be used; those of a configuration can, unless a
    /// secret was changed in it.
    pub fn new(
        config: Config,
        previous: Option<&Self>,
        proxies: &ProxyVariables,
        metrics: &Metrics,
        log: &Logger,
    ) -> Result<Self, String> {
        let credentials = (config.credentials.iter())
            .map(|credential| {
                let around = Surroundings {
                    proxies,
                    metrics: metrics.credential(&credential.name),
                    log,
                };
                Credential::new(credential, previous, &around)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut upstreams: Vec<Arc<Upstream>> = Vec::with_capacity(config.upstreams.len());
        for index in 0..config.upstreams.len() {
            let mut upstream =
                Upstream::new(&config, index, &credentials, previous, proxies, metrics)?;
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
        let rates = config.limits.rate.iter();
        Ok(Self {
            rates: rates.map(|limit| rate(limit, previous)).collect(),
            router: Router::new(&config),
            upstreams,
            credentials,
            refreshes: previous
                .map_or_else(Arc::default, |previous| Arc::clone(&previous.refreshes)),
            loaded_at: SystemTime::now(),
            listeners,
            config,
        })
    }

    /// The same configuration with another value for one of its secrets.
    ///
    /// # Errors
    /// As [`Snapshot::new`]: the value may be unfit for its scheme.
    pub fn with_secret(
        &self,
        old: &Secret,
        new: &Secret,
        proxies: &ProxyVariables,
        metrics: &Metrics,
        log: &Logger,
    ) -> Result<Self, String> {
        let config = self.config.with_secret(old, new);
        let mut snapshot = Self::new(config, Some(self), proxies, metrics, log)?;
        snapshot.loaded_at = self.loaded_at;
        Ok(snapshot)
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
