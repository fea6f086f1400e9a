//! The body of an upstream's response, whichever protocol brings it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use super::{h1, h2};

pub enum Body {
    H1(Box<h1::Bound>),
    H2 {
        body: Incoming,
        _slot: h2::Slot,
    },
    /// Driven by somebody else.
    Detached(Incoming),
}

impl Body {
    fn incoming(&self) -> &Incoming {
        match self {
            Self::H1(bound) => bound.incoming(),
            Self::H2 { body, .. } | Self::Detached(body) => body,
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::H1(bound) => bound.poll_frame(cx),
            Self::H2 { body, .. } | Self::Detached(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming().size_hint()
    }
}
