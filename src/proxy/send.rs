//! One request towards its upstream: signed afresh for each attempt, tried again only where that is safe.

use std::pin::pin;
use std::time::SystemTime;

use http::{HeaderMap, Request, Response};
use slog::debug;
use tokio::time::Instant;

use super::Proxy;
use super::error::Error;
use super::exchange::Exchange;
use crate::client::{self, Failure};
use crate::deadline;
use crate::message::{Progress, RequestBody};
use crate::snapshot::Upstream;

/// Attempts at finding a living connection for a request that never left.
const MAX_UNSENT_ATTEMPTS: u32 = 3;

impl Proxy {
    /// Signs and sends until an attempt may have left: from then on its fate is the answer.
    ///
    /// Returns the response and the headers it answers, which may be needed to
    /// take our signature out of what the upstream echoes.
    pub(super) async fn send(
        &self,
        upstream: &Upstream,
        mut request: Request<RequestBody>,
        exchange: &mut Exchange,
    ) -> Result<(Response<client::Body>, HeaderMap), Error> {
        let limit = upstream.config.request_timeout;
        let mut deadline = Instant::now() + limit;
        loop {
            let mut sent = HeaderMap::new();
            let upload = request.body().progress();
            exchange.attempts += 1;
            let result = {
                let signing = |request: &mut _| sent = sign(upstream, request);
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

/// Adds the credential as of now; returns what of it has to be kept out of sight.
fn sign(upstream: &Upstream, request: &mut Request<RequestBody>) -> HeaderMap {
    let mut credential = HeaderMap::new();
    if let Some(auth) = &upstream.auth {
        auth.apply(
            request.method(),
            request.uri(),
            &mut credential,
            SystemTime::now(),
        );
        for (name, value) in &credential {
            request.headers_mut().insert(name, value.clone());
        }
    }
    credential
}
