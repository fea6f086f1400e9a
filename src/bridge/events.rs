//! A response's events, one at a time, none larger than a message may be.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http_body::Body as _;
use sse_stream::{Sse, SseByteStream};

use super::MAX_MESSAGE;
use crate::client::{self, Body};

pub struct Events {
    stream: SseByteStream<Pieces>,
    /// Bytes read since the last event: the parser itself would collect without end.
    unparsed: Arc<AtomicUsize>,
}

impl Events {
    pub fn new(body: Body) -> Self {
        let unparsed = Arc::new(AtomicUsize::new(0));
        let pieces = Pieces {
            body,
            unparsed: Arc::clone(&unparsed),
        };
        Self {
            stream: SseByteStream::new(pieces),
            unparsed,
        }
    }

    /// `None` at the stream's end, orderly or not.
    pub async fn next(&mut self) -> Option<Sse> {
        let event = self.stream.next().await?.ok()?;
        self.unparsed.store(0, Ordering::Relaxed);
        Some(event)
    }
}

/// The message in an event; `None` for events without one, such as those that only set an id.
pub fn message(event: &mut Sse) -> Option<Bytes> {
    let is_message = event
        .event
        .as_deref()
        .is_none_or(|kind| kind.is_empty() || kind == "message");
    let data = event
        .data
        .take()
        .filter(|data| is_message && !data.is_empty())?;
    Some(Bytes::from(data))
}

struct Pieces {
    body: Body,
    unparsed: Arc<AtomicUsize>,
}

/// Why there are no more events.
#[derive(Debug)]
enum Cut {
    TooLarge,
    Broken(client::Broken),
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLarge => f.write_str("an event is larger than a message may be"),
            Self::Broken(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Cut {}

impl Stream for Pieces {
    type Item = Result<Bytes, Cut>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(Cut::Broken(error)))),
                Some(Ok(frame)) => frame,
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let unparsed = self.unparsed.fetch_add(data.len(), Ordering::Relaxed) + data.len();
            // The fields around the data and one more frame are not the message's fault.
            if unparsed > MAX_MESSAGE + 1024 * 1024 {
                return Poll::Ready(Some(Err(Cut::TooLarge)));
            }
            return Poll::Ready(Some(Ok(data)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_message_events_carry_messages() {
        let mut plain = Sse::default().data("{}");
        assert_eq!(message(&mut plain).as_deref(), Some(&b"{}"[..]));
        let mut named = Sse::default().event("message").data("{}");
        assert!(message(&mut named).is_some());
        let mut other = Sse::default().event("endpoint").data("/messages");
        assert!(message(&mut other).is_none());
        let mut priming = Sse::default().id("7").data("");
        assert!(message(&mut priming).is_none());
    }
}
