//! One request's record: kept from its head to the end of its answer, then logged and counted, once.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, Response};
use slog::{KV, Key, Record, Serializer, info, warn};

use super::cache;
use super::error::Error;
use super::patience::Patience;
use super::source::Source;
use super::{Proxy, answer, audit, head, ids};
use crate::listen::Peer;
use crate::log::InOrder;
use crate::mcp::Peek;
use crate::serve::Connection;
use crate::snapshot::{Snapshot, Upstream};

/// Most bytes of a path, a method or a name that are logged.
const MAX_LOGGED: usize = 1024;

pub struct Exchange {
    proxy: Arc<Proxy>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) connection: Arc<Connection>,
    started: Instant,
    pub(super) id: HeaderValue,
    pub(super) method: Method,
    /// Without the query, which may hold what is nobody's business.
    pub(super) path: Box<str>,
    pub(super) mcp_method: Option<Box<str>>,
    pub(super) mcp_name: Option<Box<str>>,
    pub(super) upstream: Option<Arc<Upstream>>,
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
    /// It was sent once more, in a session that the upstream had forgotten.
    pub session_recovered: bool,
    pub(super) status: u16,
    pub bytes: u64,
    pub(super) code: Option<&'static str>,
    pub(super) cause: Option<String>,
    pub(super) outcome: Outcome,
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
            path: clipped(head.uri.path()),
            mcp_method: None,
            mcp_name: None,
            upstream: None,
            client: None,
            patience: None,
            cache: None,
            waited: Duration::ZERO,
            deadline: None,
            attempts: 0,
            session_recovered: false,
            status: 0,
            bytes: 0,
            code: None,
            cause: None,
            outcome: Outcome::ClientLeft,
        }
    }

    pub fn id(&self) -> &HeaderValue {
        &self.id
    }

    pub fn routed_to(&mut self, upstream: &Arc<Upstream>) {
        self.upstream = Some(Arc::clone(upstream));
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
        let own = |text: Option<Cow<'_, str>>| text.map(|text| clipped(&text));
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
        self.proxy.recent.note(error, SystemTime::now());
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
            if let Some(outcome) = self.cache {
                upstream.metrics.cache_answered(outcome as usize);
            }
        }
        let proxy = Arc::clone(&self.proxy);
        proxy.audit.record(audit::Entry::of(self, duration));
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

/// What a client wrote, no longer than a log line bears.
fn clipped(text: &str) -> Box<str> {
    if text.len() <= MAX_LOGGED {
        return text.into();
    }
    let end = (0..=MAX_LOGGED).rev().find(|&at| text.is_char_boundary(at));
    format!("{}…", &text[..end.unwrap_or(0)]).into()
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
