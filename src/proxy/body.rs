//! What the client reads, counted on the way.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::broken::Broken;
use super::exchange::{Exchange, Outcome};
use super::source::Source;

/// A response body with the record of its request.
pub struct Body {
    source: Source,
    exchange: Exchange,
    /// Bytes that an answer of a known length still owes: whoever has them all asks for no more.
    owed: Option<u64>,
    /// The upstream broke off; told at the next poll.
    broken: Option<Broken>,
}

impl Body {
    /// Joins a response and the record of its request.
    pub fn follow(response: Response<Source>, exchange: Exchange) -> Response<Self> {
        response.map(|source| Self::new(source, exchange))
    }

    fn new(source: Source, mut exchange: Exchange) -> Self {
        // hyper does not poll a body that is over before it begins.
        if source.is_end_stream() {
            exchange.ended(Outcome::Complete);
        }
        Self {
            owed: source.size_hint().exact(),
            source,
            exchange,
            broken: None,
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let polled = this.source.poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                if let Some(data) = frame.data_ref() {
                    this.exchange.passes(data);
                }
                this.owed = this.owed.map(|owed| owed.saturating_sub(length));
                if this.owed == Some(0) || this.source.is_end_stream() {
                    this.exchange.ended(Outcome::Complete);
                }
            }
            Poll::Ready(Some(Err(_))) => this.exchange.ended(Outcome::UpstreamCut),
            Poll::Ready(None) => this.exchange.ended(Outcome::Complete),
            Poll::Pending => {}
        }
        match polled {
            // hyper drops what it has not yet sent when it hears of the break: what had come,
            // an event perhaps, must leave first.
            Poll::Ready(Some(Err(error))) => {
                this.broken = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            polled => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}
