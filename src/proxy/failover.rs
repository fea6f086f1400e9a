//! Several URLs of one upstream: which a request goes to, and where it goes when that one fails.
//!
//! The first URL that is up has the request, unless another has its session. A URL is down
//! while no connection to it can be made, which is looked at beside the requests once in each
//! `probe_interval`, and while its breaker does not let requests pass; what only reads finds out
//! whether that is over. A request that fails goes on to the next URL where it could be sent
//! again at all. Where every URL is down, they are tried as if each were the only one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::HeaderValue;
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use slog::{Logger, info, warn};

use super::error::Error;
use super::exchange::Exchange;
use super::local;
use super::retry::{self, Attempts};
use super::{Call, Proxy, send};
use crate::auth::{Added, Ticket};
use crate::client;
use crate::config::{Breaker, Route};
use crate::mcp::SESSION_ID;
use crate::message::RequestBody;
use crate::path;
use crate::snapshot::{Site, Upstream};

/// The URLs that one request may go to.
pub struct Sites {
    /// In the order of the configuration, each with the request's path there.
    all: Vec<(Arc<Upstream>, PathAndQuery)>,
    /// Into `all`: which has the session, or is up, as far as known at the beginning.
    preferred: usize,
    /// Into `all`: where the request went last.
    current: usize,
    /// Which have failed it since it last waited.
    tried: Vec<bool>,
    session: Option<HeaderValue>,
}

/// The URL that a request is to be made for, of the one or several that `upstream` has.
///
/// # Errors
/// The request's path makes no URI there.
pub fn begin<'a>(
    call: &Call<'_>,
    route: &Route,
    upstream: &'a Arc<Upstream>,
    log: &Logger,
    exchange: &mut Exchange,
) -> Result<&'a Arc<Upstream>, Error> {
    if upstream.site.is_none() {
        return Ok(upstream);
    }
    let sites = Sites::of(call, route, upstream, log)?;
    let chosen = upstream.site(sites.current);
    exchange.sites = Some(Box::new(sites));
    Ok(chosen)
}

impl Sites {
    fn of(
        call: &Call<'_>,
        route: &Route,
        upstream: &Arc<Upstream>,
        log: &Logger,
    ) -> Result<Self, Error> {
        let uri = &call.head.uri;
        let all: Vec<_> = upstream
            .sites()
            .map(|site| {
                let path = site.path_for(route, uri.path(), uri.query());
                Ok((Arc::clone(site), path.ok_or(path::Refused::NotAbsolute)?))
            })
            .collect::<Result<_, Error>>()?;
        let session = call.head.headers.get(SESSION_ID).cloned();
        let now = Instant::now();
        for (site, _) in &all {
            look_again(site, now, log);
        }
        let holder = session
            .as_ref()
            .zip(upstream.site.as_ref())
            .and_then(|(session, site)| site.affinity.get(session.as_bytes()))
            .map(usize::from)
            .filter(|&holder| all.get(holder).is_some_and(|(site, _)| site.is_up()));
        let first_up = all.iter().position(|(site, _)| site.is_up());
        let preferred = holder.or(first_up).unwrap_or(0);
        Ok(Self {
            tried: vec![false; all.len()],
            all,
            preferred,
            current: preferred,
            session,
        })
    }

    /// Where the request went last.
    pub fn current(&self) -> usize {
        self.current
    }

    /// The request's path where it went last.
    pub fn path(&self) -> &PathAndQuery {
        &self.all[self.current].1
    }

    /// The request's path at the preferred URL, which stands for all of them.
    pub fn first_path(&self) -> &str {
        self.all[0].1.path()
    }

    /// The preferred URL, and the request's path at each.
    pub fn paths(&self) -> (&Upstream, Vec<PathAndQuery>) {
        let paths = self.all.iter().map(|(_, path)| path.clone());
        (&self.all[0].0, paths.collect())
    }

    /// Notes which URL has the session that was opened or used.
    pub fn note<B>(&self, response: &Response<B>) {
        let (upstream, _) = &self.all[self.current];
        let Some(site) = upstream
            .site
            .as_ref()
            .filter(|_| response.status().is_success())
        else {
            return;
        };
        let opened = response.headers().get(SESSION_ID);
        for session in [self.session.as_ref(), opened].into_iter().flatten() {
            site.affinity.set(session.as_bytes(), site.index);
        }
    }

    /// The next to try: the preferred one, then the others in their order.
    ///
    /// # Errors
    /// None may be asked; how long it makes no sense to ask again.
    fn next(&mut self, now: Instant, only_reads: impl Fn() -> bool) -> Result<usize, Duration> {
        let others = (0..self.all.len()).filter(|&index| index != self.preferred);
        let order: Vec<_> = std::iter::once(self.preferred).chain(others).collect();
        // One before it in the list may be back, which a request that only reads finds out.
        let due = (0..self.all.len()).find(|&index| {
            let (site, _) = &self.all[index];
            let breaker = site.breaker.as_ref().filter(|it| !it.is_passing());
            !self.tried[index]
                && !site.is_lost()
                && breaker.is_some_and(|it| only_reads() && it.admit(now).is_ok())
        });
        let is_next = |&index: &usize| !self.tried[index] && self.all[index].0.is_up();
        if let Some(index) = due.or_else(|| order.iter().copied().find(is_next)) {
            self.current = index;
            return Ok(index);
        }
        // All are down: each that may be asked, as if it were the only one.
        let mut least = Duration::MAX;
        let (untried, tried): (Vec<_>, Vec<_>) =
            order.into_iter().partition(|&index| !self.tried[index]);
        for index in untried.into_iter().chain(tried) {
            let breaker = self.all[index].0.breaker.as_ref();
            match breaker.map_or(Ok(()), |breaker| breaker.admit(now)) {
                Ok(()) => {
                    self.current = index;
                    return Ok(index);
                }
                Err(wait) => least = least.min(wait),
            }
        }
        Err(least)
    }

    /// Whether one has not failed the request yet that is up, or no worse than all the others.
    fn has_another(&self) -> bool {
        let is_any_up = self.all.iter().any(|(site, _)| site.is_up());
        let may = |site: &Upstream| {
            let breaker = site.breaker.as_ref();
            site.is_up() || (!is_any_up && breaker.is_none_or(|it| it.is_passing()))
        };
        let mut all = self.all.iter().zip(&self.tried);
        all.any(|((site, _), tried)| !tried && may(site))
    }
}

/// The URL of `first` where a request went last.
pub fn current<'a>(first: &'a Arc<Upstream>, exchange: &Exchange) -> &'a Arc<Upstream> {
    match &exchange.sites {
        Some(sites) => first.site(sites.current),
        None => first,
    }
}

impl Proxy {
    /// As [`Proxy::deliver`], to whichever of the upstream's URLs takes it.
    pub(super) async fn deliver_to_any(
        &self,
        request: &mut Request<RequestBody>,
        message: Option<&Bytes>,
        ticket: Option<&Ticket>,
        deadline: tokio::time::Instant,
        exchange: &mut Exchange,
        mut sites: Box<Sites>,
    ) -> Result<(Response<client::Body>, Added), Error> {
        let trying = self.try_all(request, message, ticket, deadline, exchange, &mut sites);
        let result = trying.await;
        exchange.sites = Some(sites);
        result
    }

    async fn try_all(
        &self,
        request: &mut Request<RequestBody>,
        message: Option<&Bytes>,
        ticket: Option<&Ticket>,
        mut deadline: tokio::time::Instant,
        exchange: &mut Exchange,
        sites: &mut Sites,
    ) -> Result<(Response<client::Body>, Added), Error> {
        let first = Arc::clone(&sites.all[0].0);
        let mut attempts = Attempts::new(first.config.retry.as_ref());
        if let Some(budget) = &first.budget {
            budget.request(Instant::now());
        }
        sites.tried.fill(false);
        let mut failure = None;
        loop {
            let only_reads = || retry::only_reads(&first, request.method(), message);
            let now = Instant::now();
            let index = sites.next(now, only_reads).map_err(|wait| {
                first.metrics.refusing(true);
                failure
                    .take()
                    .unwrap_or_else(|| Error::unavailable(&first, wait))
            })?;
            let (site, path) = &sites.all[index];
            exchange.signed_as(site);
            *request.uri_mut() = Uri::from(path.clone());
            attempts.begin(now);
            exchange.attempt_limit =
                send::limit(&first, &attempts, request, message, now, deadline);
            let tried = self
                .attempt(site, request, ticket, &mut deadline, exchange)
                .await;
            self.learn(site, &tried, Instant::now());
            sites.tried[index] = true;
            attempts.has_alternative = sites.has_another();
            let site = &sites.all[index].0;
            let wait = self.again(site, &mut attempts, &tried, request, message, deadline);
            let Some(wait) = wait else {
                return tried.into_result(site);
            };
            failure = tried.into_failure(site).await;
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
                sites.tried.fill(false);
            }
        }
    }
}

/// Notes that a connection was there.
pub fn reached(upstream: &Upstream, log: &Logger) {
    let Some(Site { reach, label, .. }) = &upstream.site else {
        return;
    };
    if reach.found() {
        show(upstream);
        info!(log, "a URL of an upstream can be reached again";
            "upstream" => &upstream.config.name, "url" => &**label);
    }
}

/// Notes that no connection could be made.
pub fn lost(upstream: &Upstream, cause: &str, now: Instant, log: &Logger) {
    let Some(Site { reach, label, .. }) = &upstream.site else {
        return;
    };
    if reach.lost(now) {
        show(upstream);
        warn!(log, "a URL of an upstream cannot be reached; requests go to the next that is up";
            "upstream" => &upstream.config.name, "url" => &**label, "reason" => cause);
    }
}

/// Brings the metric up to date.
pub fn show(upstream: &Upstream) {
    if let Some(site) = &upstream.site {
        upstream.metrics.url_down(&site.label, !upstream.is_up());
    }
}

/// Looks beside the requests whether a URL that was lost is back.
fn look_again(upstream: &Arc<Upstream>, now: Instant, log: &Logger) {
    let settings = upstream.config.breaker.as_ref();
    let interval =
        settings.map_or_else(|| Breaker::default().probe_interval, |it| it.probe_interval);
    let site = upstream.site.as_ref().filter(|site| site.reach.is_lost());
    if !site.is_some_and(|site| site.reach.is_due(interval, now)) {
        return;
    }
    let (upstream, log) = (Arc::clone(upstream), log.clone());
    tokio::spawn(async move { local::look(&upstream, &log).await });
}
