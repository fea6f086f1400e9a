//! A response body that tells its connection when it ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::Connection;

pub struct Tracked<B> {
    body: B,
    _request: RequestGuard,
}

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

    pub fn follow<B>(mut self, body: B, is_event_stream: bool) -> Tracked<B> {
        if is_event_stream {
            self.connection.activity.stream_begins();
            self.is_event_stream = true;
        }
        Tracked {
            body,
            _request: self,
        }
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

impl<B: Body<Data = Bytes> + Unpin> Body for Tracked<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
