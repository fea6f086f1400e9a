//! A fake upstream: verifies every signature, notes what it saw, and answers as it is told.
//!
//! It runs on a thread of its own, so that a test may block and the work is spread.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{oneshot, watch};
use tokio_rustls::TlsAcceptor;

use super::body::{self, Body, Cut, Pipe};
use super::journal::Journal;
use super::secrets::{KEY_ID, NEXT_SECRET, SECRET};
use super::tls::Tls;
use super::verify::{self, Accepted};
use super::wait::within;

/// `Err` breaks the connection off (HTTP/1.1) or resets the stream (HTTP/2).
pub type Outcome = Result<Response<Body>, Cut>;

type Handler = Arc<dyn Fn(Call) -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync>;

/// A request, as it arrived.
pub struct Seen {
    pub version: Version,
    pub method: String,
    /// Path and query, as they stood on the wire.
    pub target: String,
    /// `Host` or `:authority`.
    pub authority: String,
    pub headers: HeaderMap,
    /// Which connection it came by, counted from 0.
    pub connection: usize,
    pub session: Arc<Session>,
    /// Once it was read whole, which the default handler does.
    pub body: Mutex<Option<Bytes>>,
}

/// What the TLS handshake agreed on; nothing of it for connections in clear.
#[derive(Default)]
pub struct Session {
    pub version: Option<rustls::ProtocolVersion>,
    pub group: Option<rustls::NamedGroup>,
    pub server_name: Option<String>,
    pub has_client_certificate: bool,
}

impl Seen {
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The only value of a header; panics if there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?.to_str().unwrap();
        assert!(
            values.next().is_none(),
            "several {name}: {:?}",
            self.headers
        );
        Some(value)
    }

    pub fn body(&self) -> Bytes {
        self.body
            .lock()
            .unwrap()
            .clone()
            .expect("the body was read")
    }
}

/// A request to be answered.
pub struct Call {
    pub seen: Arc<Seen>,
    pub body: Incoming,
}

impl Call {
    /// The whole body; `Err` if the client broke it off.
    pub async fn read(&mut self) -> Result<Bytes, Cut> {
        let body = (&mut self.body)
            .collect()
            .await
            .map_err(|_| Cut)?
            .to_bytes();
        *self.seen.body.lock().unwrap() = Some(body.clone());
        Ok(body)
    }
}

pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

pub struct Upstream {
    pub address: Address,
    scheme: &'static str,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _dir: Option<tempfile::TempDir>,
}

struct Shared {
    seen: Journal<Arc<Seen>>,
    /// Requests whose answer is not yet through.
    in_flight: watch::Sender<usize>,
    connections: AtomicUsize,
    accepted: Mutex<Accepted>,
    refused: Journal<String>,
    expects_refusals: AtomicBool,
    takes_unsigned: AtomicBool,
    /// Per connection, for those to come.
    max_streams: AtomicU32,
    handlers: Mutex<HashMap<String, Handler>>,
}

impl Upstream {
    /// HTTPS with HTTP/2 and HTTP/1.1 by ALPN.
    pub fn https() -> Self {
        Self::tls(Tls::default())
    }

    pub fn https_h1() -> Self {
        Self::tls(Tls::h1())
    }

    /// HTTPS with HTTP/2 and no more than `streams` at a time on a connection.
    pub fn https_with_streams(streams: u32) -> Self {
        let upstream = Self::https();
        upstream
            .shared
            .max_streams
            .store(streams, Ordering::Relaxed);
        upstream
    }

    pub fn tls(tls: Tls) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let tls = TlsAcceptor::from(tls.server());
        Self::start("https", address, None, move |shared| async move {
            let listener = adopt(listener);
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let (tls, shared) = (tls.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    // Who does not get through the handshake is none of the requests to count.
                    let Ok(stream) = tls.accept(stream).await else {
                        return;
                    };
                    let session = session(stream.get_ref().1);
                    serve(stream, session, shared).await;
                });
            }
        })
    }

    pub fn http() -> Self {
        Self::http_at("127.0.0.1:0".parse().unwrap())
    }

    /// In clear, at an address where there may have been another before.
    pub fn http_at(address: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind(address).unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        Self::start("http", address, None, move |shared| async move {
            let listener = adopt(listener);
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                tokio::spawn(serve(stream, Session::default(), Arc::clone(&shared)));
            }
        })
    }

    pub fn unix() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("up.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        Self::start(
            "unix",
            Address::Unix(path),
            Some(dir),
            move |shared| async move {
                listener.set_nonblocking(true).unwrap();
                let listener = UnixListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(serve(stream, Session::default(), Arc::clone(&shared)));
                }
            },
        )
    }

    fn start<F, A>(
        scheme: &'static str,
        address: Address,
        dir: Option<tempfile::TempDir>,
        accept: F,
    ) -> Self
    where
        F: FnOnce(Arc<Shared>) -> A + Send + 'static,
        A: Future<Output = Infallible>,
    {
        let accepted = [SECRET, NEXT_SECRET].map(|secret| (KEY_ID.to_owned(), secret.to_owned()));
        let shared = Arc::new(Shared {
            seen: Journal::default(),
            in_flight: watch::Sender::new(0),
            connections: AtomicUsize::new(0),
            accepted: Mutex::new(accepted.to_vec()),
            refused: Journal::default(),
            expects_refusals: AtomicBool::new(false),
            takes_unsigned: AtomicBool::new(false),
            max_streams: AtomicU32::new(1000),
            handlers: Mutex::default(),
        });
        let (stop, stopped) = oneshot::channel();
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("upstream".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    tokio::select! {
                        never = accept(of_thread) => match never {},
                        _ = stopped => {}
                    }
                });
            })
            .unwrap();
        Self {
            address,
            scheme,
            shared,
            stop: Some(stop),
            thread: Some(thread),
            _dir: dir,
        }
    }

    /// Answers requests to exactly this path with `handler`; all others are echoed.
    pub fn at<F, A>(&self, path: &str, handler: F) -> &Self
    where
        F: Fn(Call) -> A + Send + Sync + 'static,
        A: Future<Output = Outcome> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |call| Box::pin(handler(call)));
        self.shared
            .handlers
            .lock()
            .unwrap()
            .insert(path.to_owned(), handler);
        self
    }

    /// Answers every request to `path` with this, as it is.
    pub fn says(&self, path: &str, status: u16, headers: &[(&str, &str)], body: &'static str) {
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        self.at(path, move |_| {
            let mut response = Response::builder().status(status);
            for (name, value) in &headers {
                response = response.header(name, value);
            }
            std::future::ready(Ok(response.body(body::full(body)).unwrap()))
        });
    }

    /// Answers requests to `path` with event streams; the writing ends are found in the journal.
    pub fn streams_at(&self, path: &str) -> Arc<Journal<Pipe>> {
        self.streams_of("text/event-stream", path)
    }

    pub fn streams_of(&self, media_type: &'static str, path: &str) -> Arc<Journal<Pipe>> {
        let pipes = Arc::new(Journal::default());
        let of_handler = Arc::clone(&pipes);
        self.at(path, move |_| {
            let (pipe, mut response) = event_stream();
            let headers = response.headers_mut();
            headers.insert("content-type", media_type.parse().unwrap());
            of_handler.push(pipe);
            std::future::ready(Ok(response))
        });
        pipes
    }

    pub fn url(&self) -> String {
        match &self.address {
            Address::Tcp(address) => format!("{}://{address}", self.scheme),
            Address::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    pub fn is_tls(&self) -> bool {
        self.scheme == "https"
    }

    pub fn port(&self) -> u16 {
        match &self.address {
            Address::Tcp(address) => address.port(),
            Address::Unix(_) => panic!("a Unix socket has no port"),
        }
    }

    /// These key ids and secrets are good from now on, and no others.
    pub fn accept_only(&self, accepted: &[(&str, &str)]) {
        *self.shared.accepted.lock().unwrap() = accepted
            .iter()
            .map(|(id, secret)| ((*id).to_owned(), (*secret).to_owned()))
            .collect();
    }

    /// Bad signatures are part of this test: they get a 401 and do not fail it.
    pub fn expects_refusals(&self) {
        self.shared.expects_refusals.store(true, Ordering::Relaxed);
    }

    /// Nothing is verified.
    pub fn takes_unsigned(&self) {
        self.shared.takes_unsigned.store(true, Ordering::Relaxed);
    }

    pub fn seen(&self) -> Vec<Arc<Seen>> {
        self.shared.seen.all()
    }

    pub fn count(&self) -> usize {
        self.shared.seen.len()
    }

    /// The only request that came; panics if there were none or several.
    #[track_caller]
    pub fn only(&self) -> Arc<Seen> {
        let seen = self.seen();
        let targets: Vec<_> = seen.iter().map(|seen| &seen.target).collect();
        assert_eq!(
            seen.len(),
            1,
            "one request was expected upstream: {targets:?}"
        );
        Arc::clone(&seen[0])
    }

    /// The latest request.
    #[track_caller]
    pub fn last(&self) -> Arc<Seen> {
        self.seen().pop().expect("a request came")
    }

    /// Waits for a request to `path`.
    #[track_caller]
    pub fn arrival(&self, path: &str) -> impl Future<Output = Arc<Seen>> {
        let path = path.to_owned();
        let what = format!("a request to {path} upstream");
        self.shared.seen.find(what, move |seen| seen.path() == path)
    }

    /// Waits until every request was answered to its end, or given up by its client.
    #[track_caller]
    pub fn idle(&self) -> impl Future<Output = ()> {
        let mut in_flight = self.shared.in_flight.subscribe();
        within("the upstream's requests ended", async move {
            in_flight.wait_for(|count| *count == 0).await.unwrap();
        })
    }

    pub fn in_flight(&self) -> usize {
        *self.shared.in_flight.borrow()
    }

    /// How many connections there have been that spoke HTTP.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let outcome = thread.join();
            if !std::thread::panicking() {
                assert!(outcome.is_ok(), "the upstream panicked");
                let refused = self.shared.refused.all();
                let expected = self.shared.expects_refusals.load(Ordering::Relaxed);
                assert!(
                    expected || refused.is_empty(),
                    "bad signatures: {refused:?}"
                );
            }
        }
    }
}

fn adopt(listener: std::net::TcpListener) -> TcpListener {
    listener.set_nonblocking(true).unwrap();
    TcpListener::from_std(listener).unwrap()
}

fn session(connection: &rustls::ServerConnection) -> Session {
    Session {
        version: connection.protocol_version(),
        group: connection
            .negotiated_key_exchange_group()
            .map(|group| group.name()),
        server_name: connection.server_name().map(str::to_owned),
        has_client_certificate: connection.peer_certificates().is_some(),
    }
}

async fn serve<S>(stream: S, session: Session, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = shared.connections.fetch_add(1, Ordering::Relaxed);
    let session = Arc::new(session);
    let service = service_fn(|request| {
        let (shared, session) = (Arc::clone(&shared), Arc::clone(&session));
        answer(request, connection, session, shared)
    });
    let mut protocol = auto::Builder::new(TokioExecutor::new());
    let max_streams = shared.max_streams.load(Ordering::Relaxed);
    protocol.http2().max_concurrent_streams(max_streams);
    let _ = protocol
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(
    request: Request<Incoming>,
    connection: usize,
    session: Arc<Session>,
    shared: Arc<Shared>,
) -> Result<Response<Guarded>, Cut> {
    let guard = Counted::new(&shared, |shared| &shared.in_flight);
    let (head, body) = request.into_parts();
    let host = head.headers.get("host").map(|host| host.to_str().unwrap());
    let authority = head.uri.authority().map(|authority| authority.as_str());
    let seen = Arc::new(Seen {
        version: head.version,
        method: head.method.to_string(),
        target: head.uri.path_and_query().unwrap().to_string(),
        authority: authority.or(host).unwrap_or_default().to_owned(),
        headers: head.headers,
        connection,
        session,
        body: Mutex::default(),
    });
    shared.seen.push(Arc::clone(&seen));
    let call = Call {
        seen: Arc::clone(&seen),
        body,
    };
    let accepted = shared.accepted.lock().unwrap().clone();
    let verdict = if shared.takes_unsigned.load(Ordering::Relaxed) {
        Ok(())
    } else {
        verify::verify(&seen.method, seen.path(), &seen.headers, &accepted)
    };
    let response = match verdict {
        Ok(()) => {
            let handler = shared.handlers.lock().unwrap().get(seen.path()).cloned();
            match handler {
                Some(handler) => handler(call).await?,
                None => echo(call).await?,
            }
        }
        Err(reason) => {
            shared.refused.push(reason);
            unauthorized("Invalid Signature")
        }
    };
    let response = if seen.method == "HEAD" {
        without_body(response)
    } else {
        response
    };
    Ok(response.map(|body| Guarded {
        body,
        _guard: guard,
    }))
}

/// The head alone, with the length that the body would have. hyper sees to that for HTTP/1.1 only.
fn without_body(mut response: Response<Body>) -> Response<Body> {
    if let Some(length) = http_body::Body::size_hint(response.body()).exact() {
        response
            .headers_mut()
            .insert("content-length", length.into());
    }
    response.map(|_| body::empty())
}

/// The request's own body, as JSON, or what was asked where there is none.
pub async fn echo(mut call: Call) -> Outcome {
    let body = call.read().await?;
    Ok(json(body))
}

pub fn json(body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(body::full(body));
    response
        .headers_mut()
        .insert("content-type", "application/json".parse().unwrap());
    response
}

/// As the gateway refuses: plain text.
pub fn unauthorized(words: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(body::full(words));
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    response
        .headers_mut()
        .insert("www-authenticate", "Bearer".parse().unwrap());
    response
}

/// A stream of events and the end to write them into.
pub fn event_stream() -> (Pipe, Response<Body>) {
    let (pipe, body) = body::piped();
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert("content-type", "text/event-stream".parse().unwrap());
    (pipe, response)
}

/// One more as long as it lives.
struct Counted {
    shared: Arc<Shared>,
    of: fn(&Shared) -> &watch::Sender<usize>,
}

impl Counted {
    fn new(shared: &Arc<Shared>, of: fn(&Shared) -> &watch::Sender<usize>) -> Self {
        of(shared).send_modify(|count| *count += 1);
        Self {
            shared: Arc::clone(shared),
            of,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.of)(&self.shared).send_modify(|count| *count -= 1);
    }
}

/// A body whose request counts as in flight until it is through.
struct Guarded {
    body: Body,
    _guard: Counted,
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
