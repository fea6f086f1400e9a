//! The body of an upstream's response, whichever protocol brings it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use super::error::Broken;
use super::{h1, h2};

pub enum Body {
    H1(Box<h1::Bound>),
    H2 {
        body: Incoming,
        _slot: h2::Slot,
    },
    /// Driven by a task of its own.
    Detached(h1::Detached),
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::H1(bound) => bound.poll_frame(cx),
            Self::H2 { body, .. } => Pin::new(body).poll_frame(cx).map_err(Broken::Http2),
            Self::Detached(detached) => detached.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::H1(bound) => bound.decoder().is_done(),
            Self::H2 { body, .. } => body.is_end_stream(),
            Self::Detached(detached) => detached.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::H1(bound) => bound
                .decoder()
                .remaining()
                .map_or_else(SizeHint::default, SizeHint::with_exact),
            Self::H2 { body, .. } => body.size_hint(),
            Self::Detached(_) => SizeHint::default(),
        }
    }
}
