//! The admin socket: `/status`, `/metrics`, `/-/reload`, and the health pages.

mod report;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use slog::{Logger, debug};

use crate::guard::{self, Policy};
use crate::listen;
use crate::metrics::Gauges;
use crate::proxy;
use crate::serve::{self, Connection, Crowd, Handler, Most, Timeouts};
use crate::state::{Reloaded, State};

/// Media type of `/metrics` (OpenMetrics 1.0).
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// How long a busy event loop may take to answer.
const TURN_PATIENCE: Duration = Duration::from_secs(2);
const JSON: &str = "application/json";

pub struct Admin {
    state: Arc<State>,
    /// Apart from clients', so that neither keeps the other out.
    crowd: Arc<Crowd>,
}

/// Connections that are served at a time: each is served on the thread that everything waits for.
const MOST: Most = Most {
    at_listener: 64,
    of_peer: 64,
};

impl Admin {
    pub fn new(state: Arc<State>) -> Self {
        Self {
            state,
            crowd: Arc::default(),
        }
    }

    /// Serves one connection on the current event loop.
    pub fn serve(self: &Arc<Self>, stream: listen::Stream, log: &Logger) {
        let Ok(peer) = stream.peer() else { return };
        let Ok(counted) = self.crowd.join(0, &peer, MOST) else {
            stream.try_write(serve::TOO_MANY);
            debug!(log, "admin connection refused: there are too many"; "peer" => %peer);
            return;
        };
        let (admin, log) = (Arc::clone(self), log.clone());
        let timeouts = Timeouts::of(&self.state.proxy.snapshot().config.server);
        tokio::spawn(async move {
            let connection = Arc::new(Connection::new(peer, 0));
            let _counted = counted;
            if let Err(error) = serve::serve_here(stream, connection, timeouts, admin, &log).await {
                debug!(log, "admin connection lost"; "reason" => %error);
            }
        });
    }

    async fn route(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/status" | "/healthz" | "/readyz")
                if !self.event_loops_turn().await =>
            {
                problem(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "event_loop_hung",
                    "an event loop of the daemon does not turn; restart it",
                )
            }
            (&Method::GET | &Method::HEAD, "/status") => {
                reply(StatusCode::OK, JSON, report::status(&self.state))
            }
            (&Method::GET | &Method::HEAD, "/metrics") => self.metrics(),
            (&Method::GET | &Method::HEAD, "/healthz") => {
                reply(StatusCode::OK, JSON, r#"{"status":"ok"}"#.to_owned())
            }
            (&Method::GET | &Method::HEAD, "/readyz") => {
                let (ready, page) = proxy::readiness(&self.state.proxy.snapshot()).await;
                let status = if ready {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                reply(status, JSON, page.to_string())
            }
            (&Method::POST, "/-/reload") => self.reload().await,
            (_, "/status" | "/metrics" | "/healthz" | "/readyz") => not_allowed("GET, HEAD"),
            (_, "/-/reload") => not_allowed("POST"),
            _ => problem(
                StatusCode::NOT_FOUND,
                "no_page",
                "the admin socket has /status, /metrics, /healthz, /readyz and /-/reload",
            ),
        }
    }

    /// This page is served by the control thread, which must not speak for workers that hang.
    async fn event_loops_turn(&self) -> bool {
        let turning = self.state.workers.turn();
        tokio::time::timeout(TURN_PATIENCE, turning).await.is_ok()
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let registry = self.state.workers.registry();
        let (in_flight, event_streams) = registry.requests();
        let gauges = Gauges {
            in_flight,
            connections: registry.len(),
            sessions: self.state.proxy.sessions.count(Instant::now()),
            event_streams,
            log_dropped: self.state.log_control.dropped(),
            audit_lost: self.state.proxy.audit.lost(),
            audit_failing: self.state.proxy.audit.is_failing(),
            cache_bytes: self.state.proxy.cache.bytes(),
            cache_entries: self.state.proxy.cache.entries(),
        };
        let mut page = String::new();
        match self.state.proxy.metrics.write(&mut page, &gauges) {
            Ok(()) => reply(StatusCode::OK, OPEN_METRICS, page),
            Err(_) => problem(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the metrics could not be written",
            ),
        }
    }

    async fn reload(&self) -> Response<Full<Bytes>> {
        match self.state.reload().await {
            None => problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "stopping",
                "the daemon is stopping",
            ),
            Some(Reloaded {
                outcome: Ok(()), ..
            }) => reply(
                StatusCode::OK,
                JSON,
                serde_json::json!({ "outcome": "reloaded" }).to_string(),
            ),
            Some(Reloaded {
                outcome: Err(reasons),
                ..
            }) => {
                let page = serde_json::json!({ "outcome": "refused", "reasons": reasons });
                reply(StatusCode::UNPROCESSABLE_ENTITY, JSON, page.to_string())
            }
        }
    }
}

impl Handler for Admin {
    type Body = Full<Bytes>;

    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: Arc<Connection>,
    ) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        if let Err(refused) = guard::admit(&head, Policy::NONE, connection.saw_two_lengths()) {
            let error = proxy::Error::from(refused);
            return problem(error.code.status(), error.code.as_str(), &error.message);
        }
        self.route(&Request::from_parts(head, body)).await
    }
}

fn not_allowed(allow: &'static str) -> Response<Full<Bytes>> {
    let mut response = problem(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "this page has other methods, see Allow",
    );
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

fn problem(status: StatusCode, code: &'static str, detail: &str) -> Response<Full<Bytes>> {
    let title = status.canonical_reason().unwrap_or("Error");
    let page = serde_json::json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail, "code": code });
    let mut response = reply(status, "application/problem+json", page.to_string());
    response
        .headers_mut()
        .insert(proxy::ERROR_HEADER, HeaderValue::from_static(code));
    response
}

fn reply(status: StatusCode, media_type: &'static str, page: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(page));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
