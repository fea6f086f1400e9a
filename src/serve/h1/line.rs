//! A client's connection as its server and the body of its request see it.
//!
//! One of them reads at a time: the body while anybody asks for it, the server before and
//! after, who looks for the next head or for the client's end.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWrite;

use super::Broken;
use super::request::{self, Head, Scan};
use crate::framing::{Decoded, Decoder};
use crate::message::{BodyError, Incoming, Pieces};
use crate::scratch::poll_read;
use crate::serve::Connection;
use crate::serve::stream::Stream;

/// How much of what a client sends ahead is taken in before its turn comes.
const MAX_AHEAD: usize = 64 * 1024;
/// How much of a body that nobody wants is read to keep its connection.
const MAX_UNWANTED: usize = 256 * 1024;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

pub struct Line {
    pub connection: Arc<Connection>,
    state: Mutex<State>,
}

struct State {
    /// Until the connection is over.
    stream: Option<Stream>,
    /// What came and is nobody's yet; without memory of its own while empty.
    input: BytesMut,
    scan: Scan,
    /// The current request's body.
    decoder: Decoder,
    serial: u64,
    has_reader: bool,
    /// The server wants to look for the client's end as soon as it may.
    is_waiting: bool,
    /// The client waits for leave to send the body.
    expects: bool,
    /// What of a [`CONTINUE`] has not left yet.
    go_ahead: &'static [u8],
    /// The client went, or wrote nonsense, in the middle of its body.
    is_cut: bool,
}

impl Line {
    /// `input` was read from the stream's front.
    pub fn new(stream: Stream, input: BytesMut, connection: Arc<Connection>) -> Arc<Self> {
        Arc::new(Self {
            connection,
            state: Mutex::new(State {
                stream: Some(stream),
                input,
                scan: Scan::default(),
                decoder: Decoder::Done,
                serial: 0,
                has_reader: false,
                is_waiting: false,
                expects: false,
                go_ahead: b"",
                is_cut: false,
            }),
        })
    }

    /// The next request's head; `None` if none will come.
    pub fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Head>, Broken>> {
        let activity = &self.connection.activity;
        let state = &mut *self.lock();
        loop {
            let head =
                request::parse(&mut state.input, &mut state.scan).map_err(Broken::Refused)?;
            if let Some(head) = head {
                activity.head_is_in();
                return Poll::Ready(Ok(Some(head)));
            }
            if !state.input.is_empty() {
                activity.head_begins();
            } else if activity.is_finishing() {
                return Poll::Ready(Ok(None));
            } else {
                state.input = BytesMut::new();
            }
            match ready!(state.poll_read(cx)) {
                Ok(0) if state.input.is_empty() => return Poll::Ready(Ok(None)),
                Ok(0) => return Poll::Ready(Err(Broken::Left)),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(Broken::Io(error))),
            }
        }
    }

    /// The body behind a head that was just taken.
    pub fn body(self: &Arc<Self>, body: Decoder, expects: bool) -> Incoming {
        let mut state = self.lock();
        state.serial += 1;
        state.has_reader = !body.is_done();
        state.expects = expects;
        state.go_ahead = b"";
        if body.is_done() {
            return Incoming::None;
        }
        state.decoder = body;
        let line = Arc::clone(self);
        Incoming::from_line(line, state.serial)
    }

    /// Whether the client is gone. Says nothing while its body is being read: the reader will see.
    pub fn poll_left(&self, cx: &mut Context<'_>) -> Poll<()> {
        let is_suspected = self.connection.is_suspected();
        let state = &mut *self.lock();
        if is_suspected && state.stream.as_ref().is_some_and(Stream::has_left) {
            return Poll::Ready(());
        }
        if state.has_reader && !state.decoder.is_done() {
            state.is_waiting = true;
            return Poll::Pending;
        }
        while !state.is_cut && state.input.len() < MAX_AHEAD {
            match ready!(state.poll_read(cx)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// Writes from `pieces`, and says how much.
    pub fn poll_write(
        &self,
        pieces: &[io::IoSlice<'_>],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let state = &mut *self.lock();
        // What is left of an earlier word comes first.
        while !state.go_ahead.is_empty() {
            ready!(state.poll_go_ahead(cx))?;
        }
        let Some(stream) = &mut state.stream else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let stream = Pin::new(stream);
        let polled = match pieces {
            [piece] => stream.poll_write(cx, piece),
            pieces => stream.poll_write_vectored(cx, pieces),
        };
        self.connection.activity.wrote(polled.is_pending());
        match polled {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            polled => polled,
        }
    }

    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.lock().stream {
            Some(stream) => Pin::new(stream).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Whether nothing of the current request speaks against another one yet.
    pub fn may_go_on(&self) -> bool {
        let is_being_read = self.lock().has_reader;
        is_being_read || self.finish_body()
    }

    /// Whether the request's body is over, or is now: a little that nobody asked for is read away.
    pub fn finish_body(&self) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let state = &mut *self.lock();
        if state.has_reader && !state.decoder.is_done() {
            // What is left of it is somebody else's.
            return false;
        }
        let mut unwanted = 0;
        while !state.is_cut && unwanted < MAX_UNWANTED {
            match state.decoder.decode(&mut state.input) {
                Ok(Decoded::End) => return true,
                Ok(Decoded::Data(data)) => unwanted += data.len(),
                Ok(Decoded::Trailers(_)) => {}
                // It was never asked for, so that it may come or not.
                Ok(Decoded::Incomplete) if state.expects => return false,
                Ok(Decoded::Incomplete) => match state.poll_read(&mut cx) {
                    Poll::Ready(Ok(1..)) => {}
                    _ => return false,
                },
                Err(_) => return false,
            }
        }
        false
    }

    /// Whether closing now would take from the client what it has not read yet (RFC 9112, section 9.6).
    pub fn has_unread(&self) -> bool {
        let state = self.lock();
        !state.input.is_empty() || !state.decoder.is_done()
    }

    /// The stream, for whoever ends it. A body that is still asked for is cut.
    pub fn take_stream(&self) -> Option<Stream> {
        self.lock().stream.take()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Some(stream) => poll_read(stream, &mut self.input, cx),
            None => Poll::Ready(Ok(0)),
        }
    }

    fn poll_go_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Ok(()));
        };
        let written = ready!(Pin::new(stream).poll_write(cx, self.go_ahead))?;
        self.go_ahead = &self.go_ahead[written..];
        match written {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Lets the client send. What does not leave at once goes out with the answer: no client
    /// waits for this for ever.
    fn let_send(&mut self, cx: &mut Context<'_>) {
        if std::mem::take(&mut self.expects) {
            self.go_ahead = CONTINUE;
            let _ = self.poll_go_ahead(cx);
            if let Some(stream) = &mut self.stream {
                let _ = Pin::new(stream).poll_flush(cx);
            }
        }
    }

    fn cut(&mut self) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.is_cut = true;
        Poll::Ready(Some(Err(BodyError::Cut)))
    }
}

impl Pieces for Line {
    fn poll_piece(
        &self,
        serial: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        let state = &mut *self.lock();
        if state.serial != serial {
            return Poll::Ready(None);
        }
        loop {
            let decoded = state.decoder.decode(&mut state.input);
            if state.input.is_empty() {
                state.input = BytesMut::new();
            }
            match decoded {
                Ok(Decoded::Data(data)) => return Poll::Ready(Some(Ok(data))),
                Ok(Decoded::End) => return Poll::Ready(None),
                // They end a body and go no further: they would bring past us every header
                // that is dropped from a head (RFC 9110, section 6.5.1).
                Ok(Decoded::Trailers(_)) => continue,
                Ok(Decoded::Incomplete) => {}
                Err(_) => return state.cut(),
            }
            state.let_send(cx);
            match ready!(state.poll_read(cx)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return state.cut(),
            }
        }
    }

    fn remaining(&self, serial: u64) -> Option<u64> {
        let state = self.lock();
        match state.serial == serial {
            true => state.decoder.remaining(),
            false => Some(0),
        }
    }

    fn leave(&self, serial: u64) {
        let mut state = self.lock();
        if state.serial != serial {
            return;
        }
        state.has_reader = false;
        if std::mem::take(&mut state.is_waiting) {
            drop(state);
            self.connection.wake();
        }
    }
}
