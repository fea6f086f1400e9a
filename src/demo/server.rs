//! The company's side of the demo: TLS, HTTP/2 and HTTP/1.1 by ALPN, the signature check, then MCP.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::mcp::Mcp;
use super::reply::{Reply, text};
use super::verify::{Signed, Verifier};

pub const PATH: &str = "/mcp";
const MAX_CONNECTIONS: usize = 128;
const MAX_BODY: usize = 1024 * 1024;
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// Longer than clients keep an unused connection.
const HEAD_DEADLINE: Duration = Duration::from_secs(75);
const BODY_DEADLINE: Duration = Duration::from_secs(10);
/// More than a conversation has between a request and the look at what was signed.
const REMEMBERED: usize = 16;

pub struct Server {
    verifier: Verifier,
    mcp: Mcp,
    /// The latest requests that passed, by their `x-request-id`.
    signed: Mutex<VecDeque<(String, Signed)>>,
}

impl Server {
    pub fn new(verifier: Verifier) -> Self {
        Self {
            verifier,
            mcp: Mcp::default(),
            signed: Mutex::default(),
        }
    }

    /// Serves until its runtime ends.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, tls: TlsAcceptor) {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        while let Ok(place) = Arc::clone(&room).acquire_owned().await {
            // A failed accept is over at once: wait, or a lack of descriptors would spin.
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (server, tls) = (Arc::clone(&self), tls.clone());
            tokio::spawn(async move {
                server.converse(stream, tls).await;
                drop(place);
            });
        }
    }

    async fn converse(self: Arc<Self>, stream: TcpStream, tls: TlsAcceptor) {
        // An event must not wait for the acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        let handshake = tokio::time::timeout(HANDSHAKE_DEADLINE, tls.accept(stream));
        let Ok(Ok(stream)) = handshake.await else {
            return;
        };
        let answer = service_fn(|request| {
            let server = Arc::clone(&self);
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_DEADLINE);
        let _ = http.serve_connection(TokioIo::new(stream), answer).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Reply {
        let (head, body) = request.into_parts();
        let now = SystemTime::now();
        match self
            .verifier
            .verify(&head.method, head.uri.path(), &head.headers, now)
        {
            Ok(signed) => self.remember(&head.headers, signed),
            Err(refused) => return text(StatusCode::UNAUTHORIZED, refused.words()),
        }
        if head.uri.path() != PATH {
            return text(StatusCode::NOT_FOUND, "this server speaks MCP at /mcp");
        }
        let body = Limited::new(body, MAX_BODY).collect();
        match tokio::time::timeout(BODY_DEADLINE, body).await {
            Ok(Ok(body)) => self.mcp.answer(&head, &body.to_bytes()),
            Ok(Err(_)) => text(StatusCode::PAYLOAD_TOO_LARGE, "the body is over 1 MiB"),
            Err(_) => text(StatusCode::REQUEST_TIMEOUT, "the body took over 10 s"),
        }
    }

    /// What the signature of this request covered; `None` if no such request passed.
    pub fn signed(&self, request_id: &str) -> Option<Signed> {
        let signed = self.log();
        let (_, found) = signed.iter().find(|(id, _)| id == request_id)?;
        Some(found.clone())
    }

    fn remember(&self, headers: &HeaderMap, what: Signed) {
        let id = headers.get("x-request-id").and_then(|id| id.to_str().ok());
        let mut signed = self.log();
        signed.push_front((id.unwrap_or_default().to_owned(), what));
        signed.truncate(REMEMBERED);
    }

    fn log(&self) -> MutexGuard<'_, VecDeque<(String, Signed)>> {
        self.signed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
