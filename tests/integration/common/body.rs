//! Bodies that come in pieces, break off, or never end.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use tokio::sync::mpsc;

pub type Body = UnsyncBoxBody<Bytes, Cut>;

/// A body's sender broke it off: hyper then closes the connection, or resets the stream.
#[derive(Debug, Clone, Copy)]
pub struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cut")
    }
}

impl std::error::Error for Cut {}

pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// The writing end of a body.
#[derive(Clone)]
pub struct Pipe(mpsc::Sender<Option<Result<Bytes, Cut>>>);

/// A body that sends what is put into its pipe, at once, and ends with the pipe's last clone.
pub fn piped() -> (Pipe, Body) {
    let (sender, receiver) = mpsc::channel(16);
    (Pipe(sender), Piped(receiver).boxed_unsync())
}

impl Pipe {
    /// Returns whether anybody still reads.
    pub async fn send(&self, bytes: impl Into<Bytes>) -> bool {
        self.0.send(Some(Ok(bytes.into()))).await.is_ok()
    }

    pub async fn cut(self) {
        let _ = self.0.send(Some(Err(Cut))).await;
    }

    /// Ends the body, though others may have a clone.
    pub async fn end(self) {
        let _ = self.0.send(None).await;
    }

    /// Resolves when nobody reads any more.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

struct Piped(mpsc::Receiver<Option<Result<Bytes, Cut>>>);

impl http_body::Body for Piped {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let next = ready!(self.0.poll_recv(cx));
        Poll::Ready(next.flatten().map(|next| next.map(Frame::data)))
    }
}

/// `total` bytes, of which one chunk exists at a time; `taken` counts those that were asked for.
pub fn long(total: u64, taken: &Arc<AtomicU64>) -> Body {
    const CHUNK: &[u8] = &[b'x'; 64 * 1024];
    Long {
        left: total,
        chunk: Bytes::from_static(CHUNK),
        taken: Arc::clone(taken),
    }
    .boxed_unsync()
}

struct Long {
    left: u64,
    chunk: Bytes,
    taken: Arc<AtomicU64>,
}

impl http_body::Body for Long {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let len = self.left.min(self.chunk.len() as u64);
        self.left -= len;
        self.taken.fetch_add(len, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(self.chunk.slice(..len as usize)))))
    }
}
