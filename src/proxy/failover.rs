//! Several URLs of one upstream: which a request goes to, and where it goes when that one fails.
//!
//! The first URL that is up has the request, unless another has its session. A URL is down
//! while no connection to it can be made, which is looked at beside the requests once in each
//! `probe_interval`, and while its breaker does not let requests pass; what only reads finds out
//! whether that is over. A request that fails goes on to the next URL where it could be sent
//! again at all. Where every URL is down, they are tried as if each were the only one.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{Request, Response, Uri};
use slog::Logger;

use super::error::Error;
use super::exchange::Exchange;
use super::retry::{self, Attempts};
use super::sites::Sites;
use super::{Call, Proxy, send};
use crate::auth::{Added, Ticket};
use crate::client;
use crate::config::Route;
use crate::message::RequestBody;
use crate::snapshot::Upstream;

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
    let chosen = upstream.site(sites.current());
    exchange.sites = Some(Box::new(sites));
    Ok(chosen)
}

/// The URL of `first` where a request went last.
pub fn current<'a>(first: &'a Arc<Upstream>, exchange: &Exchange) -> &'a Arc<Upstream> {
    match &exchange.sites {
        Some(sites) => first.site(sites.current()),
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
