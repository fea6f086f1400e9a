//! Where a response's bytes come from: the upstream, or ourselves.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::session::Watched;
use super::stream::Events;
use crate::client;

pub enum Source {
    Full(Option<Bytes>),
    Upstream(client::Body),
    Events(Box<Events>),
    Opening(Box<Watched>),
}

impl Source {
    pub fn events(events: Events) -> Self {
        Self::Events(Box::new(events))
    }

    pub fn text(text: impl Into<Bytes>) -> Self {
        Self::Full(Some(text.into()).filter(|text: &Bytes| !text.is_empty()))
    }

    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Upstream(body) => Pin::new(body).poll_frame(cx),
            Self::Events(events) => events.poll_frame(cx),
            Self::Opening(watched) => watched.poll_frame(cx),
        }
    }

    pub fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_none(),
            Self::Upstream(body) => body.is_end_stream(),
            Self::Events(_) => false,
            Self::Opening(watched) => watched.inner().is_end_stream(),
        }
    }

    pub fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Upstream(body) => body.size_hint(),
            Self::Events(_) => SizeHint::default(),
            Self::Opening(watched) => watched.inner().size_hint(),
        }
    }
}
