//! Requests in progress, as their connection counts them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::Connection;

/// One request in progress, from its head to the end of its response.
pub struct RequestGuard {
    connection: Arc<Connection>,
    is_event_stream: bool,
}

impl RequestGuard {
    pub fn new(connection: &Arc<Connection>) -> Self {
        connection.activity.request_begins();
        Self {
            connection: Arc::clone(connection),
            is_event_stream: false,
        }
    }

    /// Its response is one.
    pub fn is_event_stream(&mut self) {
        self.connection.activity.stream_begins();
        self.is_event_stream = true;
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        if self.is_event_stream {
            self.connection.activity.stream_ends();
        }
        self.connection.activity.request_ends();
    }
}

/// An HTTP/2 response's body, which tells its connection whether anybody takes it.
pub struct Tracked<B> {
    body: B,
    request: RequestGuard,
    /// A piece was handed over, and the next not yet asked for.
    is_waiting: bool,
}

impl<B> Tracked<B> {
    pub fn new(body: B, request: RequestGuard) -> Self {
        Self {
            body,
            request,
            is_waiting: false,
        }
    }

    fn set_waiting(&mut self, waiting: bool) {
        if waiting != self.is_waiting {
            self.is_waiting = waiting;
            let connection = &self.request.connection;
            if waiting {
                connection.activity.piece_handed();
                // A stream without a window moves nothing else that would arm the deadline.
                connection.wake();
            } else {
                connection.activity.piece_gone();
            }
        }
    }
}

impl<B> Drop for Tracked<B> {
    fn drop(&mut self) {
        self.set_waiting(false);
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
        this.set_waiting(false);
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        let more = matches!(polled, Poll::Ready(Some(Ok(_)))) && !this.body.is_end_stream();
        this.set_waiting(more);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
