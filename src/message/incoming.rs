//! A request's body as its client sends it, whichever protocol that speaks.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::BodyError;

pub enum Incoming {
    /// Nothing comes behind the head.
    None,
    H1(FromLine),
    H2(hyper::body::Incoming),
}

/// A connection that carries bodies, one at a time. Whoever asks for one that is
/// not the current one any more is told that it is over.
pub trait Pieces: Send + Sync {
    fn poll_piece(
        &self,
        serial: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>>;

    /// How much is still to come, if that is known.
    fn remaining(&self, serial: u64) -> Option<u64>;

    /// Nobody will ask any more.
    fn leave(&self, serial: u64);
}

/// The body with the number `serial` among those of its connection.
pub struct FromLine {
    line: Arc<dyn Pieces>,
    serial: u64,
}

impl Incoming {
    pub fn from_line(line: Arc<dyn Pieces>, serial: u64) -> Self {
        Self::H1(FromLine { line, serial })
    }
}

impl Drop for FromLine {
    fn drop(&mut self) {
        self.line.leave(self.serial);
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::None => Poll::Ready(None),
            Self::H1(body) => {
                let polled = body.line.poll_piece(body.serial, cx);
                polled.map(|piece| piece.map(|piece| piece.map(Frame::data)))
            }
            Self::H2(body) => {
                let polled = Pin::new(body).poll_frame(cx);
                polled.map(|frame| frame.map(|frame| frame.map_err(|_| BodyError::Cut)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::H1(body) => body.line.remaining(body.serial) == Some(0),
            Self::H2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::None => SizeHint::with_exact(0),
            Self::H1(body) => {
                let remaining = body.line.remaining(body.serial);
                remaining.map_or_else(SizeHint::new, SizeHint::with_exact)
            }
            Self::H2(body) => body.size_hint(),
        }
    }
}
