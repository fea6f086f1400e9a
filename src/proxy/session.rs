//! Sessions of the revisions before 2026-07-28: opened again, for clients that need not know, where an upstream forgot them.
//!
//! A 404 to a request with a session's id says that there is no such session
//! (Streamable HTTP, "Session Management"). The upstream looks a session up
//! before it reads what is asked in it, so such a request was not carried out,
//! whatever it is: it may be sent once more. Not sent again are a client's
//! answers, for another request of the new session's might bear the same id; a
//! stream that was to be resumed, for the new session knows nothing of it; and
//! what was not kept, for it was streamed.

mod map;
mod opening;
mod reopen;

pub use map::{Sessions, Sight};
pub use opening::Watched;
pub use reopen::Known;

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};

use self::map::{Key, Owner};
use self::opening::{Opening, Reader};
use super::error::Error;
use super::exchange::Exchange;
use super::source::Source;
use super::{Call, Proxy};
use crate::config::SessionRecovery;
use crate::mcp::{self, SESSION_ID, strict};
use crate::message::RequestBody;
use crate::snapshot::Upstream;
use crate::{client, deadline};

/// A longer `initialize` is passed on, and its session not known.
const MAX_INITIALIZE: usize = 64 * 1024;

/// What a request has to do with a session that could be opened again.
pub enum Visit {
    Nothing,
    /// It opens one.
    Opening(Box<Pending>),
    /// It is made in one.
    Within(Box<Within>),
}

/// A session whose id and nature are in the answer that is under way.
pub struct Pending {
    proxy: Arc<Proxy>,
    upstream: Arc<Upstream>,
    /// Its id is not known yet.
    key: Key,
    initialize: Bytes,
}

pub struct Within {
    known: Known,
    sight: Sight,
    method: Method,
    /// It says that the client is ready.
    is_initialized: bool,
    /// The request as it may be sent once more.
    again: Option<(Parts, Bytes)>,
}

type Sent = (Response<client::Body>, HeaderMap);

impl Visit {
    /// Finds the session, and puts the upstream's id of it in the place of the client's.
    pub fn of(
        proxy: &Arc<Proxy>,
        call: &Call<'_>,
        upstream: &Arc<Upstream>,
        request: &mut Request<RequestBody>,
        mcp_method: Option<&str>,
    ) -> Self {
        if upstream.config.session_recovery == SessionRecovery::Off
            || mcp::is_stateless(request.headers())
        {
            return Self::Nothing;
        }
        let key = |id: HeaderValue| Key {
            owner: Owner::of(&call.connection.peer, call.client.as_ref()),
            upstream: upstream.config.name.as_str().into(),
            path: request.uri().path().into(),
            id,
        };
        let whole = match request.body() {
            RequestBody::Full(bytes) => Some(bytes.clone().unwrap_or_default()),
            RequestBody::Stream(_) | RequestBody::Gone => None,
        };
        if mcp_method == Some("initialize") {
            let pending = whole
                .filter(|body| body.len() <= MAX_INITIALIZE)
                .map(|body| Pending {
                    proxy: Arc::clone(proxy),
                    upstream: Arc::clone(upstream),
                    key: key(HeaderValue::from_static("")),
                    // A copy: the original may be a slice of a larger buffer.
                    initialize: Bytes::copy_from_slice(&body),
                });
            // What is compressed could not be read on its way.
            request.headers_mut().remove(header::ACCEPT_ENCODING);
            return pending.map_or(Self::Nothing, |pending| Self::Opening(Box::new(pending)));
        }
        let Some(id) = request.headers().get(SESSION_ID) else {
            return Self::Nothing;
        };
        let key = key(id.clone());
        let Some(session) = proxy.sessions.find(&key, upstream, Instant::now()) else {
            return Self::Nothing;
        };
        let sight = session.sight();
        request.headers_mut().insert(SESSION_ID, sight.id.clone());
        let proxy = Arc::clone(proxy);
        Self::Within(Box::new(Within {
            known: Known {
                proxy,
                key,
                session,
            },
            sight,
            method: request.method().clone(),
            is_initialized: mcp_method == Some("notifications/initialized"),
            again: whole
                .filter(|body| may_be_sent_again(request, body))
                .map(|body| (head_of(request), body)),
        }))
    }

    /// Looks at the answer's head; sends the request once more if its session was gone and is there again.
    ///
    /// # Errors
    /// Those of sending.
    pub async fn answered(
        &mut self,
        proxy: &Proxy,
        upstream: &Arc<Upstream>,
        sent: Sent,
        exchange: &mut Exchange,
    ) -> Result<Sent, Error> {
        let Self::Within(within) = self else {
            return Ok(sent);
        };
        let status = sent.0.status();
        let sent = match within.again.take() {
            // Boxed: it is rare, and its state would sit in every request's memory.
            Some(again) if status == StatusCode::NOT_FOUND => {
                Box::pin(within.replay(proxy, upstream, again, sent, exchange)).await?
            }
            _ => sent,
        };
        within.note(sent.0.status());
        Ok(sent)
    }

    /// The answer as the client is to see it: with its own id of the session, read on its way if it opens one.
    pub fn settle(self, response: Response<Source>) -> Response<Source> {
        match self {
            Self::Nothing => response,
            Self::Opening(pending) => pending.watch(response),
            Self::Within(within) => within.restore_id(response),
        }
    }

    /// The session that the request is made in.
    pub fn known(&self) -> Option<&Known> {
        match self {
            Self::Within(within) => Some(&within.known),
            _ => None,
        }
    }
}

impl Within {
    async fn replay(
        &mut self,
        proxy: &Proxy,
        upstream: &Arc<Upstream>,
        (mut head, body): (Parts, Bytes),
        sent: Sent,
        exchange: &mut Exchange,
    ) -> Result<Sent, Error> {
        let opening = self
            .known
            .open(upstream, &self.sight, &head.uri, &head.headers);
        // It goes on for others when this client's time is over.
        let until = exchange.deadline.unwrap_or_else(tokio::time::Instant::now);
        let opened = deadline::before(until, pin!(opening)).await;
        let Ok(Some(id)) = opened else {
            return Ok(sent);
        };
        exchange.session_recovered = true;
        head.headers.insert(SESSION_ID, id);
        let message = (head.method == Method::POST).then(|| body.clone());
        let request = Request::from_parts(head, RequestBody::full(body));
        proxy
            .send(upstream, request, message.as_ref(), exchange)
            .await
    }

    fn note(&self, status: StatusCode) {
        let Known {
            proxy,
            key,
            session,
        } = &self.known;
        let is_over = match self.method {
            Method::DELETE => status.is_success() || status == StatusCode::NOT_FOUND,
            _ => false,
        };
        if is_over {
            proxy.sessions.forget(key, session);
        }
        if self.is_initialized && status.is_success() {
            session.set_initialized();
        }
    }

    fn restore_id(self, mut response: Response<Source>) -> Response<Source> {
        if let Some(id) = response.headers_mut().get_mut(SESSION_ID) {
            *id = self.known.key.id;
        }
        response
    }
}

impl Pending {
    fn watch(mut self: Box<Self>, response: Response<Source>) -> Response<Source> {
        let id = response.headers().get(SESSION_ID);
        let (Some(id), true) = (id.cloned(), response.status().is_success()) else {
            return response;
        };
        let Some(reader) = Reader::of(response.headers()) else {
            return response;
        };
        self.key.id = id;
        response.map(|source| Source::Opening(Box::new(Watched::new(source, reader, *self))))
    }

    fn opened(self, opening: Opening) {
        reopen::remember(
            &self.proxy,
            self.key,
            &self.upstream,
            self.initialize,
            opening,
        );
    }
}

fn may_be_sent_again(request: &Request<RequestBody>, body: &[u8]) -> bool {
    match *request.method() {
        Method::POST => strict::read(body)
            .is_ok_and(|messages| messages.iter().all(|message| message.method.is_some())),
        Method::GET => !request.headers().contains_key("last-event-id"),
        _ => false,
    }
}

fn head_of(request: &Request<RequestBody>) -> Parts {
    let mut head = Request::new(()).into_parts().0;
    head.method = request.method().clone();
    head.uri = request.uri().clone();
    head.version = request.version();
    head.headers = request.headers().clone();
    head
}
