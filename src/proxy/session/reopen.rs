//! Opening a session again: the client's own `initialize`, the comparison, `initialized`.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, Uri};
use http_body_util::BodyExt;
use slog::{info, warn};
use tokio::sync::OwnedSemaphorePermit;

use super::map::{Key, Session, Sight};
use super::opening::{Opening, Reader};
use crate::client;
use crate::deadline;
use crate::mcp::SESSION_ID;
use crate::mcp::mirror::PROTOCOL_VERSION;
use crate::message::RequestBody;
use crate::proxy::Proxy;
use crate::snapshot::Upstream;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const INITIALIZED: &[u8] = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// Why a session is not open again.
enum Lost {
    /// It may be worth another attempt.
    Failed(String),
    /// The upstream does not take the client's `initialize` any more.
    Refused(String),
    /// What was agreed would no longer hold.
    Changed,
}

/// A known session, and the way to open it again in a client's name.
#[derive(Clone)]
pub struct Known {
    pub proxy: Arc<Proxy>,
    pub key: Key,
    pub session: Arc<Session>,
}

impl Known {
    /// Opens the session again, once for all who saw it as `seen` and found it gone.
    ///
    /// `like` is the head of a request that found it gone: it says who asks, as the client
    /// would have. The upstream's new id, or `None` where the client has to learn of the loss.
    pub async fn open(
        &self,
        upstream: &Arc<Upstream>,
        seen: &Sight,
        uri: &Uri,
        like: &HeaderMap,
    ) -> Option<HeaderValue> {
        let turn = Arc::clone(&self.session.turn);
        let turn = turn.acquire_owned().await.ok()?;
        if let Some(outcome) = self.session.outcome_since(seen) {
            return outcome;
        }
        let attempt = Attempt {
            known: self.clone(),
            upstream: Arc::clone(upstream),
            uri: uri.clone(),
            headers: headers_like(like),
        };
        // Others wait for it as well: it goes on when the first of them leaves.
        tokio::spawn(attempt.run(turn)).await.ok().flatten()
    }
}

struct Attempt {
    known: Known,
    upstream: Arc<Upstream>,
    uri: Uri,
    headers: HeaderMap,
}

impl Attempt {
    async fn run(self, _turn: OwnedSemaphorePermit) -> Option<HeaderValue> {
        let outcome = self.open().await;
        let Known {
            proxy,
            key,
            session,
        } = &self.known;
        session.reopened(outcome.as_ref().ok());
        let name = &self.upstream.config.name;
        let (word, reason) = match &outcome {
            Ok(_) => ("recovered", None),
            Err(Lost::Failed(reason)) => ("failed", Some(reason.as_str())),
            Err(Lost::Refused(reason)) => ("refused", Some(reason.as_str())),
            Err(Lost::Changed) => ("changed", Some("its version or capabilities have changed")),
        };
        if matches!(&outcome, Err(Lost::Refused(_) | Lost::Changed)) {
            proxy.sessions.forget(key, session);
        }
        proxy.metrics.session_recovery(name, word);
        match reason {
            None => {
                info!(proxy.log, "the upstream forgot a session; it is open again, without what the client had set up in it"; "upstream" => name)
            }
            Some(reason) => {
                warn!(proxy.log, "the upstream forgot a session; it could not be opened again, and the client has to"; "upstream" => name, "reason" => reason);
            }
        }
        outcome.ok()
    }

    async fn open(&self) -> Result<HeaderValue, Lost> {
        let session = &self.known.session;
        let mut headers = self.headers.clone();
        let version = headers.remove(PROTOCOL_VERSION);
        let initialize = RequestBody::full(session.initialize.clone());
        let response = self.send(Method::POST, headers, initialize).await?;
        let Some(id) = response.headers().get(SESSION_ID).cloned() else {
            return Err(Lost::Changed);
        };
        let opening = self.read(response).await;
        let mut headers = self.headers.clone();
        headers.insert(SESSION_ID, id.clone());
        if let Some(version) = version {
            headers.insert(PROTOCOL_VERSION, version);
        }
        if opening? != session.opening {
            // Nobody will use it: the upstream need not wait until it expires.
            let _ = self
                .send(Method::DELETE, headers, RequestBody::empty())
                .await;
            return Err(Lost::Changed);
        }
        if session.is_initialized() {
            let initialized = RequestBody::full(INITIALIZED.into());
            self.send(Method::POST, headers, initialized).await?;
        }
        Ok(id)
    }

    async fn send(
        &self,
        method: Method,
        headers: HeaderMap,
        body: RequestBody,
    ) -> Result<Response<client::Body>, Lost> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        let sending = self.known.proxy.send_own(&self.upstream, request);
        let response = sending.await.map_err(|error| Lost::Failed(error.message))?;
        let status = response.status();
        match status {
            _ if status.is_success() => Ok(response),
            _ if status.is_client_error() => {
                Err(Lost::Refused(format!("the upstream answers {status}")))
            }
            _ => Err(Lost::Failed(format!("the upstream answers {status}"))),
        }
    }

    /// What the upstream agrees to now.
    async fn read(&self, response: Response<client::Body>) -> Result<Opening, Lost> {
        let no_answer = || Lost::Refused("the upstream's answer is none to initialize".to_owned());
        let mut reader = Reader::of(response.headers()).ok_or_else(no_answer)?;
        let mut body = response.into_body();
        let reading = pin!(async {
            loop {
                let frame = body.frame().await;
                let is_end = frame.is_none();
                let data = match frame {
                    Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                    Some(Err(error)) => return Err(Lost::Failed(error.to_string())),
                    None => bytes::Bytes::new(),
                };
                match reader.read(&data, is_end) {
                    Some(opening) => return Ok(opening),
                    None if is_end || reader.is_full() => return Err(no_answer()),
                    None => {}
                }
            }
        });
        let deadline = tokio::time::Instant::now() + self.upstream.config.request_timeout;
        deadline::before(deadline, reading)
            .await
            .unwrap_or_else(|_| Err(Lost::Failed("the answer took too long".to_owned())))
    }
}

/// The headers of a request that `like` found its session gone with, for another of the same client's.
fn headers_like(like: &HeaderMap) -> HeaderMap {
    let mut headers = like.clone();
    for name in [SESSION_ID, LAST_EVENT_ID, header::ACCEPT_ENCODING] {
        headers.remove(name);
    }
    let json = HeaderValue::from_static("application/json");
    let either = HeaderValue::from_static("application/json, text/event-stream");
    headers.insert(header::CONTENT_TYPE, json);
    headers.insert(header::ACCEPT, either);
    headers
}

/// Adds a session whose opening has been seen.
pub fn remember(
    proxy: &Proxy,
    key: Key,
    upstream: &Upstream,
    initialize: bytes::Bytes,
    opening: Opening,
) {
    let now = Instant::now();
    let session = Session::new(upstream, key.id.clone(), initialize, opening, now);
    proxy.sessions.insert(key, session, now);
}
