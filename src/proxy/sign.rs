//! What a request is signed with, and whether a 401 is answered with another key, token or time.

use std::pin::pin;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use tokio::time::Instant;

use super::error::Error;
use super::exchange::Exchange;
use super::{Proxy, retry};
use crate::auth::{Added, Ticket, Unavailable};
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
        request: &mut Request<RequestBody>,
        message: Option<&Bytes>,
        exchange: &mut Exchange,
    ) -> Result<(Response<client::Body>, Added), Error> {
        let patience = exchange.patience(upstream);
        // One that is sent once more, in a new session, has no more time than it had.
        let begun = || patience.deadline(Instant::now() - exchange.waited);
        let deadline = exchange.deadline.unwrap_or_else(begun);
        exchange.deadline = Some(deadline);
        let Some(auth) = &upstream.auth else {
            let only = self.deliver(upstream, request, message, None, deadline, exchange);
            return only.await;
        };
        let now = std::time::Instant::now;
        let ready = auth.ready(request.body().whole());
        let ticket = in_time(upstream, deadline, ready).await?;
        let skew = upstream.clock.skew();
        let first = self.deliver(
            upstream,
            request,
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
            request,
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

    /// One attempt at a request of the proxy's own, which belongs to a client's but is not recorded
    /// with it; and a second as for [`Proxy::send`].
    ///
    /// # Errors
    /// When there is no answer within the upstream's `request_timeout`, or none is to be expected.
    pub(super) async fn send_own(
        &self,
        upstream: &Upstream,
        mut request: Request<RequestBody>,
    ) -> Result<Response<client::Body>, Error> {
        let deadline = Instant::now() + upstream.config.request_timeout;
        let Some(auth) = &upstream.auth else {
            let only = self.deliver_own(upstream, &mut request, None, deadline);
            return only.await;
        };
        let now = std::time::Instant::now;
        let ready = auth.ready(request.body().whole());
        let mut ticket = in_time(upstream, deadline, ready).await?;
        let mut may_sign_again = auth.may_sign_again();
        loop {
            let sent = self.deliver_own(upstream, &mut request, Some(&ticket), deadline);
            let response = sent.await?;
            if response.status() != StatusCode::UNAUTHORIZED {
                auth.accepted(&ticket, now());
                return Ok(response);
            }
            let is_refused = auth.refused(&ticket, now());
            if !std::mem::take(&mut may_sign_again) || !is_refused || request.body().is_gone() {
                return Ok(response);
            }
            retry::drain(response.into_body()).await;
            ticket = in_time(upstream, deadline, auth.again(ticket)).await?;
        }
    }
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
