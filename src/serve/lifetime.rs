//! A client connection from its first byte to its last: what it speaks, and how long it may stay.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use http::{Request, Response, header};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use slog::{Logger, debug, info};
use tokio::time::{Duration, Instant, Sleep};

use super::h1::{self, line::Line};
use super::protocol::Spoken;
use super::stream::{Stream, Watched};
use super::tracked::{RequestGuard, Tracked};
use super::{Connection, Handler, Timeouts};
use crate::message::{Incoming, is_media_type};
use crate::scratch::poll_read;

/// How long a drained connection may be quiet before it is closed: a request that
/// was already on its way still gets its answer.
const LINGER: Duration = Duration::from_millis(250);

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
        None if connection.has_left() => {}
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
        self.connection.keep_waker(cx);
        if self.connection.was_aborted() || self.connection.has_left() {
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
