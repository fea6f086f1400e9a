//! A client's GET stream that outlives the upstream's: opened again behind the last event that was passed on.
//!
//! Only whole events are passed on, so that the client never sees the half of
//! one: what was held of an event when the stream broke is dropped, and the
//! upstream sends it again. An event too large to be held ends the recovery of
//! its stream, which then ends as the upstream's does.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName};
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode, Uri};
use slog::{debug, info};
use tokio::time::Instant;

use super::can_be_kept_alive;
use super::place::Place;
use super::right::Right;
use crate::client;
use crate::config::Target;
use crate::mcp::SESSION_ID;
use crate::message::RequestBody;
use crate::proxy::session::Known;
use crate::proxy::sites::Sites;
use crate::proxy::{Proxy, head};
use crate::snapshot::Upstream;
use crate::sse::{self, Splitter};

/// An event larger than this is not held.
const MAX_EVENT: usize = 256 * 1024;
/// Attempts in a row; with their pauses they take some four minutes.
const MAX_FAILURES: u32 = 12;
/// A stream that lived this long was no failure, though it had nothing to say.
const LONG_ENOUGH: Duration = Duration::from_secs(30);

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What it takes to open a stream again.
pub struct Reopening {
    proxy: Arc<Proxy>,
    right: Right,
    upstream: Box<str>,
    /// The preferred one.
    target: Target,
    others: Vec<Target>,
    uri: Uri,
    /// Where the stream is, and its path at each of several URLs.
    at: AtomicUsize,
    paths: Vec<PathAndQuery>,
    headers: HeaderMap,
    known: Option<Known>,
}

impl Reopening {
    pub fn of(
        right: Right,
        proxy: &Arc<Proxy>,
        upstream: &Upstream,
        request: &mut Request<RequestBody>,
        known: Option<&Known>,
    ) -> Box<Self> {
        let config = &upstream.config;
        // What is compressed could not be joined.
        request.headers_mut().remove(header::ACCEPT_ENCODING);
        // Boxed: it would sit in every request's memory.
        Box::new(Self {
            proxy: Arc::clone(proxy),
            right,
            upstream: config.name.as_str().into(),
            target: config.target.clone(),
            others: config.others.clone(),
            uri: request.uri().clone(),
            at: AtomicUsize::new(0),
            paths: Vec::new(),
            headers: request.headers().clone(),
            known: known.cloned(),
        })
    }

    /// The stream began at one of several URLs, and may go on at another when that is down.
    pub fn may_go_on_at(&mut self, sites: &Sites) {
        let (first, paths) = sites.paths();
        self.target = first.config.target.clone();
        self.paths = paths;
        *self.at.get_mut() = sites.current();
    }

    /// Where to go on now.
    fn now_at<'a>(&self, first: &'a Arc<Upstream>) -> (usize, &'a Arc<Upstream>, Uri) {
        let at = self.at.load(Ordering::Relaxed);
        let mut order = std::iter::once(at).chain(0..self.paths.len());
        let found = order.find(|&index| first.site(index).is_up());
        let index = found.unwrap_or(at);
        let path = self.paths.get(index).cloned();
        let uri = path.map_or_else(|| self.uri.clone(), Uri::from);
        (index, first.site(index), uri)
    }

    /// Tries until the stream is open, or there is no sense in trying on.
    async fn run(self: Arc<Self>, mut place: Place) -> Option<(client::Body, Place)> {
        loop {
            let pause = place.backoff.next(fastrand::f64());
            tokio::time::sleep(pause.max(place.backoff.asked().unwrap_or_default())).await;
            match self.attempt(&mut place).await {
                Attempt::Open(body) => return Some((body, place)),
                Attempt::Failed(reason) if place.backoff.failures() < MAX_FAILURES => {
                    debug!(self.proxy.log, "an event stream could not be opened again yet";
                        "upstream" => &*self.upstream, "reason" => reason);
                }
                Attempt::Failed(_) | Attempt::Refused => return None,
            }
        }
    }

    async fn attempt(&self, place: &mut Place) -> Attempt {
        // As it is now: credentials may have been replaced since, and rights withdrawn.
        let snapshot = self.proxy.snapshot();
        let is_same = |now: &&Arc<Upstream>| {
            let config = &now.config;
            let is_there = config.target == self.target && config.others == self.others;
            *config.name == *self.upstream && is_there && config.stream_recovery
        };
        let now = self.right.upstream(&snapshot).await.filter(is_same);
        let Some((index, upstream, uri)) = now.map(|first| self.now_at(first)) else {
            return Attempt::Refused;
        };
        let mut request = self.request(place);
        *request.uri_mut() = uri.clone();
        // The others are the client's, or the same for good.
        if let (Some(header), Some(value)) = (&upstream.config.session, &upstream.session) {
            let headers = request.headers_mut();
            headers.insert(header.name.clone(), value.clone());
        }
        let sight = self.known.as_ref().map(|known| known.session.sight());
        if let Some(sight) = &sight {
            let id = sight.id.clone();
            request.headers_mut().insert(SESSION_ID, id);
        }
        let response = match self.proxy.send_own(upstream, request).await {
            Ok(response) => response,
            Err(error) => return Attempt::Failed(error.message),
        };
        match (response.status(), &self.known, sight) {
            (StatusCode::OK, ..) if can_be_kept_alive(response.headers()) => {
                self.at.store(index, Ordering::Relaxed);
                Attempt::Open(response.into_body())
            }
            (StatusCode::NOT_FOUND, Some(known), Some(seen)) => {
                let opening = known.open(upstream, &seen, &uri, &self.headers);
                if opening.await.is_none() {
                    return Attempt::Refused;
                }
                // The new session knows nothing of the old one's events.
                place.last_id = None;
                Attempt::Failed("its session had to be opened again first".to_owned())
            }
            (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS, ..) => {
                Attempt::Failed(format!("the upstream answers {}", response.status()))
            }
            (status, ..) if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => {
                Attempt::Failed(format!("the upstream answers {status}"))
            }
            _ => Attempt::Refused,
        }
    }

    fn request(&self, place: &Place) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::empty());
        *request.method_mut() = Method::GET;
        *request.headers_mut() = self.headers.clone();
        let headers = request.headers_mut();
        match &place.last_id {
            Some(id) => headers.insert(LAST_EVENT_ID, id.clone()),
            None => headers.remove(LAST_EVENT_ID),
        };
        request
    }

    fn request_id(&self) -> &str {
        let id = self.headers.get(head::REQUEST_ID);
        id.and_then(|id| id.to_str().ok()).unwrap_or_default()
    }
}

enum Attempt {
    Open(client::Body),
    /// Another may succeed.
    Failed(String),
    Refused,
}

type Running = Pin<Box<dyn Future<Output = Option<(client::Body, Place)>> + Send>>;

/// One stream's recovery, from its first event to its last.
pub struct Recovery {
    reopening: Arc<Reopening>,
    splitter: Splitter,
    place: Place,
    opened: Instant,
    /// The next event is the first of a stream that was opened again.
    is_joint: bool,
    running: Option<Running>,
    /// How the upstream's stream ended: so does the client's, if it stays ended.
    end: Option<client::Broken>,
}

/// The stream stays ended: cleanly, or broken.
pub struct Gone(pub Option<client::Broken>);

/// What of the stream may go on.
pub enum Passed {
    /// Whole events; the rest is held.
    Events(Bytes),
    /// All that was held, of a stream that is not recovered any more.
    TooMuch(Bytes),
}

impl Recovery {
    pub(super) fn new(reopening: Box<Reopening>) -> Self {
        let resumed = reopening.headers.get(LAST_EVENT_ID).cloned();
        Self {
            reopening: reopening.into(),
            splitter: Splitter::default(),
            place: Place {
                last_id: resumed,
                ..Place::default()
            },
            opened: Instant::now(),
            is_joint: false,
            running: None,
            end: None,
        }
    }

    /// The events that are complete with `data`.
    pub fn pass(&mut self, data: &[u8]) -> Passed {
        self.splitter.push(data);
        let mut events = BytesMut::new();
        while let Some(event) = self.splitter.next_event() {
            self.place.note(&event);
            // In the middle of the client's stream a byte order mark would be part of a field's name.
            let is_joint = std::mem::take(&mut self.is_joint);
            let mark = event.strip_prefix(sse::BYTE_ORDER_MARK);
            events.extend_from_slice(mark.filter(|_| is_joint).unwrap_or(&event));
        }
        if self.splitter.pending() > MAX_EVENT {
            events.extend_from_slice(&self.splitter.take_pending());
            return Passed::TooMuch(events.freeze());
        }
        Passed::Events(events.freeze())
    }

    /// The upstream's stream has ended.
    pub fn begin(&mut self, end: Option<client::Broken>) {
        self.end = end;
        self.splitter = Splitter::default();
        if self.place.is_old_transport {
            return;
        }
        if self.opened.elapsed() > LONG_ENOUGH {
            self.place.backoff.reset();
        }
        let place = std::mem::take(&mut self.place);
        self.running = Some(Box::pin(Arc::clone(&self.reopening).run(place)));
    }

    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<client::Body, Gone>> {
        let Some(running) = &mut self.running else {
            return Poll::Ready(Err(Gone(self.end.take())));
        };
        let outcome = std::task::ready!(running.as_mut().poll(cx));
        self.running = None;
        let Reopening {
            proxy, upstream, ..
        } = &*self.reopening;
        let (word, log) = match &outcome {
            Some(_) => ("recovered", "an event stream was opened again"),
            None => ("failed", "an event stream could not be opened again"),
        };
        proxy.metrics.stream_recovery(upstream, word);
        info!(proxy.log, "{}", log; "upstream" => &**upstream, "of_request" => self.reopening.request_id());
        Poll::Ready(match outcome {
            Some((body, place)) => {
                self.place = place;
                self.opened = Instant::now();
                self.is_joint = true;
                self.end = None;
                Ok(body)
            }
            None => Err(Gone(self.end.take())),
        })
    }
}
