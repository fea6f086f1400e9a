//! One request's record: kept from its head to the end of its answer, then logged and counted, once.

mod audit;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use slog::{Drain, KV, Key, Level, Record, Serializer, debug, info, warn};

use super::cache;
use super::error::Error;
use super::patience::Patience;
use super::sites::Sites;
use super::subject::Subject;
use super::{Finished, Proxy, head, ids};
use crate::auth::{self, Added};
use crate::listen::Peer;
use crate::log::{InOrder, focused};
use crate::mcp::Peek;
use crate::message::Progress;
use crate::metrics::{RouteMetrics, class_of};
use crate::serve::Connection;
use crate::snapshot::{Snapshot, Upstream};
use crate::telemetry::{End, Trace};

/// How often a request was sent, where that was more than once.
pub const ATTEMPTS_HEADER: HeaderName = HeaderName::from_static("x-mcp-auth-proxy-attempts");

pub struct Exchange {
    proxy: Arc<Proxy>,
    snapshot: Arc<Snapshot>,
    pub(super) connection: Arc<Connection>,
    started: Instant,
    id: HeaderValue,
    method: Method,
    subject: Subject,
    upstream: Option<Arc<Upstream>>,
    /// Where it may go, if its upstream has several URLs.
    pub sites: Option<Box<Sites>>,
    route: Option<Arc<RouteMetrics>>,
    /// By which name the client proved who it is.
    pub client: Option<Arc<str>>,
    /// How long it may take; known with its route.
    pub patience: Option<Patience>,
    /// Where the answer came from, if it is one that may be kept.
    pub cache: Option<cache::Outcome>,
    /// Part of the request's time that went by before it was sent.
    pub waited: Duration,
    /// When its answer has to have begun; known once it is sent.
    pub deadline: Option<tokio::time::Instant>,
    pub attempts: u32,
    /// What the next attempt may take, if it is less than the request may.
    pub attempt_limit: Option<Duration>,
    /// It was sent once more, in a session that the upstream had forgotten.
    pub session_recovered: bool,
    status: u16,
    first_byte: Option<Duration>,
    /// Logged at `debug` because somebody has it in view.
    pub is_watched: bool,
    /// What the upstream says of an error, where it is logged.
    quote: Option<Box<Quote>>,
    trace: Option<Box<Trace>>,
    pub bytes: u64,
    /// Of the request's body, where it was read whole.
    pub received: u64,
    upload: Option<Progress>,
    code: Option<&'static str>,
    cause: Option<String>,
    outcome: Outcome,
}

/// How the answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Not yet, or never: the client left first.
    ClientLeft,
    Complete,
    /// The upstream broke its answer off; so did we.
    UpstreamCut,
}

impl Exchange {
    pub fn begin(
        proxy: &Arc<Proxy>,
        snapshot: &Arc<Snapshot>,
        head: &Parts,
        connection: &Arc<Connection>,
    ) -> Self {
        Self {
            proxy: Arc::clone(proxy),
            snapshot: Arc::clone(snapshot),
            connection: Arc::clone(connection),
            started: Instant::now(),
            id: ids::request_id(head.headers.get(head::REQUEST_ID)),
            method: head.method.clone(),
            subject: Subject::of(head.uri.path()),
            upstream: None,
            sites: None,
            route: None,
            client: None,
            patience: None,
            cache: None,
            waited: Duration::ZERO,
            deadline: None,
            attempts: 0,
            attempt_limit: None,
            session_recovered: false,
            status: 0,
            first_byte: None,
            is_watched: proxy.watches.fit(&connection.peer, head.uri.path()),
            quote: None,
            trace: proxy
                .tracing
                .get()
                .map(|_| Box::new(Trace::begin(&head.headers))),
            bytes: 0,
            received: 0,
            upload: None,
            code: None,
            cause: None,
            outcome: Outcome::ClientLeft,
        }
    }

    pub fn id(&self) -> &HeaderValue {
        &self.id
    }

    pub fn routed_to(&mut self, upstream: &Arc<Upstream>, route: &Arc<RouteMetrics>) {
        self.upstream = Some(Arc::clone(upstream));
        self.route = Some(Arc::clone(route));
    }

    /// The same upstream, perhaps by another of its route's credentials or at another of its URLs.
    pub fn signed_as(&mut self, upstream: &Arc<Upstream>) {
        self.upstream = Some(Arc::clone(upstream));
    }

    /// The request's body is passed on piece by piece.
    pub fn uploads(&mut self, progress: Progress) {
        self.upload = Some(progress);
    }

    /// When its head had come.
    pub fn since(&self) -> tokio::time::Instant {
        self.started.into()
    }

    /// How long its answer may take to begin.
    pub fn patience(&self, upstream: &Upstream) -> Patience {
        self.patience
            .unwrap_or_else(|| Patience::of_upstream(&upstream.config))
    }

    pub fn carries(&mut self, message: Option<Peek<'_>>) {
        if let Some(message) = message {
            self.subject.carries(&message);
        }
    }

    /// The method of the JSON-RPC message, if the request is one.
    pub fn mcp_method(&self) -> Option<&str> {
        self.subject.method()
    }

    /// The client may still be sending when its answer comes.
    pub fn body_is_unread(&self) {
        self.connection.linger();
    }

    /// Notes what is answered, and gives it the request's id.
    pub fn answer<B>(&mut self, mut response: Response<B>) -> Response<B> {
        self.status = response.status().as_u16();
        let after = self.started.elapsed();
        self.first_byte = Some(after);
        if let Some(upstream) = &self.upstream {
            upstream.metrics.answering(after);
        }
        let headers = response.headers_mut();
        if self.attempts > 1 {
            headers.insert(ATTEMPTS_HEADER, self.attempts.into());
        }
        headers
            .entry(head::REQUEST_ID)
            .or_insert_with(|| self.id.clone());
        if let Some(outcome) = self.cache {
            response
                .headers_mut()
                .insert(cache::HEADER, outcome.header());
        }
        response
    }

    pub fn refuse<B>(&mut self, error: &Error, mut response: Response<B>) -> Response<B> {
        // What the client reads now is ours.
        self.quote = None;
        self.code = Some(error.code.as_str());
        self.cause = error.cause.clone();
        self.proxy.metrics.proxy_error(error.code.as_str());
        self.proxy.recent.note(error, SystemTime::now());
        if error.code.ends_connection() {
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        self.answer(response)
    }

    /// Begins to keep what is behind an error, if anybody will read it.
    pub fn answered_by_upstream(&mut self, status: StatusCode, sent: &Added) {
        let log = &self.proxy.log;
        // The macro would work its values out first.
        if !self.is_watched && !log.is_enabled(Level::Debug) {
            return;
        }
        debug!(log, "upstream answers"; "request_id" => self.id.to_str().unwrap_or_default(), "status" => status.as_u16(),
            "after_ms" => self.started.elapsed().as_millis() as u64, "attempts" => self.attempts);
        if status.is_client_error() || status.is_server_error() {
            self.quote = Some(Box::new(Quote {
                sent: sent.clone(),
                text: Vec::new(),
            }));
        }
    }

    /// The request's own place in its trace, for the upstream, where spans are collected.
    pub fn traceparent(&mut self, message: Option<&[u8]>) -> Option<HeaderValue> {
        self.trace
            .as_mut()?
            .open(self.proxy.tracing.get()?, message)
    }

    fn end_trace(&mut self) {
        let (Some(trace), Some(telemetry)) = (self.trace.take(), self.proxy.tracing.get()) else {
            return;
        };
        let cut = (self.outcome != Outcome::Complete).then(|| self.outcome.word(&self.connection));
        trace.end(
            telemetry,
            &End {
                method: &self.method,
                path: self.subject.path(),
                route: self.route.as_deref().map(RouteMetrics::path),
                upstream: self.route.as_deref().map(RouteMetrics::upstream),
                mcp_method: self.subject.method(),
                mcp_name: self.subject.name(),
                is_local_socket: matches!(self.connection.peer, Peer::Unix { .. }),
                status: self.status,
                attempts: self.attempts,
                error: self.code.or(cut),
            },
        );
    }

    /// A piece of the answer passes.
    pub fn passes(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        if let Some(quote) = &mut self.quote {
            let room = MAX_QUOTE.saturating_sub(quote.text.len());
            quote
                .text
                .extend_from_slice(&piece[..piece.len().min(room)]);
        }
    }

    fn log_quote(&self) {
        let Some(quote) = &self.quote else { return };
        let text = auth::redact(&quote.sent, &String::from_utf8_lossy(&quote.text));
        debug!(self.proxy.log, "upstream says of its error"; "request_id" => self.id.to_str().unwrap_or_default(),
            "status" => self.status, "text" => text);
    }

    fn log(&self, duration: Duration) {
        let log = &self.proxy.log;
        let line = AccessLine {
            exchange: self,
            duration,
        };
        // Our own refusals deserve more attention than an upstream's.
        if self.code.is_some() || self.outcome == Outcome::UpstreamCut {
            warn!(log, "request"; InOrder(line));
        } else {
            info!(log, "request"; InOrder(line));
        }
    }

    /// For those who ask later.
    fn keep(&mut self, duration: Duration, received: u64) {
        let connection = &self.connection;
        let outcome = match self.outcome {
            Outcome::Complete => "complete",
            outcome => outcome.word(connection),
        };
        self.proxy.requests.add(Finished {
            at: self.started,
            duration,
            first_byte: self.first_byte,
            id: std::mem::replace(&mut self.id, HeaderValue::from_static("")),
            peer: connection.peer,
            method: self.method.clone(),
            subject: std::mem::take(&mut self.subject),
            route: self.route.take(),
            status: self.status,
            received,
            sent: self.bytes,
            attempts: self.attempts,
            code: self.code,
            outcome,
        });
    }

    pub fn ended(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Outcome {
    /// How it ended, if it is not complete.
    fn word(self, connection: &Connection) -> &'static str {
        match self {
            Self::UpstreamCut => "upstream_cut",
            _ if connection.was_aborted() => "shutdown",
            _ => "client_left",
        }
    }
}

/// The beginning of an upstream's error, and what must not be seen of it.
struct Quote {
    sent: Added,
    text: Vec<u8>,
}

/// How much of it is quoted, in bytes.
const MAX_QUOTE: usize = 512;

impl Drop for Exchange {
    fn drop(&mut self) {
        let duration = self.started.elapsed();
        let received = self.received + self.upload.as_ref().map_or(0, Progress::bytes);
        if let Some(upstream) = &self.upstream {
            let (method, name) = (self.subject.method(), self.subject.name());
            upstream
                .metrics
                .finished(self.status, duration, method, name);
            upstream.metrics.moved(received, self.bytes);
            if let Some(outcome) = self.cache {
                upstream.metrics.cache_answered(outcome);
            }
        }
        if let Some(route) = &self.route {
            route.count(&self.method, class_of(self.status));
        }
        self.proxy.audit.record(audit::Entry::of(self, duration));
        focused(self.is_watched, || {
            self.log_quote();
            self.log(duration);
        });
        self.end_trace();
        self.keep(duration, received);
    }
}

/// The access-log line's fields, in the order they are written.
struct AccessLine<'a> {
    exchange: &'a Exchange,
    duration: Duration,
}

impl KV for AccessLine<'_> {
    fn serialize(&self, _record: &Record<'_>, out: &mut dyn Serializer) -> slog::Result {
        let exchange = self.exchange;
        out.emit_str(
            Key::from("request_id"),
            exchange.id.to_str().unwrap_or_default(),
        )?;
        match &exchange.connection.peer {
            Peer::Unix { uid, pid, .. } => {
                out.emit_u32(Key::from("peer_uid"), *uid)?;
                if let Some(pid) = pid {
                    out.emit_i32(Key::from("peer_pid"), *pid)?;
                }
            }
            Peer::Tcp(_) => {
                let address = exchange.connection.address.as_deref();
                out.emit_str(Key::from("peer"), address.unwrap_or_default())?;
            }
        }
        if let Some(client) = &exchange.client {
            out.emit_str(Key::from("client"), client)?;
        }
        out.emit_str(Key::from("method"), exchange.method.as_str())?;
        out.emit_str(Key::from("path"), exchange.subject.path())?;
        if let Some(method) = exchange.subject.method() {
            out.emit_str(Key::from("mcp_method"), method)?;
        }
        if let Some(name) = exchange.subject.name() {
            out.emit_str(Key::from("mcp_name"), name)?;
        }
        if let Some(upstream) = &exchange.upstream {
            out.emit_str(Key::from("upstream"), &upstream.config.name)?;
            if let Some(site) = &upstream.site {
                out.emit_str(Key::from("url"), &site.label)?;
            }
        }
        if exchange.status != 0 {
            out.emit_u16(Key::from("status"), exchange.status)?;
        }
        let milliseconds = self.duration.as_micros() as f64 / 1000.0;
        out.emit_f64(Key::from("duration_ms"), milliseconds)?;
        out.emit_u64(Key::from("bytes"), exchange.bytes)?;
        out.emit_u32(Key::from("retries"), exchange.attempts.saturating_sub(1))?;
        if exchange.session_recovered {
            out.emit_str(Key::from("session"), "recovered")?;
        }
        if let Some(outcome) = exchange.cache {
            out.emit_str(Key::from("cache"), outcome.as_str())?;
        }
        match exchange.outcome {
            Outcome::Complete => {}
            outcome => {
                let word = outcome.word(&exchange.connection);
                out.emit_str(Key::from("outcome"), word)?;
            }
        }
        if let Some(code) = exchange.code {
            out.emit_str(Key::from("error_code"), code)?;
        }
        if let Some(cause) = &exchange.cause {
            out.emit_str(Key::from("cause"), cause)?;
        }
        Ok(())
    }
}
