//! HTTP/1.1 towards an upstream: a connection driven by whoever uses it.
//!
//! Our own, because it is the hot path: no task, no channel and no buffer of its
//! own for a connection, so that an open stream costs little more than its socket.

pub(crate) mod head;
mod outgoing;

use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use tokio::sync::mpsc;

use self::head::Head;
use self::outgoing::Outgoing;
use super::error::{Broken, Failure, Kind, chain};
use super::io::Io;
use crate::framing::{Decoded, Decoder, Malformed};
use crate::message::RequestBody;
use crate::scratch::poll_read;

/// More informational responses than this before the final one are an attack or a fault.
const MAX_INTERIM: usize = 100;

pub struct Connection {
    io: Io,
    /// What was read and belongs to nobody yet; without memory of its own while empty.
    input: BytesMut,
    pub reused: bool,
    pub born: Instant,
}

/// Why there is no response.
enum Error {
    Closed,
    Io(io::Error),
    Malformed(Malformed),
}

impl Error {
    fn into_failure(self, unsent: bool) -> Failure {
        let (kind, cause) = match self {
            Self::Closed => (
                Kind::Reset,
                "the connection was closed before an answer came".to_owned(),
            ),
            Self::Io(error) => (Kind::Reset, chain(&error)),
            Self::Malformed(fault) => (
                Kind::BadResponse,
                format!("the answer is not valid HTTP: {fault}"),
            ),
        };
        Failure {
            kind,
            cause,
            unsent,
        }
    }
}

impl Connection {
    pub fn new(io: Io) -> Self {
        Self {
            io,
            input: BytesMut::new(),
            reused: false,
            born: Instant::now(),
        }
    }

    /// Looks once: a closed connection, or one with unasked-for bytes, shows here.
    pub async fn is_alive(&mut self) -> bool {
        std::future::poll_fn(|cx| {
            let polled = poll_read(&mut self.io, &mut self.input, cx);
            Poll::Ready(polled.is_pending())
        })
        .await
    }

    fn poll_head(
        &mut self,
        outgoing: &mut Outgoing,
        interim: &mut usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Head, Error>> {
        outgoing.advance(&mut self.io, cx);
        if outgoing.is_broken() {
            let error = outgoing.take_failure();
            return Poll::Ready(Err(error.map_or(Error::Closed, Error::Io)));
        }
        loop {
            let head = match self.input.is_empty() {
                true => None,
                false => {
                    head::parse(&mut self.input, outgoing.method()).map_err(Error::Malformed)?
                }
            };
            if let Some(head) = head {
                let status = head.response.status();
                if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                    return Poll::Ready(Ok(head));
                }
                *interim += 1;
                if *interim > MAX_INTERIM {
                    return Poll::Ready(Err(Error::Malformed("it never comes to an answer")));
                }
                continue;
            }
            match ready!(poll_read(&mut self.io, &mut self.input, cx)) {
                Ok(1..) => {}
                Ok(0) => {
                    return Poll::Ready(Err(outgoing
                        .take_failure()
                        .map_or(Error::Closed, Error::Io)));
                }
                Err(error) => {
                    return Poll::Ready(Err(Error::Io(outgoing.take_failure().unwrap_or(error))));
                }
            }
        }
    }

    /// The next piece of a response's body.
    fn poll_body(
        &mut self,
        decoder: &mut Decoder,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            let decoded = decoder.decode(&mut self.input);
            if self.input.is_empty() {
                self.input = BytesMut::new();
            }
            match decoded {
                Ok(Decoded::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Decoded::Trailers(trailers)) => {
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Ok(Decoded::End) => return Poll::Ready(None),
                Ok(Decoded::Incomplete) => {}
                Err(fault) => return Poll::Ready(Some(Err(Broken::Malformed(fault)))),
            }
            match ready!(poll_read(&mut self.io, &mut self.input, cx)) {
                Ok(1..) => {}
                Ok(0) if *decoder == Decoder::UntilClose => {
                    *decoder = Decoder::Done;
                    return Poll::Ready(None);
                }
                Ok(0) => return Poll::Ready(Some(Err(Broken::Cut))),
                Err(error) => return Poll::Ready(Some(Err(Broken::Io(error)))),
            }
        }
    }
}

/// One request and the head of its response; the connection goes on inside the body.
pub async fn exchange(
    mut connection: Box<Connection>,
    request: &mut Request<RequestBody>,
) -> Result<Response<Body>, Box<Failure>> {
    let mut outgoing = Outgoing::new(request);
    let mut interim = 0;
    let polling = std::future::poll_fn(|cx| connection.poll_head(&mut outgoing, &mut interim, cx));
    let head = match polling.await {
        Ok(head) => head,
        Err(error) => {
            let unsent = outgoing.give_back(request);
            return Err(Box::new(error.into_failure(unsent)));
        }
    };
    let body = if outgoing.is_over() {
        Body::Bound(Box::new(Bound {
            connection: Some(connection),
            decoder: head.decoder,
            keeps_alive: head.keeps_alive && outgoing.is_done(),
        }))
    } else {
        // The upstream answers while it still reads: both directions must move by
        // themselves, or a client that waits for neither would stop both.
        Body::Detached(Detached::spawn(connection, outgoing, head.decoder))
    };
    Ok(head.response.map(|()| body))
}

/// The body of a response.
pub enum Body {
    Bound(Box<Bound>),
    Detached(Detached),
}

/// A response body and the connection it comes from.
///
/// At its end the connection can be taken from it; dropped before, it is
/// closed, which is how HTTP/1.1 tells an upstream that nobody listens.
pub struct Bound {
    connection: Option<Box<Connection>>,
    decoder: Decoder,
    keeps_alive: bool,
}

impl Bound {
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Some(connection) = &mut self.connection else {
            return Poll::Ready(None);
        };
        let polled = ready!(connection.poll_body(&mut self.decoder, cx));
        if let Some(Err(_)) = &polled {
            self.connection = None;
        }
        Poll::Ready(polled)
    }

    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The connection, once the body is over, if another request can follow; if none can, it is closed then.
    pub fn release(&mut self) -> Option<Box<Connection>> {
        if !self.decoder.is_done() {
            return None;
        }
        let connection = self.connection.take();
        connection.filter(|connection| self.keeps_alive && connection.input.is_empty())
    }
}

/// A response body whose request is still on its way out: a task of its own moves both.
pub struct Detached {
    frames: mpsc::Receiver<Option<Result<Frame<Bytes>, Broken>>>,
    is_over: bool,
}

impl Detached {
    fn spawn(connection: Box<Connection>, outgoing: Outgoing, decoder: Decoder) -> Self {
        let (sender, frames) = mpsc::channel(1);
        let is_over = decoder.is_done();
        tokio::spawn(drive(connection, outgoing, decoder, sender));
        Self { frames, is_over }
    }

    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        // A task that ends without having said so was not at the body's end.
        let frame = ready!(self.frames.poll_recv(cx)).unwrap_or(Some(Err(Broken::Cut)));
        self.is_over = !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }

    pub fn is_over(&self) -> bool {
        self.is_over
    }
}

/// Moves the rest of a request out and its response in, until nobody reads that any more.
async fn drive(
    mut connection: Box<Connection>,
    mut outgoing: Outgoing,
    mut decoder: Decoder,
    frames: mpsc::Sender<Option<Result<Frame<Bytes>, Broken>>>,
) {
    loop {
        let mut room = pin!(frames.reserve());
        let room = std::future::poll_fn(|cx| {
            outgoing.advance(&mut connection.io, cx);
            room.as_mut().poll(cx)
        });
        let Ok(room) = room.await else { return };
        let mut left = pin!(frames.closed());
        let frame = std::future::poll_fn(|cx| {
            outgoing.advance(&mut connection.io, cx);
            if outgoing.is_broken() {
                return Poll::Ready(Some(Err(Broken::Cut)));
            }
            if left.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            connection.poll_body(&mut decoder, cx)
        });
        let frame = frame.await;
        let is_last = !matches!(frame, Some(Ok(_)));
        room.send(frame);
        if is_last {
            return;
        }
    }
}
