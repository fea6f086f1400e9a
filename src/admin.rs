//! The admin socket: `/debug`, `/status`, `/metrics`, `/-/reload`, and the health pages.

mod debug;
mod report;

use debug::Order;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use slog::{Logger, debug};

use crate::guard::{self, Policy};
use crate::listen::{self, Peer};
use crate::message::Incoming;
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

    /// `None` where there is no such page: these show what people do, and the port is open to all.
    async fn debug_page(
        &self,
        request: &mut Request<Incoming>,
        peer: &Peer,
    ) -> Option<Response<Full<Bytes>>> {
        if matches!(peer, Peer::Tcp(_)) {
            return None;
        }
        Some(match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/debug/log-level") => {
                reply(StatusCode::OK, JSON, debug::levels(&self.state))
            }
            (&Method::PUT, "/debug/log-level") => self.set_log_level(request.body_mut()).await,
            (_, "/debug/log-level") => not_allowed("GET, HEAD, PUT"),
            (&Method::GET | &Method::HEAD, "/debug/requests") => {
                reply(StatusCode::OK, JSON, debug::requests(&self.state))
            }
            (_, "/debug/requests") => not_allowed("GET, HEAD"),
            _ => return None,
        })
    }

    async fn set_log_level(&self, body: &mut Incoming) -> Response<Full<Bytes>> {
        let order = Limited::new(body, debug::MAX_ORDER).collect().await;
        let order = order.map_err(|_| "what was sent is too long, or broke off".to_owned());
        let order =
            order.and_then(|order| Order::parse(&String::from_utf8_lossy(&order.to_bytes())));
        match order {
            Ok(order) => reply(StatusCode::OK, JSON, order.apply(&self.state)),
            Err(reason) => problem(StatusCode::BAD_REQUEST, "bad_request", &reason),
        }
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
                let proxy = &self.state.proxy;
                let (ready, page) = proxy::readiness(&proxy.snapshot(), &proxy.log).await;
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
                "the admin socket has /status, /metrics, /healthz, /readyz, /-/reload, /debug/log-level and /debug/requests; its port has no /debug",
            ),
        }
    }

    /// This page is served by the control thread, which must not speak for workers that hang.
    async fn event_loops_turn(&self) -> bool {
        let turning = self.state.workers.turn();
        tokio::time::timeout(TURN_PATIENCE, turning).await.is_ok()
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        match self.state.metrics_page() {
            Ok(page) => reply(StatusCode::OK, OPEN_METRICS, page),
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
        if let Err(refused) = guard::admit(&head, Policy::NONE, connection.is_ambiguous()) {
            let error = proxy::Error::from(refused);
            return problem(error.code.status(), error.code.as_str(), &error.message);
        }
        let mut request = Request::from_parts(head, body);
        match self.debug_page(&mut request, &connection.peer).await {
            Some(page) => page,
            None => self.route(&request).await,
        }
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
