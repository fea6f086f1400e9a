//! The body of an upstream's response, whichever protocol brings it.

use std::pin::Pin;
use std::task::{Context, Poll};

use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::error::Broken;
use super::{h1, h2};
use crate::deadline::{Lent, Passed};

pub struct Body {
    carrier: Carrier,
    silence: Silence,
}

/// How long nothing may come before a body's end.
enum Silence {
    Endless,
    AtMost(Duration),
    /// Somebody waits. Few bodies get here, so it takes no room in the others.
    Until(Box<Waiting>),
}

struct Waiting {
    patience: Duration,
    until: Instant,
    timer: Lent,
}

pub enum Carrier {
    H1(Box<h1::Bound>),
    H2 {
        body: Incoming,
        _slot: h2::Slot,
    },
    /// Driven by a task of its own.
    Detached(h1::Detached),
}

impl Body {
    /// Breaks it off when nothing comes for this long while somebody waits for it.
    #[must_use]
    pub fn within(mut self, patience: Duration) -> Self {
        self.silence = Silence::AtMost(patience);
        self
    }
}

impl Silence {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        if let &mut Self::AtMost(patience) = self {
            let until = Instant::now() + patience;
            let timer = Lent::take(until);
            *self = Self::Until(Box::new(Waiting {
                patience,
                until,
                timer,
            }));
        }
        let Self::Until(waiting) = self else {
            return Poll::Pending;
        };
        let passed = waiting.timer.poll(waiting.until, cx);
        passed.map(|Passed| Broken::Silent(waiting.patience))
    }

    fn end(&mut self) {
        if let Self::Until(waiting) = self {
            *self = Self::AtMost(waiting.patience);
        }
    }
}

impl From<Carrier> for Body {
    fn from(carrier: Carrier) -> Self {
        Self {
            carrier,
            silence: Silence::Endless,
        }
    }
}

impl Carrier {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self {
            Self::H1(bound) => bound.poll_frame(cx),
            Self::H2 { body, .. } => Pin::new(body).poll_frame(cx).map_err(Broken::Http2),
            Self::Detached(detached) => detached.poll_frame(cx),
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
        let polled = this.carrier.poll_frame(cx);
        if polled.is_pending() {
            return this.silence.poll(cx).map(|error| Some(Err(error)));
        }
        this.silence.end();
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.carrier {
            Carrier::H1(bound) => bound.decoder().is_done(),
            Carrier::H2 { body, .. } => body.is_end_stream(),
            Carrier::Detached(detached) => detached.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.carrier {
            Carrier::H1(bound) => bound
                .decoder()
                .remaining()
                .map_or_else(SizeHint::default, SizeHint::with_exact),
            Carrier::H2 { body, .. } => body.size_hint(),
            Carrier::Detached(_) => SizeHint::default(),
        }
    }
}
