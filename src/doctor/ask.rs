//! One request to an upstream, signed and sent as the daemon does it, and what comes back.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE, DATE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};

use super::refusal::Skew;
use crate::auth::{self, Added, Unavailable};
use crate::client::{Body, Client, Failure};
use crate::message::{RequestBody, is_media_type};
use crate::snapshot::Upstream;
use crate::sse;

const MAX_MESSAGE: usize = 1024 * 1024;
const MAX_QUOTE: usize = 300;
/// For what follows a head.
const PATIENCE: Duration = Duration::from_secs(5);

pub struct Peer<'a> {
    pub upstream: &'a Upstream,
    /// The upstream's own, or one that speaks another version of HTTP.
    pub client: &'a Client,
}

pub enum Trouble {
    Failed(Box<Failure>),
    /// No head within this.
    Late(Duration),
    /// There is nothing to sign with, such as a token that its issuer does not give.
    NoCredential(String),
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub version: Version,
    /// From asking to the head.
    pub took: Duration,
    pub skew: Skew,
    pub body: Body,
    sent: Added,
}

pub type Header = (HeaderName, String);

impl Peer<'_> {
    /// Asks as a client of MCP would: for JSON or events.
    pub async fn post(
        &self,
        path: &PathAndQuery,
        headers: &[Header],
        message: &Value,
    ) -> Result<Answer, Trouble> {
        let mut request = Request::new(RequestBody::full(Bytes::from(message.to_string())));
        *request.method_mut() = Method::POST;
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        let both = HeaderValue::from_static("application/json, text/event-stream");
        request.headers_mut().insert(ACCEPT, both);
        let patience = self.upstream.config.request_timeout;
        self.send(request, path, headers, patience).await
    }

    pub async fn bare(
        &self,
        method: Method,
        path: &PathAndQuery,
        headers: &[Header],
        patience: Duration,
    ) -> Result<Answer, Trouble> {
        let mut request = Request::new(RequestBody::empty());
        *request.method_mut() = method;
        let events = HeaderValue::from_static("text/event-stream");
        request.headers_mut().insert(ACCEPT, events);
        self.send(request, path, headers, patience).await
    }

    async fn send(
        &self,
        mut request: Request<RequestBody>,
        path: &PathAndQuery,
        headers: &[Header],
        patience: Duration,
    ) -> Result<Answer, Trouble> {
        *request.uri_mut() = Uri::from(path.clone());
        for (name, value) in headers {
            if let Ok(value) = HeaderValue::from_str(value) {
                request.headers_mut().insert(name, value);
            }
        }
        let fixed = self.upstream.config.session.as_ref();
        if let Some((header, value)) = fixed.zip(self.upstream.session.as_ref()) {
            request.headers_mut().insert(&header.name, value.clone());
        }
        let body = match request.body() {
            RequestBody::Full(bytes) => bytes.clone(),
            RequestBody::Stream(_) | RequestBody::Gone => None,
        };
        let ticket = match &self.upstream.auth {
            None => None,
            Some(auth) => match timeout(patience, auth.ready(body.as_ref())).await {
                Ok(Ok(ticket)) => Some(ticket),
                Ok(Err(Unavailable(reason))) => return Err(Trouble::NoCredential(reason)),
                Err(_) => {
                    let reason = format!("nothing came within {patience:?}");
                    return Err(Trouble::NoCredential(reason));
                }
            },
        };
        let mut sent = Added::default();
        let sign = |request: &mut Request<RequestBody>| {
            sent = self.upstream.sign(ticket.as_ref(), request);
        };
        let started = std::time::Instant::now();
        let response = match timeout(patience, self.client.send(&mut request, sign)).await {
            Ok(Ok(response)) => response,
            Ok(Err(failure)) => return Err(Trouble::Failed(failure)),
            Err(_) => return Err(Trouble::Late(patience)),
        };
        let (head, body) = response.into_parts();
        Ok(Answer {
            status: head.status,
            skew: skew(&head.headers, SystemTime::now()),
            headers: head.headers,
            version: head.version,
            took: started.elapsed(),
            body,
            sent,
        })
    }
}

impl Answer {
    pub fn is(&self, media_type: &str) -> bool {
        is_media_type(self.headers.get(CONTENT_TYPE), media_type)
    }

    /// The beginning of its body in one line that is safe to show.
    pub async fn words(mut self) -> String {
        let until = Instant::now() + PATIENCE;
        let bytes = read(&mut self.body, 4 * MAX_QUOTE, until, |_| false).await;
        let text = String::from_utf8_lossy(&bytes);
        let words = text.split(|c: char| c.is_control() || c.is_whitespace());
        let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
        let text = words.join(" ");
        let text = auth::redact(&self.sent, &text);
        text.chars().take(MAX_QUOTE).collect()
    }

    /// The JSON-RPC answer in it, whichever form it has.
    pub async fn message(mut self) -> Option<Value> {
        let until = Instant::now() + PATIENCE;
        if !self.is("text/event-stream") {
            let bytes = read(&mut self.body, MAX_MESSAGE, until, |_| false).await;
            return serde_json::from_slice(&bytes).ok().filter(is_answer);
        }
        let mut splitter = sse::Splitter::default();
        let mut found = None;
        read(&mut self.body, MAX_MESSAGE, until, |data| {
            splitter.push(data);
            while let Some(event) = splitter.next_event() {
                let message = sse::message(&event);
                let message = message.and_then(|data| serde_json::from_slice(&data).ok());
                found = found.take().or(message.filter(is_answer));
            }
            found.is_some()
        })
        .await;
        found
    }
}

fn is_answer(message: &Value) -> bool {
    message["result"].is_object() || message["error"].is_object()
}

/// Reads until the end, `most` bytes, the time, or until `enough` has seen enough.
async fn read(
    body: &mut Body,
    most: usize,
    until: Instant,
    mut enough: impl FnMut(&[u8]) -> bool,
) -> BytesMut {
    let mut bytes = BytesMut::new();
    while bytes.len() < most
        && let Ok(Some(Ok(frame))) = timeout_at(until, body.frame()).await
    {
        if let Some(data) = frame.data_ref() {
            bytes.extend_from_slice(data);
            if enough(data) {
                break;
            }
        }
    }
    bytes
}

/// How far this host's clock is ahead, by the answer's Date (RFC 9110, section 6.6.1).
fn skew(headers: &HeaderMap, now: SystemTime) -> Skew {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    Some(match now.duration_since(date) {
        Ok(ahead) => seconds(ahead),
        Err(behind) => -seconds(behind.duration()),
    })
}
