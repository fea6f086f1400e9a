//! Sessions of the revisions before 2026-07-28: opened again, for clients that need not know, where an upstream forgot them.
//!
//! A 404 to a request with a session's id says that there is no such session
//! (Streamable HTTP, "Session Management"); a 400 does in some words. The upstream looks a session up
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
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Uri};

use self::map::{Key, Owner};
use self::opening::{Opening, Reader};
use super::error::Error;
use super::exchange::Exchange;
use super::source::Source;
use super::{Call, Proxy};
use crate::auth::Added;
use crate::config::SessionRecovery;
use crate::mcp::{self, SESSION_ID, strict};
use crate::message::RequestBody;
use crate::snapshot::Upstream;
use crate::{client, deadline};

/// A longer `initialize` is passed on, and its session not known.
const MAX_INITIALIZE: usize = 64 * 1024;

/// How a 400 says that there is no such session: the examples and older versions of the official
/// SDKs answer so (TypeScript SDK, issue 389; Python SDK, issue 1727).
const GONE: [&str; 3] = [
    "no valid session id provided",
    "invalid or missing session id",
    "server not initialized",
];
/// These stand at the beginning, if anywhere.
const MAX_WORDS: usize = 1024;
const WORDS_PATIENCE: Duration = Duration::from_secs(1);

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

type Sent = (Response<client::Body>, Added);

impl Visit {
    /// Finds the session, and puts the upstream's id of it in the place of the client's.
    pub fn of(
        proxy: &Arc<Proxy>,
        call: &Call<'_>,
        upstream: &Arc<Upstream>,
        request: &mut Request<RequestBody>,
        exchange: &Exchange,
    ) -> Self {
        if upstream.config.session_recovery == SessionRecovery::Off
            || mcp::is_stateless(request.headers())
        {
            return Self::Nothing;
        }
        let sites = exchange.sites.as_ref();
        let path: &str = sites.map_or(request.uri().path(), |sites| sites.first_path());
        let path: Box<str> = path.into();
        let key = |id: HeaderValue| Key {
            owner: Owner::of(&call.connection.peer, call.client.as_ref()),
            upstream: upstream.config.name.as_str().into(),
            path: path.clone(),
            id,
        };
        let mcp_method = exchange.mcp_method();
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
        let sent = match within.again.take() {
            // Boxed: it is rare, and its state would sit in every request's memory.
            Some(again) if may_be_gone(sent.0.status()) => {
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
        let (is_gone, sent) = is_gone(sent).await;
        if !is_gone {
            return Ok(sent);
        }
        if let Some(sites) = &exchange.sites {
            head.uri = Uri::from(sites.path().clone());
        }
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
        let mut request = Request::from_parts(head, RequestBody::full(body));
        proxy
            .send(upstream, &mut request, message.as_ref(), exchange)
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

/// 404 is how an upstream says it; many say 400 instead, in [`GONE`]'s words.
fn may_be_gone(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST)
}

/// Whether the answer says that there is no such session; the answer, whole.
async fn is_gone((response, headers): Sent) -> (bool, Sent) {
    if response.status() == StatusCode::NOT_FOUND {
        return (true, (response, headers));
    }
    let (head, body) = response.into_parts();
    let (words, body) = body.peek(MAX_WORDS, WORDS_PATIENCE).await;
    let words = String::from_utf8_lossy(&words).to_ascii_lowercase();
    let is_gone = GONE.iter().any(|said| words.contains(said));
    (is_gone, (Response::from_parts(head, body), headers))
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
