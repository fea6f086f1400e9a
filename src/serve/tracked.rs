//! A response body that tells its connection when it ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::Connection;

pub struct Tracked<B> {
    body: B,
    request: RequestGuard,
}

/// One request in progress, from its head to the end of its response.
pub struct RequestGuard {
    connection: Arc<Connection>,
    is_event_stream: bool,
    is_http2: bool,
    /// A piece was handed over, and the next not yet asked for.
    is_waiting: bool,
}

impl RequestGuard {
    pub fn new(connection: &Arc<Connection>, is_http2: bool) -> Self {
        connection.activity.request_begins();
        Self {
            connection: Arc::clone(connection),
            is_event_stream: false,
            is_http2,
            is_waiting: false,
        }
    }

    pub fn follow<B>(mut self, body: B, is_event_stream: bool) -> Tracked<B> {
        if is_event_stream {
            self.connection.activity.stream_begins();
            self.is_event_stream = true;
        }
        Tracked {
            body,
            request: self,
        }
    }
}

impl RequestGuard {
    fn set_waiting(&mut self, waiting: bool) {
        if waiting != self.is_waiting {
            self.is_waiting = waiting;
            if waiting {
                self.connection.activity.piece_handed();
                if self.is_http2 {
                    // A stream without a window moves nothing else that would arm the deadline.
                    self.connection.wake();
                }
            } else {
                self.connection.activity.piece_gone();
            }
        }
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.set_waiting(false);
        if self.is_event_stream {
            self.connection.activity.stream_ends();
        }
        self.connection.activity.request_ends();
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Tracked<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        this.request.set_waiting(false);
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        let more = matches!(polled, Poll::Ready(Some(Ok(_)))) && !this.body.is_end_stream();
        this.request.set_waiting(more);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
