//! The body of an upstream's response, whichever protocol brings it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::Instant;

use super::error::Broken;
use super::pool::Pool;
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

enum Carrier {
    H1 {
        bound: Box<h1::Bound>,
        /// Gets the connection at the body's end.
        pool: Arc<Pool>,
    },
    H2(h2::Body),
    /// Driven by a task of its own.
    Detached(h1::Detached),
    /// Its beginning has been looked at.
    Seen(Box<Seen>),
}

struct Seen {
    read: Bytes,
    /// Why there was no more.
    error: Option<Broken>,
    rest: Carrier,
}

impl Body {
    pub(super) fn of_h1(body: h1::Body, pool: &Arc<Pool>) -> Self {
        let carrier = match body {
            h1::Body::Bound(mut bound) => {
                give_back(&mut bound, pool);
                let pool = Arc::clone(pool);
                Carrier::H1 { bound, pool }
            }
            h1::Body::Detached(detached) => Carrier::Detached(detached),
        };
        carrier.into()
    }

    pub(super) fn of_h2(body: h2::Body) -> Self {
        Carrier::H2(body).into()
    }

    /// Its beginning: `most` bytes or a little more, unless it ends before or the time is over.
    /// All of it is still to be read.
    pub async fn peek(mut self, most: usize, patience: Duration) -> (Bytes, Self) {
        let (mut read, mut error) = (BytesMut::new(), None);
        let reading = async {
            while read.len() < most {
                match self.frame().await {
                    Some(Ok(frame)) => {
                        if let Some(data) = frame.data_ref() {
                            read.extend_from_slice(data);
                        }
                    }
                    Some(Err(broken)) => {
                        error = Some(broken);
                        return;
                    }
                    None => return,
                }
            }
        };
        let _ = tokio::time::timeout(patience, reading).await;
        let (read, rest) = (read.freeze(), self.carrier);
        let seen = Seen {
            read: read.clone(),
            error,
            rest,
        };
        (read, Carrier::Seen(Box::new(seen)).into())
    }

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
            Self::H1 { bound, pool } => {
                let frame = ready!(bound.poll_frame(cx));
                give_back(bound, pool);
                Poll::Ready(frame)
            }
            Self::H2(body) => Pin::new(&mut body.incoming)
                .poll_frame(cx)
                .map_err(Broken::Http2),
            Self::Detached(detached) => detached.poll_frame(cx),
            Self::Seen(seen) if !seen.read.is_empty() => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut seen.read)))))
            }
            Self::Seen(seen) => match seen.error.take() {
                Some(error) => Poll::Ready(Some(Err(error))),
                None => seen.rest.poll_frame(cx),
            },
        }
    }
}

impl Carrier {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::H1 { bound, .. } => bound.decoder().is_done(),
            Self::H2(body) => body.incoming.is_end_stream(),
            Self::Detached(detached) => detached.is_over(),
            Self::Seen(seen) => {
                seen.read.is_empty() && seen.error.is_none() && seen.rest.is_end_stream()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::H1 { bound, .. } => bound
                .decoder()
                .remaining()
                .map_or_else(SizeHint::default, SizeHint::with_exact),
            Self::H2(body) => body.incoming.size_hint(),
            Self::Detached(_) | Self::Seen(_) => SizeHint::default(),
        }
    }
}

fn give_back(bound: &mut h1::Bound, pool: &Pool) {
    if let Some(connection) = bound.release() {
        pool.put_h1(connection);
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
        self.carrier.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.carrier.size_hint()
    }
}
