//! Where a response's bytes come from: the upstream, or ourselves.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::broken::Broken;
use super::session::Watched;
use super::stream::{Events, Reopening};
use crate::client;

pub enum Source {
    Full(Option<Bytes>),
    Upstream(client::Body),
    /// What was read already, then the rest.
    Rest(Option<Bytes>, client::Body),
    Events(Box<Events>),
    Opening(Box<Watched>),
}

impl Source {
    pub fn events(events: Events) -> Self {
        Self::Events(Box::new(events))
    }

    /// From now on a stream is opened again when the upstream ends it.
    pub(super) fn recover(&mut self, reopening: Box<Reopening>) {
        if let Self::Events(events) = self {
            events.recover(reopening);
        }
    }

    pub fn text(text: impl Into<Bytes>) -> Self {
        Self::Full(Some(text.into()).filter(|text: &Bytes| !text.is_empty()))
    }

    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Rest(read @ Some(_), _) => {
                Poll::Ready(read.take().map(|bytes| Ok(Frame::data(bytes))))
            }
            Self::Upstream(body) | Self::Rest(None, body) => {
                Pin::new(body).poll_frame(cx).map_err(Broken::Upstream)
            }
            Self::Events(events) => events.poll_frame(cx),
            Self::Opening(watched) => watched.poll_frame(cx),
        }
    }

    pub fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_none(),
            Self::Upstream(body) | Self::Rest(None, body) => body.is_end_stream(),
            Self::Rest(Some(_), _) | Self::Events(_) => false,
            Self::Opening(watched) => watched.inner().is_end_stream(),
        }
    }

    pub fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Upstream(body) => body.size_hint(),
            Self::Rest(read, body) => {
                longer(&body.size_hint(), read.as_ref().map_or(0, Bytes::len))
            }
            Self::Events(_) => SizeHint::default(),
            Self::Opening(watched) => watched.inner().size_hint(),
        }
    }
}

fn longer(rest: &SizeHint, by: usize) -> SizeHint {
    let by = by as u64;
    let mut hint = SizeHint::new();
    hint.set_lower(rest.lower() + by);
    if let Some(upper) = rest.upper() {
        hint.set_upper(upper + by);
    }
    hint
}
