//! One request towards its upstream: signed afresh for each attempt, tried again only where that is safe.

use std::pin::pin;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use slog::{debug, info, warn};
use tokio::time::Instant;

use super::error::Error;
use super::exchange::Exchange;
use super::patience::{Patience, given_up};
use super::retry::{self, Attempts, Why};
use super::{Proxy, reach};
use crate::auth::{Added, Ticket};
use crate::client::{self, Failure};
use crate::deadline;
use crate::message::{Progress, RequestBody};
use crate::resilience::breaker::{Access, Breaker};
use crate::resilience::clock::{Change, Reading};
use crate::snapshot::Upstream;

/// An upload that has not moved for this long may be one whose client has left unseen.
const STUCK: Duration = Duration::from_secs(1);

/// What came of an attempt.
pub(super) enum Tried {
    Answered(Response<client::Body>, Added),
    Failed(Box<Failure>),
    /// The upstream took all of its time.
    Late(Error),
    /// The client's time is over, or its body broke.
    Over(Error),
}

impl Proxy {
    /// Signs and sends until there is an answer to pass on, or no safe attempt is left.
    ///
    /// `message` is the JSON-RPC body, where it is known whole. Returns the response and the
    /// headers it answers, which may be needed to take our signature out of what the upstream
    /// echoes.
    pub(super) async fn deliver(
        &self,
        upstream: &Upstream,
        request: &mut Request<RequestBody>,
        message: Option<&Bytes>,
        ticket: Option<&Ticket>,
        mut deadline: Instant,
        exchange: &mut Exchange,
    ) -> Result<(Response<client::Body>, Added), Error> {
        if let Some(sites) = exchange.sites.take() {
            let anywhere = self.deliver_to_any(request, message, ticket, deadline, exchange, sites);
            // Boxed: its state would sit in every request's memory.
            return Box::pin(anywhere).await;
        }
        let mut attempts = Attempts::new(upstream.config.retry.as_ref());
        if let Some(budget) = &upstream.budget {
            budget.request(Instant::now().into_std());
        }
        let mut failure = None;
        loop {
            let now = Instant::now().into_std();
            if let Some(breaker) = &upstream.breaker {
                let admitted = breaker.admit(now);
                // Whoever tried hears of its own failure.
                admitted.map_err(|wait| {
                    failure
                        .take()
                        .unwrap_or_else(|| Error::unavailable(upstream, wait))
                })?;
            }
            attempts.begin(now);
            exchange.attempt_limit = limit(upstream, &attempts, request, message, now, deadline);
            let tried = self
                .attempt(upstream, request, ticket, &mut deadline, exchange)
                .await;
            self.learn(upstream, &tried, Instant::now().into_std());
            let wait = self.again(upstream, &mut attempts, &tried, request, message, deadline);
            let Some(wait) = wait else {
                return tried.into_result(upstream);
            };
            failure = tried.into_failure(upstream).await;
            tokio::time::sleep(wait).await;
        }
    }

    /// One attempt at a request of the proxy's own; see [`Proxy::send_own`].
    pub(super) async fn deliver_own(
        &self,
        upstream: &Upstream,
        request: &mut Request<RequestBody>,
        ticket: Option<&Ticket>,
        deadline: Instant,
    ) -> Result<Response<client::Body>, Error> {
        if let Some(breaker) = &upstream.breaker {
            let admitted = breaker.admit(std::time::Instant::now());
            admitted.map_err(|wait| Error::unavailable(upstream, wait))?;
        }
        let signing = |request: &mut _| drop(upstream.sign(ticket, request));
        let sending = pin!(upstream.client.send(request, signing));
        let tried = match deadline::before(deadline, sending).await {
            Ok(Ok(response)) => Tried::Answered(response, Added::default()),
            Ok(Err(failure)) => Tried::Failed(failure),
            Err(_) => Tried::Late(Error::timeout(upstream, upstream.config.request_timeout)),
        };
        self.learn(upstream, &tried, Instant::now().into_std());
        tried.into_result(upstream).map(|(response, _)| response)
    }

    pub(super) async fn attempt(
        &self,
        upstream: &Upstream,
        request: &mut Request<RequestBody>,
        ticket: Option<&Ticket>,
        deadline: &mut Instant,
        exchange: &mut Exchange,
    ) -> Tried {
        let patience = exchange.patience(upstream);
        if let Some(asked) = patience.given_up(Instant::now) {
            return Tried::Over(given_up(upstream, asked));
        }
        exchange.attempts += 1;
        let limit = exchange.attempt_limit.take();
        let mut until = limit.map(|limit| Instant::now() + limit);
        let deadline = until.as_mut().unwrap_or(deadline);
        let mut sent = Added::default();
        let upload = request.body().progress();
        let result = {
            let signing = |request: &mut _| sent = upstream.sign(ticket, request);
            let mut sending = pin!(upstream.client.send(request, signing));
            loop {
                let before = upload.as_ref().map_or(0, Progress::frames);
                let until = upload
                    .as_ref()
                    .map_or(*deadline, |_| (*deadline).min(Instant::now() + STUCK));
                match deadline::before(until, sending.as_mut()).await {
                    Ok(result) => break result,
                    // A long upload that moves is no slow answer: the time runs from its last piece.
                    Err(_)
                        if patience.given_up(Instant::now).is_none()
                            && upload
                                .as_ref()
                                .is_some_and(|upload| upload.frames() != before) =>
                    {
                        *deadline = patience.deadline(Instant::now());
                    }
                    Err(_) if Instant::now() < *deadline => exchange.connection.suspect(),
                    Err(_) => {
                        let limit = limit.unwrap_or(patience.limit);
                        return Tried::too_late(upstream, patience, limit, upload.as_ref());
                    }
                }
            }
        };
        match (result, upload) {
            (Ok(response), upload) => {
                if upload.is_some_and(|upload| !upload.is_done()) {
                    exchange.body_is_unread();
                }
                Tried::Answered(response, sent)
            }
            (Err(failure), upload) => match upload.as_ref().and_then(Progress::error) {
                Some(error) => Tried::Over(error.into()),
                None => Tried::Failed(failure),
            },
        }
    }

    /// Notes what an attempt says of the upstream's health.
    pub(super) fn learn(&self, upstream: &Upstream, tried: &Tried, now: std::time::Instant) {
        let is_well = match tried {
            Tried::Answered(response, _) => {
                upstream.health.reached(now);
                reach::reached(upstream, &self.log);
                self.compare_clocks(upstream, response.headers());
                !retry::is_outage(response.status())
            }
            Tried::Failed(failure) => {
                upstream.health.failed(failure.cause.clone(), now);
                if failure.unsent {
                    reach::lost(upstream, &failure.cause, now, &self.log);
                }
                false
            }
            Tried::Late(_) => false,
            // The client's own doing says nothing.
            Tried::Over(_) => return,
        };
        let Some(breaker) = &upstream.breaker else {
            return;
        };
        let name = &upstream.config.name;
        let url = upstream.site.as_ref().map(|site| &*site.label);
        if is_well && breaker.succeeded(now) {
            upstream.metrics.refusing(false);
            info!(self.log, "upstream answers again; requests pass"; "upstream" => name, "url" => url);
        } else if !is_well && breaker.failed(now) {
            // Of several URLs, another may still answer.
            upstream.metrics.refusing(url.is_none());
            warn!(self.log, "upstream keeps failing; requests are refused until it answers"; "upstream" => name, "url" => url);
        } else {
            return;
        }
        reach::show(upstream);
    }

    fn compare_clocks(&self, upstream: &Upstream, headers: &HeaderMap) {
        let Some(Reading { skew, change }) = upstream.clock.observe(headers, SystemTime::now())
        else {
            return;
        };
        upstream.metrics.clock_skew(skew);
        let name = &upstream.config.name;
        match change {
            Some(Change::Apart(skew)) => {
                warn!(self.log, "upstream's clock is far from this machine's; set the one that is wrong, \
                    or signatures will be refused"; "upstream" => name, "clock_skew_seconds" => skew);
            }
            Some(Change::Together) => {
                info!(self.log, "upstream's clock agrees with this machine's again"; "upstream" => name);
            }
            None => {}
        }
    }

    /// How long to wait before the request is sent again, if that is safe, timely and within the budget.
    pub(super) fn again(
        &self,
        upstream: &Upstream,
        attempts: &mut Attempts<'_>,
        tried: &Tried,
        request: &Request<RequestBody>,
        message: Option<&Bytes>,
        deadline: Instant,
    ) -> Option<Duration> {
        if request.body().is_gone() {
            return None;
        }
        let only_reads = || retry::only_reads(upstream, request.method(), message);
        let why = match tried {
            Tried::Answered(response, _) => {
                // A rate limit is the tenant's, whichever URL it is reached by.
                attempts.has_alternative &= response.status() != StatusCode::TOO_MANY_REQUESTS;
                Why::of_answer(response, SystemTime::now, only_reads)?
            }
            // Whatever is wrong here, a certificate for one, need not be wrong there.
            Tried::Failed(failure) if attempts.has_alternative && failure.unsent => Why::Unsent,
            Tried::Failed(failure) => Why::of_failure(failure, only_reads)?,
            // Its attempt was given up, and not the request.
            Tried::Late(_) if Instant::now() < deadline && only_reads() => Why::Reads,
            Tried::Late(_) | Tried::Over(_) => return None,
        };
        let is_refused = |breaker: &Breaker| breaker.access() != Access::Passing;
        if !attempts.has_alternative && upstream.breaker.as_deref().is_some_and(is_refused) {
            return None;
        }
        let now = Instant::now();
        let left = deadline.saturating_duration_since(now);
        let wait = attempts.wait(why, now.into_std(), left)?;
        // What never left costs the upstream nothing.
        if why != Why::Unsent && !upstream.budget.as_ref()?.retry(now.into_std()) {
            upstream.metrics.retry("over_budget");
            return None;
        }
        upstream.metrics.retry(why.as_str());
        debug!(self.log, "trying again"; "upstream" => &upstream.config.name,
            "why" => why.as_str(), "wait_ms" => wait.as_millis() as u64);
        Some(wait)
    }
}

/// How long the next attempt may take, if that is less than its request: a body that streams goes
/// out once, and what does more than read may have been done.
pub(super) fn limit(
    upstream: &Upstream,
    attempts: &Attempts<'_>,
    request: &Request<RequestBody>,
    message: Option<&Bytes>,
    now: std::time::Instant,
    deadline: Instant,
) -> Option<Duration> {
    let may_repeat = || {
        request.body().progress().is_none()
            && retry::only_reads(upstream, request.method(), message)
    };
    attempts.limit(now, deadline.into_std(), may_repeat)
}

impl Tried {
    /// Whose fault it is that no answer came in time.
    fn too_late(
        upstream: &Upstream,
        patience: Patience,
        limit: Duration,
        upload: Option<&Progress>,
    ) -> Self {
        if let Some(error) = upload.and_then(Progress::error) {
            return Self::Over(error.into());
        }
        match patience.given_up(Instant::now) {
            Some(asked) => Self::Over(given_up(upstream, asked)),
            None => Self::Late(Error::timeout(upstream, limit)),
        }
    }

    /// What it is told as if no further attempt can be made. An answer is read to its end, and forgotten.
    pub(super) async fn into_failure(self, upstream: &Upstream) -> Option<Error> {
        match self {
            Self::Answered(response, _) => {
                retry::drain(response.into_body()).await;
                None
            }
            Self::Failed(failure) => Some(Error::of_upstream(upstream, &failure)),
            Self::Late(error) | Self::Over(error) => Some(error),
        }
    }

    pub(super) fn into_result(
        self,
        upstream: &Upstream,
    ) -> Result<(Response<client::Body>, Added), Error> {
        match self {
            Self::Answered(response, sent) => Ok((response, sent)),
            Self::Failed(failure) => Err(Error::of_upstream(upstream, &failure)),
            Self::Late(error) | Self::Over(error) => Err(error),
        }
    }
}
