//! One request towards its upstream: signed afresh for each attempt, tried again only where that is safe.

use std::pin::pin;

use http::{HeaderMap, Request, Response, StatusCode};
use slog::debug;
use tokio::time::Instant;

use super::Proxy;
use super::error::Error;
use super::exchange::Exchange;
use crate::auth::{Ticket, Unavailable};
use crate::client::{self, Failure};
use crate::deadline;
use crate::message::{Progress, RequestBody};
use crate::snapshot::Upstream;

/// Attempts at finding a living connection for a request that never left.
const MAX_UNSENT_ATTEMPTS: u32 = 3;

impl Proxy {
    /// Signs and sends, and once more if the upstream's 401 may be answered with another key or token.
    ///
    /// Returns the response and the headers it answers, which may be needed to
    /// take our signature out of what the upstream echoes.
    pub(super) async fn send(
        &self,
        upstream: &Upstream,
        request: Request<RequestBody>,
        exchange: &mut Exchange,
    ) -> Result<(Response<client::Body>, HeaderMap), Error> {
        let deadline = Instant::now() + upstream.config.request_timeout;
        let Some(auth) = &upstream.auth else {
            let only = self.deliver(upstream, request, None, exchange, deadline);
            return only.await;
        };
        let ticket = in_time(deadline, auth.ready(request.body().whole())).await;
        let ticket = ticket.map_err(|reason| Error::no_credential(upstream, reason))?;
        let copy = auth.may_sign_again().then(|| copy_of(&request)).flatten();
        let first = self.deliver(upstream, request, Some(&ticket), exchange, deadline);
        let (response, sent) = first.await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            auth.accepted(&ticket, std::time::Instant::now());
            return Ok((response, sent));
        }
        let again = auth.refused(&ticket, std::time::Instant::now());
        let (true, Some(request)) = (again, copy) else {
            return Ok((response, sent));
        };
        let ticket = in_time(deadline, auth.again(ticket)).await;
        let ticket = ticket.map_err(|reason| Error::no_credential(upstream, reason))?;
        let second = self.deliver(upstream, request, Some(&ticket), exchange, deadline);
        let (second, sent_then) = second.await?;
        if second.status() == StatusCode::UNAUTHORIZED {
            auth.refused(&ticket, std::time::Instant::now());
        } else {
            auth.accepted(&ticket, std::time::Instant::now());
        }
        Ok((second, sent_then))
    }

    /// Sends until an attempt may have left: from then on its fate is the answer.
    async fn deliver(
        &self,
        upstream: &Upstream,
        mut request: Request<RequestBody>,
        ticket: Option<&Ticket>,
        exchange: &mut Exchange,
        mut deadline: Instant,
    ) -> Result<(Response<client::Body>, HeaderMap), Error> {
        let limit = upstream.config.request_timeout;
        loop {
            let mut sent = HeaderMap::new();
            let upload = request.body().progress();
            exchange.attempts += 1;
            let result = {
                let signing = |request: &mut _| sent = upstream.sign(ticket, request);
                let mut attempt = pin!(upstream.client.send(request, signing));
                loop {
                    let before = upload.as_ref().map_or(0, Progress::frames);
                    match deadline::before(deadline, attempt.as_mut()).await {
                        Ok(result) => break result,
                        // A long upload that moves is no slow answer: the time runs from its last piece.
                        Err(_)
                            if upload
                                .as_ref()
                                .is_some_and(|upload| upload.frames() != before) =>
                        {
                            deadline = Instant::now() + limit;
                        }
                        Err(_) => return Err(Error::timeout(upstream, upload.as_ref())),
                    }
                }
            };
            match result {
                Ok(response) => {
                    if upload.is_some_and(|upload| !upload.is_done()) {
                        exchange.body_is_unread();
                    }
                    upstream.health.reached(std::time::Instant::now());
                    return Ok((response, sent));
                }
                Err(failure) => {
                    request = self.again(upstream, failure, upload.as_ref(), exchange.attempts)?;
                }
            }
        }
    }

    /// The request, if it certainly never left and another attempt makes sense.
    fn again(
        &self,
        upstream: &Upstream,
        mut failure: Box<Failure>,
        upload: Option<&Progress>,
        attempts: u32,
    ) -> Result<Request<RequestBody>, Error> {
        if let Some(error) = upload.and_then(Progress::error) {
            return Err(error.into());
        }
        let retryable = failure.kind == client::Kind::Reset && attempts < MAX_UNSENT_ATTEMPTS;
        if retryable && let Some(request) = failure.unsent.take() {
            debug!(self.log, "connection closed before the request left; trying another";
                "upstream" => &upstream.config.name);
            return Ok(request);
        }
        upstream
            .health
            .failed(failure.cause.clone(), std::time::Instant::now());
        Err(Error::of_upstream(upstream, &failure))
    }
}

/// Waits for a token, but not for ever.
async fn in_time(
    deadline: Instant,
    ticket: impl Future<Output = Result<Ticket, Unavailable>>,
) -> Result<Ticket, String> {
    let ticket = pin!(ticket);
    match deadline::before(deadline, ticket).await {
        Ok(ticket) => ticket.map_err(|Unavailable(reason)| reason),
        Err(_) => Err("none came within the upstream's request_timeout".to_owned()),
    }
}

/// The same request once more, if its body is all there.
fn copy_of(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let body = match request.body() {
        RequestBody::Full(bytes) => RequestBody::Full(bytes.clone()),
        RequestBody::Stream(_) => return None,
    };
    let mut copy = Request::new(body);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}
