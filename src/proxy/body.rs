//! What the client reads: from the upstream, from ourselves, and counted on the way.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::exchange::{Exchange, Outcome};
use super::stream::Events;
use crate::client;

/// Where a response's bytes come from.
pub enum Source {
    Full(Option<Bytes>),
    Upstream(client::Body),
    Events(Box<Events>),
}

impl Source {
    pub fn text(text: impl Into<Bytes>) -> Self {
        Self::Full(Some(text.into()).filter(|text: &Bytes| !text.is_empty()))
    }
}

/// A response body with the record of its request.
pub struct Body {
    source: Source,
    exchange: Exchange,
}

impl Body {
    pub fn new(source: Source, mut exchange: Exchange) -> Self {
        // hyper does not poll a body that is over before it begins.
        if source.is_end_stream() {
            exchange.ended(Outcome::Complete);
        }
        Self { source, exchange }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let polled = this.source.poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                this.exchange.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
                if this.source.is_end_stream() {
                    this.exchange.ended(Outcome::Complete);
                }
            }
            Poll::Ready(Some(Err(_))) => this.exchange.ended(Outcome::UpstreamCut),
            Poll::Ready(None) => this.exchange.ended(Outcome::Complete),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Source::Upstream(body) => body.size_hint(),
            Source::Events(_) => SizeHint::default(),
        }
    }
}

impl Source {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Upstream(body) => Pin::new(body).poll_frame(cx),
            Self::Events(events) => events.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_none(),
            Self::Upstream(body) => body.is_end_stream(),
            Self::Events(_) => false,
        }
    }
}
