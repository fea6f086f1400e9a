//! An upstream ready for use.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use http::uri::PathAndQuery;
use http::{HeaderValue, Request};
use tokio::sync::Semaphore;

use super::{Credential, Health, Partitions, Snapshot};
use crate::auth::{Added, Auth, Ticket, Unsigned};
use crate::client::{Client, ProxyVariables};
use crate::config::{self, ClockSource, Config, Route, TargetPath};
use crate::mcp::params::Catalog;
use crate::metrics::{Metrics, UpstreamMetrics};
use crate::path;
use crate::resilience::affinity::Affinity;
use crate::resilience::annotations::Annotations;
use crate::resilience::breaker::Breaker;
use crate::resilience::budget::Budget;
use crate::resilience::clock::Clock;
use crate::resilience::reach::Reach;

pub struct Upstream {
    pub config: config::Upstream,
    pub auth: Option<Arc<Auth>>,
    pub client: Arc<Client>,
    pub health: Arc<Health>,
    pub clock: Arc<Clock>,
    /// What its listings told of its tools.
    pub catalog: Arc<Mutex<Catalog>>,
    /// Kept on reload while their settings and the way to the upstream stay.
    pub breaker: Option<Arc<Breaker>>,
    pub budget: Option<Arc<Budget>>,
    pub gate: Option<Arc<Gate>>,
    /// What its tools say of themselves.
    pub tools: Arc<Annotations>,
    pub metrics: Arc<UpstreamMetrics>,
    /// Since when the present credential is in use.
    pub credential_since: SystemTime,
    /// The fixed header's value, ready to send.
    pub session: Option<HeaderValue>,
    pub cache: Partitions,
    /// Where its requests go while its own URL is down, in this order: the same upstream at
    /// another URL, with a way there, a health and a breaker of its own. They have no others.
    pub others: Vec<Arc<Upstream>>,
    /// What several URLs have; `None` where there is one.
    pub site: Option<Site>,
    /// The first URL's health: what belongs to all of the URLs hangs on it.
    pub anchor: Arc<Health>,
}

/// One URL of several.
#[derive(Clone)]
pub struct Site {
    /// 0 is preferred.
    pub index: u8,
    /// The URL, for people.
    pub label: Arc<str>,
    pub reach: Arc<Reach>,
    /// Which URL has which session.
    pub affinity: Arc<Affinity>,
}

impl Upstream {
    /// # Errors
    /// A sentence about a session header's value that cannot be one.
    pub fn new(
        config: &Config,
        index: usize,
        credentials: &[Credential],
        previous: Option<&Snapshot>,
        proxies: &ProxyVariables,
        metrics: &Metrics,
    ) -> Result<Self, String> {
        let upstream = config.upstreams[index].clone();
        let before = previous.and_then(|previous| previous.upstream_named(&upstream.name));
        let kept_client = before.filter(|before| before.client.fits(&upstream, proxies));
        let kept_credential = previous
            .zip(before)
            .filter(|(previous, before)| {
                credential(&previous.config, &before.config) == credential(config, &upstream)
            })
            .map(|(_, before)| before);
        let metrics = metrics.upstream(&upstream.name);
        let session = upstream.session.as_ref().map(session_value).transpose();
        let credential = upstream.credential.map(|index| &credentials[index]);
        let health = kept_client
            .and(kept_credential)
            .map_or_else(Arc::default, |before| Arc::clone(&before.health));
        Ok(Self {
            auth: credential.map(|credential| Arc::clone(&credential.auth)),
            client: kept_client.map_or_else(
                || Arc::new(Client::new(&upstream, proxies).counted_in(&metrics)),
                |before| Arc::clone(&before.client),
            ),
            site: site(&upstream, 0, kept_client, before),
            others: Vec::new(),
            anchor: Arc::clone(&health),
            health,
            clock: kept_client.map_or_else(Arc::default, |before| Arc::clone(&before.clock)),
            catalog: kept_client
                .and(kept_credential)
                .map_or_else(Arc::default, |before| Arc::clone(&before.catalog)),
            breaker: breaker(&upstream, kept_client),
            budget: budget(&upstream, kept_client),
            gate: gate(&upstream, before),
            tools: kept_client.map_or_else(Arc::default, |before| Arc::clone(&before.tools)),
            metrics,
            credential_since: credential.map_or_else(SystemTime::now, |it| it.since),
            session: session.map_err(|reason| format!("upstream {}: {reason}", upstream.name))?,
            cache: kept_credential
                .filter(|before| before.config == upstream)
                .map_or_else(Partitions::default, |before| before.cache.clone()),
            config: upstream,
        })
    }

    /// Adds the other URLs of its configuration.
    pub fn add_others(&mut self, previous: Option<&Snapshot>, proxies: &ProxyVariables) {
        let before = previous.and_then(|previous| previous.upstream_named(&self.config.name));
        let others = (1..).zip(&self.config.others);
        self.others = others
            .map(|(index, target)| Arc::new(self.at(index, target, before, proxies)))
            .collect();
        let urls = |upstream: &Self| {
            let others = upstream.others.iter().filter_map(|it| it.site.clone());
            upstream.site.iter().cloned().chain(others).collect()
        };
        let now: Vec<Site> = urls(self);
        let gone: Vec<Site> = before.map(|before| urls(before)).unwrap_or_default();
        for Site { label, .. } in gone {
            if !now.iter().any(|site| site.label == label) {
                self.metrics.forget_url(&label);
            }
        }
        for Site { label, reach, .. } in now {
            self.metrics.url_down(&label, reach.is_lost());
        }
    }

    fn at(
        &self,
        index: u8,
        target: &config::Target,
        before: Option<&Arc<Upstream>>,
        proxies: &ProxyVariables,
    ) -> Self {
        let config = config::Upstream {
            target: target.clone(),
            ..self.config.clone()
        };
        let kept = before
            .into_iter()
            .flat_map(|before| before.sites())
            .find(|before| before.client.fits(&config, proxies));
        let health = kept.map_or_else(Arc::default, |before| Arc::clone(&before.health));
        Self {
            client: kept.map_or_else(
                || Arc::new(Client::new(&config, proxies)),
                |before| Arc::clone(&before.client),
            ),
            health,
            clock: kept.map_or_else(Arc::default, |before| Arc::clone(&before.clock)),
            breaker: breaker(&config, kept),
            site: self.site.as_ref().map(|first| Site {
                affinity: Arc::clone(&first.affinity),
                ..new_site(target, index, kept)
            }),
            config,
            ..self.shared()
        }
    }

    /// The same once more, with all that it has in common with others of itself.
    fn shared(&self) -> Self {
        Self {
            config: self.config.clone(),
            auth: self.auth.clone(),
            client: Arc::clone(&self.client),
            health: Arc::clone(&self.health),
            clock: Arc::clone(&self.clock),
            catalog: Arc::clone(&self.catalog),
            breaker: self.breaker.clone(),
            budget: self.budget.clone(),
            gate: self.gate.clone(),
            tools: Arc::clone(&self.tools),
            metrics: Arc::clone(&self.metrics),
            credential_since: self.credential_since,
            session: self.session.clone(),
            cache: self.cache.clone(),
            others: Vec::new(),
            site: self.site.clone(),
            anchor: Arc::clone(&self.anchor),
        }
    }

    /// When the token ends that its credential was given, if it has one that does.
    pub fn token_expiry(&self, now: Instant, wall: SystemTime) -> Option<SystemTime> {
        let left = self.auth.as_ref()?.standing(now).token_expires_in?;
        wall.checked_add(Duration::from_secs(left))
    }

    /// All of its URLs, the preferred first.
    pub fn sites(self: &Arc<Self>) -> impl Iterator<Item = &Arc<Self>> {
        std::iter::once(self).chain(&self.others)
    }

    /// The URL with this index; the first if there is none.
    pub fn site(self: &Arc<Self>, index: usize) -> &Arc<Self> {
        let other = index.checked_sub(1).and_then(|at| self.others.get(at));
        other.unwrap_or(self)
    }

    /// Whether no connection to this URL of several could be made.
    pub fn is_lost(&self) -> bool {
        let site = self.site.as_ref();
        site.is_some_and(|site| site.reach.is_lost())
    }

    /// Whether requests may go there, as far as known.
    pub fn is_up(&self) -> bool {
        let breaker = self.breaker.as_ref();
        !self.is_lost() && breaker.is_none_or(|breaker| breaker.is_passing())
    }

    /// The same place by another credential: the way there is shared, and nothing that was
    /// learned or kept under the first. `before` is the same of the snapshot before.
    pub fn with_credential(
        &self,
        index: usize,
        credential: &Credential,
        before: Option<&Self>,
    ) -> Self {
        let config = config::Upstream {
            credential: Some(index),
            ..self.config.clone()
        };
        let kept = before.filter(|before| Arc::ptr_eq(&before.client, &self.client));
        let kept_cache = kept.filter(|before| before.config == config);
        let health = kept.map_or_else(Arc::default, |before| Arc::clone(&before.health));
        let anchor = kept.map_or_else(|| Arc::clone(&health), |before| Arc::clone(&before.anchor));
        let catalog = kept.map_or_else(Arc::default, |before| Arc::clone(&before.catalog));
        let tools = kept.map_or_else(Arc::default, |before| Arc::clone(&before.tools));
        let cache = Partitions {
            public: Arc::clone(&self.cache.public),
            ..kept_cache.map_or_else(Partitions::default, |before| before.cache.clone())
        };
        let with = |site: &Self, health: Arc<Health>, others| Self {
            auth: Some(Arc::clone(&credential.auth)),
            anchor: Arc::clone(&anchor),
            health,
            catalog: Arc::clone(&catalog),
            tools: Arc::clone(&tools),
            credential_since: credential.since,
            cache: cache.clone(),
            others,
            config: config::Upstream {
                credential: Some(index),
                ..site.config.clone()
            },
            ..site.shared()
        };
        let others = self.others.iter().map(|other| {
            let mut before = kept.into_iter().flat_map(|before| &before.others);
            let kept = before.find(|before| Arc::ptr_eq(&before.client, &other.client));
            let health = kept.map_or_else(Arc::default, |before| Arc::clone(&before.health));
            Arc::new(with(other, health, Vec::new()))
        });
        with(self, Arc::clone(&health), others.collect())
    }

    /// Adds the credential as of now; returns what has to be kept out of sight: it, and the fixed
    /// session header.
    ///
    /// `ticket` is this upstream's own, if it has a credential.
    pub fn sign<B>(&self, ticket: Option<&Ticket>, request: &mut Request<B>) -> Added {
        let mut sent = self.sign_only(ticket, request);
        if let (Some(config), Some(value)) = (&self.config.session, &self.session) {
            sent.insert(config.name.clone(), value.clone());
        }
        sent
    }

    fn sign_only<B>(&self, ticket: Option<&Ticket>, request: &mut Request<B>) -> Added {
        let (Some(auth), Some(ticket)) = (&self.auth, ticket) else {
            return Added::default();
        };
        let unsigned = Unsigned {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            target: &self.config.target,
        };
        let credential = auth.sign(ticket, &unsigned, self.time(SystemTime::now()));
        for (name, value) in credential.iter() {
            request.headers_mut().insert(name, value.clone());
        }
        credential
    }

    /// Whether signatures are made for the upstream's time instead of ours.
    pub fn corrects_time(&self) -> bool {
        self.config.clock == ClockSource::Upstream
    }

    fn time(&self, now: SystemTime) -> SystemTime {
        if self.corrects_time() {
            self.clock.at_upstream(now)
        } else {
            now
        }
    }

    /// Whether this and `other` send to the same servers, and believe the same certificates.
    pub fn is_at_the_place_of(&self, other: &Self) -> bool {
        let place = |upstream: &Self| {
            let config::Target {
                scheme,
                authority,
                unix,
                path: _,
            } = &upstream.config.target;
            (scheme.clone(), authority.clone(), unix.clone())
        };
        place(self) == place(other)
            && self.config.others == other.config.others
            && self.config.tls == other.config.tls
    }

    /// Where a request goes: the raw path and query for the wire. `None` if it does not make a URI.
    pub fn path_for(&self, route: &Route, raw: &str, query: Option<&str>) -> Option<PathAndQuery> {
        let base = match &self.config.target.path {
            TargetPath::Endpoint(endpoint) => return with_query(endpoint, query),
            TargetPath::Base(base) => base,
        };
        let rest = if route.strip_prefix {
            path::after_decoded(raw, route.path.len())
        } else {
            raw
        };
        let mut path = match (base.as_str(), rest) {
            ("", "") => "/".to_owned(),
            (base, rest) => [base, rest].concat(),
        };
        if let Some(query) = query {
            path.extend(["?", query]);
        }
        PathAndQuery::try_from(path).ok()
    }
}

fn with_query(endpoint: &PathAndQuery, query: Option<&str>) -> Option<PathAndQuery> {
    match (endpoint.query(), query) {
        (_, None) => Some(endpoint.clone()),
        (None, Some(query)) => PathAndQuery::try_from(format!("{endpoint}?{query}")).ok(),
        (Some(_), Some(query)) => PathAndQuery::try_from(format!("{endpoint}&{query}")).ok(),
    }
}

fn session_value(session: &config::SessionHeader) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_bytes(session.value.expose())
        .map_err(|_| format!("the value of {} is not legal in a header", session.name))?;
    value.set_sensitive(true);
    Ok(value)
}

fn breaker(upstream: &config::Upstream, kept: Option<&Arc<Upstream>>) -> Option<Arc<Breaker>> {
    let settings = upstream.breaker.as_ref()?;
    let before = kept.and_then(|before| before.breaker.as_ref());
    Some(match before.filter(|before| before.has(settings)) {
        Some(before) => Arc::clone(before),
        None => Arc::new(Breaker::new(settings.clone())),
    })
}

/// Where requests wait for an upstream that takes few at a time.
pub struct Gate {
    pub permits: Semaphore,
    pub queued: AtomicUsize,
}

fn gate(upstream: &config::Upstream, before: Option<&Arc<Upstream>>) -> Option<Arc<Gate>> {
    let settings = upstream.concurrency?;
    let before = before.filter(|before| before.config.concurrency == Some(settings));
    Some(match before.and_then(|before| before.gate.as_ref()) {
        Some(before) => Arc::clone(before),
        None => Arc::new(Gate {
            permits: Semaphore::new(settings.requests),
            queued: AtomicUsize::new(0),
        }),
    })
}

fn budget(upstream: &config::Upstream, kept: Option<&Arc<Upstream>>) -> Option<Arc<Budget>> {
    let settings = upstream.retry.as_ref()?;
    let before = kept.filter(|before| before.config.retry.as_ref() == Some(settings));
    Some(match before.and_then(|before| before.budget.as_ref()) {
        Some(before) => Arc::clone(before),
        None => Arc::new(Budget::new(settings.budget_percent, Instant::now())),
    })
}

/// `None` where there is one URL.
fn site(
    upstream: &config::Upstream,
    index: u8,
    kept: Option<&Arc<Upstream>>,
    before: Option<&Arc<Upstream>>,
) -> Option<Site> {
    if upstream.others.is_empty() {
        return None;
    }
    // What is known of sessions counts URLs.
    let same = |before: &&Arc<Upstream>| {
        before.config.target == upstream.target && before.config.others == upstream.others
    };
    let affinity = before.filter(same).and_then(|before| before.site.as_ref());
    let mut site = new_site(&upstream.target, index, kept);
    if let Some(before) = affinity {
        site.affinity = Arc::clone(&before.affinity);
    }
    Some(site)
}

fn new_site(target: &config::Target, index: u8, kept: Option<&Arc<Upstream>>) -> Site {
    let before = kept.and_then(|before| before.site.as_ref());
    Site {
        index,
        label: target.label().into(),
        reach: before.map_or_else(Arc::default, |before| Arc::clone(&before.reach)),
        affinity: Arc::default(),
    }
}

fn credential<'a>(
    config: &'a Config,
    upstream: &config::Upstream,
) -> Option<&'a config::Credential> {
    upstream.credential.map(|index| &config.credentials[index])
}
