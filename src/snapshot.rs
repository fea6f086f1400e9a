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
pub use upstream::{Site, Upstream};

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use slog::Logger;

use crate::auth::Surroundings;
use crate::client::ProxyVariables;
use crate::config::{self, Config, ListenAddress, Listener, RateLimit, Route};
use crate::metrics::{Metrics, RouteMetrics};
use crate::resilience::rate::Rate;
use crate::secret::Secret;

pub struct Snapshot {
    pub config: Config,
    /// In the order of [`Config::upstreams`].
    pub upstreams: Vec<Arc<Upstream>>,
    /// In the order of [`Config::credentials`].
    pub credentials: Vec<Credential>,
    /// Upstreams with another credential than their own: by upstream and credential.
    overrides: HashMap<(usize, usize), Arc<Upstream>>,
    /// Over the routes for every listener that has none of its own.
    pub router: Router,
    /// How the programs fare that print secrets.
    pub refreshes: Arc<Refreshes>,
    /// In the order of `limits.rate`; counts outlive a reload that does not change the limit.
    pub rates: Vec<Arc<Rate>>,
    /// In the order of [`Config::routes`].
    pub route_metrics: Vec<Arc<RouteMetrics>>,
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
            upstream.add_others(previous, proxies);
            upstreams.push(Arc::new(upstream));
        }
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
        let route_metrics = config.routes.iter().map(|route| {
            let upstream = &config.upstreams[route.upstream];
            metrics.route(&route.path, &upstream.name)
        });
        let route_metrics = route_metrics.collect();
        let overrides = overrides(&config, &upstreams, &credentials, previous);
        let rates = config.limits.rate.iter();
        Ok(Self {
            rates: rates.map(|limit| rate(limit, previous)).collect(),
            router: Router::new(&config, 0..config.shared_routes),
            upstreams,
            route_metrics,
            overrides,
            credentials,
            refreshes: previous
                .map_or_else(Arc::default, |previous| Arc::clone(&previous.refreshes)),
            loaded_at: SystemTime::now(),
            asks_for_programs: config.audit.is_some() || config.asks_for_programs(),
            listeners,
            restricted: restricted(&config, previous),
            config,
        })
    }

    /// The same configuration with another value for one of its secrets.
    ///
    /// # Errors
    /// As [`Snapshot::new`] and [`Config::with_secret`]: the value may be unfit for its use.
    pub fn with_secret(
        &self,
        old: &Secret,
        new: &Secret,
        proxies: &ProxyVariables,
        metrics: &Metrics,
        log: &Logger,
    ) -> Result<Self, String> {
        let config = self.config.with_secret(old, new)?;
        let mut snapshot = Self::new(config, Some(self), proxies, metrics, log)?;
        snapshot.loaded_at = self.loaded_at;
        Ok(snapshot)
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

    /// The shared one first, then those of listeners with routes of their own.
    pub fn routers(&self) -> impl Iterator<Item = &Router> {
        let own = self
            .listeners
            .values()
            .filter_map(|place| place.router.as_ref());
        std::iter::once(&self.router).chain(own)
    }

    /// An upstream with the credential of this name: its own, or one that `route` offers to clients.
    pub fn upstream_with(&self, route: &Route, credential: &str) -> Option<&Arc<Upstream>> {
        let own = &self.upstreams[route.upstream];
        let mut offered = route.credentials.iter().chain(&own.config.credential);
        let index = *offered.find(|index| self.config.credentials[**index].name == credential)?;
        if own.config.credential == Some(index) {
            return Some(own);
        }
        self.overrides.get(&(route.upstream, index))
    }

    /// The upstream with another credential than its own, if that is exactly this one.
    fn override_of(&self, upstream: &str, credential: &config::Credential) -> Option<&Upstream> {
        let mut overrides = self.overrides.iter();
        let (_, found) = overrides.find(|((of, index), _)| {
            self.config.upstreams[*of].name == upstream
                && self.config.credentials[*index] == *credential
        })?;
        Some(found)
    }

    pub fn upstream_named(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.upstreams
            .iter()
            .find(|upstream| upstream.config.name == name)
    }
}

fn overrides(
    config: &Config,
    upstreams: &[Arc<Upstream>],
    credentials: &[Credential],
    previous: Option<&Snapshot>,
) -> HashMap<(usize, usize), Arc<Upstream>> {
    let mut overrides = HashMap::new();
    for route in &config.routes {
        for &index in &route.credentials {
            let own = &upstreams[route.upstream];
            let make = || {
                let before = previous
                    .and_then(|it| it.override_of(&own.config.name, &config.credentials[index]));
                Arc::new(own.with_credential(index, &credentials[index], before))
            };
            overrides
                .entry((route.upstream, index))
                .or_insert_with(make);
        }
    }
    overrides
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
