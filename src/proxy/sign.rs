//! What a request is signed with, and whether a 401 is answered with another key, token or time.

use std::pin::pin;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use tokio::time::Instant;

use super::error::Error;
use super::exchange::Exchange;
use super::{Proxy, retry};
use crate::auth::{Ticket, Unavailable};
use crate::message::RequestBody;
use crate::snapshot::Upstream;
use crate::{client, deadline};

impl Proxy {
    /// Sends, and once more if the upstream's 401 may be answered with another key, token or time.
    ///
    /// Returns as [`Proxy::deliver`] does.
    pub(super) async fn send(
        &self,
        upstream: &Upstream,
        mut request: Request<RequestBody>,
        message: Option<&Bytes>,
        exchange: &mut Exchange,
    ) -> Result<(Response<client::Body>, HeaderMap), Error> {
        let patience = exchange.patience(upstream);
        let deadline = patience.deadline(Instant::now() - exchange.waited);
        let Some(auth) = &upstream.auth else {
            let only = self.deliver(upstream, &mut request, message, None, deadline, exchange);
            return only.await;
        };
        let now = std::time::Instant::now;
        let ready = auth.ready(request.body().whole());
        let ticket = in_time(upstream, deadline, ready).await?;
        let skew = upstream.clock.skew();
        let first = self.deliver(
            upstream,
            &mut request,
            message,
            Some(&ticket),
            deadline,
            exchange,
        );
        let (response, sent) = first.await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            auth.accepted(&ticket, now());
            return Ok((response, sent));
        }
        // The refusal itself may have told the time that it should have been signed for.
        let was_mistimed = upstream.corrects_time() && upstream.clock.has_moved_since(skew);
        let may_sign_again = was_mistimed || auth.refused(&ticket, now());
        if !may_sign_again || request.body().is_gone() {
            return Ok((response, sent));
        }
        retry::drain(response.into_body()).await;
        let ticket = if was_mistimed {
            ticket
        } else {
            in_time(upstream, deadline, auth.again(ticket)).await?
        };
        let second = self.deliver(
            upstream,
            &mut request,
            message,
            Some(&ticket),
            deadline,
            exchange,
        );
        let (response, sent) = second.await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            auth.refused(&ticket, now());
        } else {
            auth.accepted(&ticket, now());
        }
        Ok((response, sent))
    }
}

/// What a request of the proxy's own is signed with; `None` for upstreams that want nothing.
pub async fn ticket(
    upstream: &Upstream,
    request: &Request<RequestBody>,
    deadline: Instant,
) -> Result<Option<Ticket>, Error> {
    let Some(auth) = &upstream.auth else {
        return Ok(None);
    };
    let ready = auth.ready(request.body().whole());
    in_time(upstream, deadline, ready).await.map(Some)
}

/// Waits for a token, but not for ever.
async fn in_time(
    upstream: &Upstream,
    deadline: Instant,
    ticket: impl Future<Output = Result<Ticket, Unavailable>>,
) -> Result<Ticket, Error> {
    let reason = match deadline::before(deadline, pin!(ticket)).await {
        Ok(Ok(ticket)) => return Ok(ticket),
        Ok(Err(Unavailable(reason))) => reason,
        Err(_) => "none came within the request's time".to_owned(),
    };
    Err(Error::no_credential(upstream, reason))
}
