//! One request's record: kept from its head to the end of its answer, then logged and counted, once.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, Response};
use slog::{KV, Key, Record, Serializer, info, warn};

use super::cache;
use super::error::Error;
use super::source::Source;
use super::{Proxy, answer, head, ids};
use crate::listen::Peer;
use crate::log::InOrder;
use crate::mcp::Peek;
use crate::message::Progress;
use crate::metrics::{RouteMetrics, class_of};
use crate::serve::Connection;
use crate::snapshot::Upstream;

pub struct Exchange {
    proxy: Arc<Proxy>,
    connection: Arc<Connection>,
    started: Instant,
    id: HeaderValue,
    method: Method,
    /// Without the query, which may hold what is nobody's business.
    path: Box<str>,
    mcp_method: Option<Box<str>>,
    mcp_name: Option<Box<str>>,
    upstream: Option<Arc<Upstream>>,
    route: Option<Arc<RouteMetrics>>,
    /// Where the answer came from, if it is one that may be kept.
    pub cache: Option<cache::Outcome>,
    /// Part of the request's time that went by before it was sent.
    pub waited: Duration,
    pub attempts: u32,
    /// It was sent once more, in a session that the upstream had forgotten.
    pub session_recovered: bool,
    status: u16,
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
    pub fn begin(proxy: &Arc<Proxy>, head: &Parts, connection: &Arc<Connection>) -> Self {
        Self {
            proxy: Arc::clone(proxy),
            connection: Arc::clone(connection),
            started: Instant::now(),
            id: ids::request_id(head.headers.get(head::REQUEST_ID)),
            method: head.method.clone(),
            path: head.uri.path().into(),
            mcp_method: None,
            mcp_name: None,
            upstream: None,
            route: None,
            cache: None,
            waited: Duration::ZERO,
            attempts: 0,
            session_recovered: false,
            status: 0,
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

    /// The request's body is passed on piece by piece.
    pub fn uploads(&mut self, progress: Progress) {
        self.upload = Some(progress);
    }

    pub fn carries(&mut self, message: Option<Peek<'_>>) {
        let own = |text: Option<Cow<'_, str>>| text.map(|text| Box::from(&*text));
        if let Some(Peek { method, name }) = message {
            self.mcp_method = own(method);
            self.mcp_name = own(name);
        }
    }

    /// The method of the JSON-RPC message, if the request is one.
    pub fn mcp_method(&self) -> Option<&str> {
        self.mcp_method.as_deref()
    }

    /// The client may still be sending when its answer comes.
    pub fn body_is_unread(&self) {
        self.connection.linger();
    }

    /// Notes what is answered, and gives it the request's id.
    pub fn answer(&mut self, mut response: Response<Source>) -> Response<Source> {
        self.status = response.status().as_u16();
        if let Some(upstream) = &self.upstream {
            upstream.metrics.answering(self.started.elapsed());
        }
        let headers = response.headers_mut();
        if self.attempts > 1 {
            headers.insert(answer::ATTEMPTS_HEADER, self.attempts.into());
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

    pub fn refuse(&mut self, error: &Error, mut response: Response<Source>) -> Response<Source> {
        self.code = Some(error.code.as_str());
        self.cause = error.cause.clone();
        self.proxy.metrics.proxy_error(error.code.as_str());
        if error.code.ends_connection() {
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        self.answer(response)
    }

    pub fn ended(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let duration = self.started.elapsed();
        if let Some(upstream) = &self.upstream {
            let (method, name) = (self.mcp_method.as_deref(), self.mcp_name.as_deref());
            upstream
                .metrics
                .finished(self.status, duration, method, name);
            let uploaded = self.upload.as_ref().map_or(0, Progress::bytes);
            let received = self.received + uploaded;
            upstream.metrics.moved(received, self.bytes);
            if let Some(outcome) = self.cache {
                upstream.metrics.cache_answered(outcome as usize);
            }
        }
        if let Some(route) = &self.route {
            route.count(&self.method, class_of(self.status));
        }
        let proxy = Arc::clone(&self.proxy);
        let line = AccessLine {
            exchange: self,
            duration,
        };
        // Our own refusals deserve more attention than an upstream's.
        if line.exchange.code.is_some() || line.exchange.outcome == Outcome::UpstreamCut {
            warn!(proxy.log, "request"; InOrder(line));
        } else {
            info!(proxy.log, "request"; InOrder(line));
        }
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
            Peer::Tcp(address) => {
                out.emit_arguments(Key::from("peer"), &format_args!("{address}"))?
            }
        }
        out.emit_str(Key::from("method"), exchange.method.as_str())?;
        out.emit_str(Key::from("path"), &exchange.path)?;
        if let Some(method) = &exchange.mcp_method {
            out.emit_str(Key::from("mcp_method"), method)?;
        }
        if let Some(name) = &exchange.mcp_name {
            out.emit_str(Key::from("mcp_name"), name)?;
        }
        if let Some(upstream) = &exchange.upstream {
            out.emit_str(Key::from("upstream"), &upstream.config.name)?;
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
            Outcome::ClientLeft if exchange.connection.was_aborted() => {
                out.emit_str(Key::from("outcome"), "shutdown")?;
            }
            Outcome::ClientLeft => out.emit_str(Key::from("outcome"), "client_left")?,
            Outcome::UpstreamCut => out.emit_str(Key::from("outcome"), "upstream_cut")?,
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
