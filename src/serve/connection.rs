//! One client connection, from its first byte to its last.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, OnceLock};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response, header};
use http_body::Body;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use slog::{Logger, debug, info};
use tokio::time::{Duration, Instant, Sleep};

use super::Timeouts;
use super::activity::Activity;
use super::h1::{self, line::Line};
use super::holder::Holder;
use super::protocol::Spoken;
use super::stream::{Stream, Watched};
use super::tls::Certified;
use super::tracked::{RequestGuard, Tracked};
use crate::listen::{self, Owner, Peer};
use crate::message::{Incoming, is_media_type};
use crate::scratch::poll_read;

/// How long a drained connection may be quiet before it is closed: a request that
/// was already on its way still gets its answer.
const LINGER: Duration = Duration::from_millis(250);

/// What the requests on one connection have in common.
pub struct Connection {
    pub peer: Peer,
    /// The peer's address and port, for TCP.
    pub address: Option<Box<str>>,
    /// Key of the listener it came in by.
    pub listener: u64,
    /// `x-forwarded-for`, for TCP.
    pub forwarded_for: Option<HeaderValue>,
    /// Our own end, for TCP.
    local: Option<SocketAddr>,
    /// Who holds the other end, once somebody asked.
    owner: Holder,
    /// Once its handshake is over, if it speaks TLS.
    tls: OnceLock<Option<Certified>>,
    pub(super) activity: Activity,
    aborted: AtomicBool,
    /// Whether its stream is to be asked if the peer is there still.
    suspected: AtomicBool,
    left: AtomicBool,
    waker: OnceLock<Waker>,
}

/// Answers requests; one for the data listeners, one for the admin socket.
pub trait Handler: Send + Sync + 'static {
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Unpin
        + Send
        + 'static;

    fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: Arc<Connection>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

impl Connection {
    pub fn new(peer: Peer, listener: u64) -> Self {
        let forwarded_for = match &peer {
            Peer::Tcp(address) => address.ip().to_string().parse().ok(),
            Peer::Unix { .. } => None,
        };
        let address = match &peer {
            Peer::Tcp(address) => Some(address.to_string().into()),
            Peer::Unix { .. } => None,
        };
        Self {
            peer,
            address,
            listener,
            forwarded_for,
            local: None,
            owner: Holder::default(),
            tls: OnceLock::new(),
            activity: Activity::new(),
            aborted: AtomicBool::new(false),
            suspected: AtomicBool::new(false),
            left: AtomicBool::new(false),
            waker: OnceLock::new(),
        }
    }

    /// With what can be learned of the other end from `stream` at once.
    pub fn identify(mut self, stream: &listen::Stream, with_program: bool) -> Self {
        self.local = stream.local_addr();
        self.owner = Holder::new(stream.owner(&self.peer, with_program));
        self
    }

    /// Who holds the other end; looked up off the event loop where that takes time, once.
    pub async fn owner(&self) -> &Owner {
        static NOT_IN_TIME: LazyLock<Owner> =
            LazyLock::new(|| Owner::unknown("the user database did not answer in time"));
        let (Peer::Tcp(peer), Some(local)) = (self.peer, self.local) else {
            return self.owner.known().unwrap_or(&NOT_IN_TIME);
        };
        let found = self.owner.look_up(move || Owner::of_tcp(local, peer)).await;
        found.unwrap_or(&NOT_IN_TIME)
    }

    /// Who holds the other end, if somebody asked before.
    pub fn known_owner(&self) -> Option<&Owner> {
        self.owner.known()
    }

    pub fn is_tls(&self) -> bool {
        self.tls.get().is_some()
    }

    /// The certificate by which the client proved who it is.
    pub fn certified(&self) -> Option<&Certified> {
        self.tls.get()?.as_ref()
    }

    /// Its handshake is over.
    pub(super) fn secured(&self, certified: Option<Certified>) {
        let _ = self.tls.set(certified);
    }

    /// Whether it is to be closed before its first request; asked by its own task.
    pub(super) fn must_end(&self, cx: &Context<'_>) -> bool {
        self.waker.get_or_init(|| cx.waker().clone());
        self.is_closing() || self.was_aborted()
    }

    /// Whether the body of the current HTTP/1.1 request could end in two places.
    pub fn is_ambiguous(&self) -> bool {
        self.activity.is_ambiguous()
    }

    /// No further request is wanted here.
    pub fn is_closing(&self) -> bool {
        self.activity.is_closing()
    }

    /// It was ended by us, whatever it was doing.
    pub fn was_aborted(&self) -> bool {
        self.aborted.load(Relaxed)
    }

    pub(super) fn close(&self) {
        self.activity.close();
        self.wake();
    }

    pub(super) fn abort(&self) {
        self.aborted.store(true, Relaxed);
        self.wake();
    }

    /// Has it looked at whether the peer is there still: while a request's body waits for its
    /// upstream nothing is read, and its end would not be seen.
    pub fn suspect(&self) {
        self.suspected.store(true, Relaxed);
        self.wake();
    }

    pub(super) fn is_suspected(&self) -> bool {
        self.suspected.load(Relaxed) && self.suspected.swap(false, Relaxed)
    }

    /// The peer has closed its end.
    pub(super) fn leave(&self) {
        self.left.store(true, Relaxed);
    }

    /// Reads on for a while after the last answer: closing on a client that still
    /// sends would reset the connection, and the answer with it.
    pub fn linger(&self) {
        self.activity.linger();
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }
}

/// Serves `stream` until its peer leaves, a deadline passes, or it is drained.
pub async fn serve<H: Handler>(
    h2: &http2::Builder<TokioExecutor>,
    mut stream: Stream,
    connection: Arc<Connection>,
    timeouts: Timeouts,
    handler: Arc<H>,
    log: &Logger,
) {
    let mut deadlines = Deadlines::new(&connection, timeouts);
    let mut front = BytesMut::new();
    let end = match first_bytes(&mut stream, &mut front, &mut deadlines).await {
        None => return,
        Some(Spoken::H1) => {
            let line = Line::new(stream, front, Arc::clone(&connection));
            let served = pin!(h1::serve(line, handler));
            let finish = |_: Pin<&mut _>| connection.activity.finish();
            served_within(served, finish, &mut deadlines)
                .await
                .map(End::of_h1)
        }
        Some(Spoken::H2) => {
            connection.activity.speaks_http2();
            let shared = Arc::clone(&connection);
            let io = Watched::new(front.freeze(), stream, Arc::clone(&connection));
            let service = service_fn(move |request| {
                respond(Arc::clone(&handler), request, Arc::clone(&shared))
            });
            // Larger than all the rest, and rare.
            let mut served = Box::pin(h2.serve_connection(TokioIo::new(io), service));
            let finish = |served: Pin<&mut _>| http2::Connection::graceful_shutdown(served);
            served_within(served.as_mut(), finish, &mut deadlines)
                .await
                .map(End::of_h2)
        }
    };
    match end {
        Some(End::Clean) => {}
        None if connection.left.load(Relaxed) => {}
        None => debug!(log, "connection closed by a timeout"; "peer" => %connection.peer),
        Some(End::NotHttp(reason)) => {
            info!(log, "connection closed: not valid HTTP"; "peer" => %connection.peer, "reason" => %reason);
        }
        Some(End::Broken(error)) => {
            debug!(log, "connection broke"; "peer" => %connection.peer, "reason" => %error)
        }
    }
}

/// What `served` comes to; `None` if it is given up before. `finish` asks it to take no more requests.
async fn served_within<F: Future>(
    mut served: Pin<&mut F>,
    finish: impl Fn(Pin<&mut F>),
    deadlines: &mut Deadlines<'_>,
) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        if let Poll::Ready(result) = served.as_mut().poll(cx) {
            return Poll::Ready(Some(result));
        }
        match deadlines.poll(cx) {
            Poll::Ready(Verdict::GiveUp) => Poll::Ready(None),
            Poll::Ready(Verdict::Finish) => {
                finish(served.as_mut());
                served.as_mut().poll(cx).map(Some)
            }
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// What the client speaks; `None` if it leaves, or is given up, before that is clear.
async fn first_bytes(
    stream: &mut Stream,
    front: &mut BytesMut,
    deadlines: &mut Deadlines<'_>,
) -> Option<Spoken> {
    std::future::poll_fn(|cx| {
        if let Some(protocol) = stream.agreed_protocol() {
            return Poll::Ready(Some(Spoken::agreed(protocol)));
        }
        loop {
            if let Some(spoken) = Spoken::of(front) {
                return Poll::Ready(Some(spoken));
            }
            match poll_read(stream, front, cx) {
                Poll::Ready(Ok(1..)) => deadlines.connection.activity.head_begins(),
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending => return deadlines.poll(cx).map(|_| None),
            }
        }
    })
    .await
}

async fn respond<H: Handler>(
    handler: Arc<H>,
    request: Request<hyper::body::Incoming>,
    connection: Arc<Connection>,
) -> Result<Response<Tracked<H::Body>>, Infallible> {
    let mut guard = RequestGuard::new(&connection);
    let request = request.map(Incoming::H2);
    let response = handler.handle(request, connection).await;
    if is_media_type(
        response.headers().get(header::CONTENT_TYPE),
        "text/event-stream",
    ) {
        guard.is_event_stream();
    }
    Ok(response.map(|body| Tracked::new(body, guard)))
}

enum End {
    Clean,
    NotHttp(h1::Broken),
    Broken(Box<dyn std::error::Error + Send + Sync>),
}

impl End {
    fn of_h1(result: Result<(), h1::Broken>) -> Self {
        match result {
            Ok(()) | Err(h1::Broken::Left) => Self::Clean,
            Err(error @ h1::Broken::Refused(_)) => Self::NotHttp(error),
            Err(error) => Self::Broken(error.to_string().into()),
        }
    }

    fn of_h2(result: hyper::Result<()>) -> Self {
        result.map_or_else(|error| Self::Broken(error.into()), |()| Self::Clean)
    }
}

/// Watches over a connection from inside its own task.
struct Deadlines<'a> {
    connection: &'a Connection,
    timeouts: Timeouts,
    timer: Pin<Box<Sleep>>,
    armed: Option<Instant>,
    draining: Option<Drain>,
}

#[derive(PartialEq, Eq)]
enum Drain {
    /// Quiet; until it has been so for [`LINGER`].
    Lingering,
    Finishing,
}

enum Verdict {
    /// Close now.
    GiveUp,
    /// Refuse further requests and close after the last response.
    Finish,
}

impl<'a> Deadlines<'a> {
    fn new(connection: &'a Connection, timeouts: Timeouts) -> Self {
        let timer = Box::pin(tokio::time::sleep(timeouts.idle));
        Self {
            connection,
            timeouts,
            timer,
            armed: None,
            draining: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Verdict> {
        // A spawned task keeps one waker for life.
        self.connection.waker.get_or_init(|| cx.waker().clone());
        if self.connection.aborted.load(Relaxed) || self.connection.left.load(Relaxed) {
            return Poll::Ready(Verdict::GiveUp);
        }
        if self.connection.is_closing()
            && let Some(polled) = self.drain(cx)
        {
            return polled;
        }
        while let Some(deadline) = self.connection.activity.deadline(&self.timeouts) {
            self.arm_before(deadline);
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.armed = None;
            if Instant::now() >= deadline {
                return Poll::Ready(Verdict::GiveUp);
            }
        }
        Poll::Pending
    }

    /// A timer that fires early is re-armed then; only one that would fire late is moved.
    fn arm_before(&mut self, deadline: Instant) {
        if self.armed.is_none_or(|armed| deadline < armed) {
            self.timer.as_mut().reset(deadline);
            self.armed = Some(deadline);
        }
    }

    /// `None`: the ordinary deadlines apply.
    fn drain(&mut self, cx: &mut Context<'_>) -> Option<Poll<Verdict>> {
        if self.draining == Some(Drain::Finishing) {
            return None;
        }
        if self.connection.activity.is_http2() {
            self.draining = Some(Drain::Finishing);
            return Some(Poll::Ready(Verdict::Finish));
        }
        if !self.connection.activity.is_quiet() {
            self.draining = None;
            return None;
        }
        if self.draining.is_none() {
            self.draining = Some(Drain::Lingering);
            self.timer.as_mut().reset(Instant::now() + LINGER);
            self.armed = None;
        }
        Some(self.timer.as_mut().poll(cx).map(|()| {
            self.draining = Some(Drain::Finishing);
            Verdict::Finish
        }))
    }
}
