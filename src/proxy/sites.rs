//! The URLs of an upstream that has several, as one request sees them: which are up, and which have failed it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Response;
use http::header::HeaderValue;
use http::uri::PathAndQuery;
use slog::Logger;

use super::Call;
use super::error::Error;
use super::reach;
use crate::config::Route;
use crate::mcp::SESSION_ID;
use crate::path;
use crate::snapshot::Upstream;

/// The URLs that one request may go to.
pub struct Sites {
    /// In the order of the configuration, each with the request's path there.
    pub(super) all: Vec<(Arc<Upstream>, PathAndQuery)>,
    /// Into `all`: which has the session, or is up, as far as known at the beginning.
    preferred: usize,
    /// Into `all`: where the request went last.
    current: usize,
    /// Which have failed it since it last waited.
    pub(super) tried: Vec<bool>,
    session: Option<HeaderValue>,
}

impl Sites {
    pub(super) fn of(
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
            reach::look_again(site, now, log);
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
    pub(super) fn next(
        &mut self,
        now: Instant,
        only_reads: impl Fn() -> bool,
    ) -> Result<usize, Duration> {
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
    pub(super) fn has_another(&self) -> bool {
        let is_any_up = self.all.iter().any(|(site, _)| site.is_up());
        let may = |site: &Upstream| {
            let breaker = site.breaker.as_ref();
            site.is_up() || (!is_any_up && breaker.is_none_or(|it| it.is_passing()))
        };
        let mut all = self.all.iter().zip(&self.tried);
        all.any(|((site, _), tried)| !tried && may(site))
    }
}
