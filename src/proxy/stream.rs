//! Event streams: kept alive while silent, made up where an upstream has none, ended cleanly on drain.

mod endpoint;
mod place;
mod recover;
mod right;

pub use endpoint::Endpoint;
pub use recover::Reopening;
pub use right::Right;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use self::recover::{Gone, Passed, Recovery};
use super::Call;
use super::broken::Broken;
use super::lens::{Lens, Reader};
use crate::client;
use crate::config::SseFallback;
use crate::mcp;
use crate::message::is_media_type;
use crate::snapshot::Upstream;

/// Clients give silent streams up after 30 s and more.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE: Bytes = Bytes::from_static(b":keepalive\n\n");
const OPENING: Bytes = Bytes::from_static(b":ok\n\n");

/// Whether, and on which answers, a client's GET is given a stream of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    Never,
    Always,
    /// On 405 and 501, and on 404 where the client has no session that could be gone.
    OnRefusal {
        without_session: bool,
    },
}

impl Fallback {
    pub fn for_request(call: &Call<'_>, upstream: &Upstream) -> Self {
        let headers = &call.head.headers;
        if !mcp::asks_for_legacy_stream(&call.head.method, headers) {
            return Self::Never;
        }
        match upstream.config.sse_fallback {
            SseFallback::Never => Self::Never,
            SseFallback::Always => Self::Always,
            // Whoever resumes a stream waits for its answer, and would wait on ours for ever.
            SseFallback::Auto if headers.contains_key("last-event-id") => Self::Never,
            SseFallback::Auto => Self::OnRefusal {
                without_session: !mcp::has_session(headers),
            },
        }
    }

    pub fn is_always(self) -> bool {
        self == Self::Always
    }

    pub fn replaces(self, status: StatusCode) -> bool {
        match (self, status) {
            (
                Self::OnRefusal { .. },
                StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED,
            ) => true,
            (Self::OnRefusal { without_session }, StatusCode::NOT_FOUND) => without_session,
            _ => false,
        }
    }
}

/// A stream that has nothing to say, for clients that insist on one.
pub fn local(draining: &CancellationToken) -> Response<Events> {
    let mut response = Response::new(Events::new(None, true, draining));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-transform"),
    );
    response
}

/// An upstream's stream, passed on.
pub fn passing(
    body: client::Body,
    method: &Method,
    endpoint: Endpoint,
    lens: Option<Box<Lens>>,
    draining: &CancellationToken,
) -> Events {
    // A POST's stream ends with its answer, which a drain waits for; a GET's never would.
    let is_endless = method == Method::GET;
    let mut events = Events::new(Some(body), is_endless, draining);
    events.endpoint = is_endless.then(|| Box::new(endpoint));
    events.reader = lens.map(|lens| Box::new(Reader::new(lens)));
    events
}

pub fn is_event_stream(headers: &HeaderMap) -> bool {
    is_media_type(headers.get(header::CONTENT_TYPE), "text/event-stream")
}

/// Whether comments may be added: to an event stream in clear, of no announced length.
pub fn can_be_kept_alive(headers: &HeaderMap) -> bool {
    is_event_stream(headers)
        && !headers.contains_key(header::CONTENT_LENGTH)
        && headers
            .get(header::CONTENT_ENCODING)
            .is_none_or(|encoding| encoding == "identity")
}

pub struct Events {
    /// `None` for a stream of our own.
    upstream: Option<client::Body>,
    opening: Option<Bytes>,
    /// Until the first event with data of a GET's stream has been seen.
    endpoint: Option<Box<Endpoint>>,
    /// Looks at each event, where something has to be seen.
    reader: Option<Box<Reader>>,
    /// Where the stream is to go on when the upstream ends it.
    recovery: Option<Box<Recovery>>,
    boundary: Boundary,
    last_sent: Instant,
    silence: Pin<Box<Sleep>>,
    /// Resolves when the daemon drains; only for streams that never end by themselves.
    draining: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    is_draining: bool,
    /// The upstream's end has been seen, but not yet told.
    is_over: bool,
}

type Polled = Poll<Option<Result<Frame<Bytes>, Broken>>>;

impl Events {
    fn new(upstream: Option<client::Body>, is_endless: bool, draining: &CancellationToken) -> Self {
        Self {
            opening: upstream.is_none().then_some(OPENING),
            upstream,
            endpoint: None,
            reader: None,
            recovery: None,
            boundary: Boundary::default(),
            last_sent: Instant::now(),
            silence: Box::pin(tokio::time::sleep(KEEPALIVE_INTERVAL)),
            draining: is_endless.then(|| Box::pin(draining.clone().cancelled_owned())),
            is_draining: false,
            is_over: false,
        }
    }

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Polled {
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Some(opening) = self.opening.take() {
            return Poll::Ready(Some(Ok(Frame::data(opening))));
        }
        if let Poll::Ready(frame) = self.poll_upstream(cx) {
            return Poll::Ready(frame);
        }
        if self.boundary.is_between_events() && self.poll_draining(cx) {
            // Nothing of an event is on its way: the client sees a clean end and reconnects.
            self.upstream = None;
            self.recovery = None;
            return Poll::Ready(None);
        }
        self.poll_silence(cx)
    }

    /// From now on the stream is opened again when the upstream ends it.
    pub(super) fn recover(&mut self, reopening: Box<Reopening>) {
        self.recovery = Some(Box::new(Recovery::new(reopening)));
    }

    fn poll_upstream(&mut self, cx: &mut Context<'_>) -> Polled {
        loop {
            let Some(upstream) = &mut self.upstream else {
                match ready!(self.poll_reopening(cx)) {
                    Ok(body) => self.upstream = Some(body),
                    Err(end) => return Poll::Ready(self.finish(end)),
                }
                continue;
            };
            let polled = match Pin::new(upstream).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match self.look(frame).transpose() {
                    Some(frame) => Some(frame),
                    None => continue,
                },
                Poll::Ready(end) => {
                    let end = end.and_then(Result::err);
                    if let Some(recovery) = &mut self.recovery {
                        recovery.begin(end);
                        if let Some(endpoint) = &mut self.endpoint {
                            endpoint.begin();
                        }
                        self.upstream = None;
                        continue;
                    }
                    self.finish(end)
                }
                Poll::Pending => return Poll::Pending,
            };
            if let Some(Ok(frame)) = &polled
                && let Some(data) = frame.data_ref()
            {
                self.boundary.pass(data);
                self.last_sent = Instant::now();
            }
            return Poll::Ready(polled);
        }
    }

    /// The upstream's stream, open again, or how it ended if it stays so.
    fn poll_reopening(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<client::Body, Option<client::Broken>>> {
        let Some(recovery) = &mut self.recovery else {
            return Poll::Pending;
        };
        let outcome = ready!(recovery.poll(cx));
        if outcome.is_err() {
            self.recovery = None;
        }
        Poll::Ready(outcome.map_err(|Gone(end)| end))
    }

    /// The frame to pass on, unless it is held until an event is complete.
    fn look(&mut self, frame: Frame<Bytes>) -> Result<Option<Frame<Bytes>>, Broken> {
        let mut data = match frame.into_data() {
            Ok(data) => data,
            Err(trailers) => return Ok(self.recovery.is_none().then_some(trailers)),
        };
        if let Some(endpoint) = &mut self.endpoint {
            match endpoint.look(&data) {
                endpoint::Seen::Begun(seen) => data = seen,
                endpoint::Seen::Done(seen) => {
                    data = seen;
                    self.endpoint = None;
                }
            }
        }
        if let Some(recovery) = &mut self.recovery {
            match recovery.pass(&data) {
                Passed::Events(events) => data = events,
                Passed::TooMuch(held) => {
                    self.recovery = None;
                    data = held;
                }
            }
        }
        if let Some(reader) = &mut self.reader {
            data = reader.pass(&data).map_err(|_| Broken::Unfiltered)?;
        }
        Ok((!data.is_empty()).then(|| Frame::data(data)))
    }

    /// What is left when the upstream has ended: how, or an event that never became complete.
    fn finish(&mut self, end: Option<client::Broken>) -> Option<Result<Frame<Bytes>, Broken>> {
        if let Some(error) = end {
            return Some(Err(Broken::Upstream(error)));
        }
        let reader = *self.reader.take()?;
        let rest = reader.finish()?;
        self.is_over = true;
        Some(Ok(Frame::data(rest)))
    }

    fn poll_draining(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(draining) = &mut self.draining
            && !self.is_draining
        {
            self.is_draining = draining.as_mut().poll(cx).is_ready();
        }
        self.is_draining
    }

    /// The timer is moved only when it fires: most streams are busy or closed long before.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Polled {
        while self.silence.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let due = self.last_sent + KEEPALIVE_INTERVAL;
            if now < due {
                self.silence.as_mut().reset(due);
                continue;
            }
            self.silence.as_mut().reset(now + KEEPALIVE_INTERVAL);
            if self.boundary.is_between_events() {
                self.last_sent = now;
                return Poll::Ready(Some(Ok(Frame::data(KEEPALIVE))));
            }
        }
        Poll::Pending
    }
}

/// Whether a stream of events is between two of them: where a comment disturbs nothing.
///
/// An event ends with an empty line, after any of the three line ends (WHATWG
/// HTML, section 9.2.5).
#[derive(Debug, Default)]
pub struct Boundary {
    /// The last four bytes, latest last; zeros before the first.
    tail: [u8; 4],
}

impl Boundary {
    pub fn pass(&mut self, data: &[u8]) {
        let keep = data.len().min(4);
        self.tail.rotate_left(keep);
        self.tail[4 - keep..].copy_from_slice(&data[data.len() - keep..]);
    }

    pub fn is_between_events(&self) -> bool {
        matches!(
            self.tail,
            [0, 0, 0, 0] | [.., b'\n', b'\n'] | [.., b'\r', b'\r'] | [.., b'\n', b'\r', b'\n']
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(chunks: &[&str]) -> bool {
        let mut boundary = Boundary::default();
        for chunk in chunks {
            boundary.pass(chunk.as_bytes());
        }
        boundary.is_between_events()
    }

    #[test]
    fn between_events_is_after_an_empty_line_however_the_bytes_are_cut() {
        for chunks in [
            &[][..],
            &["data: 1\n\n"],
            &["data: 1\n", "\n"],
            &["data: 1\r\n\r\n"],
            &["data: 1\r", "\n", "\r", "\n"],
            &["data: 1\r\r"],
            &[":ok\n\n", "data: 2\n\n"],
        ] {
            assert!(between(chunks), "{chunks:?}");
        }
    }

    #[test]
    fn inside_an_event_is_everywhere_else() {
        for chunks in [
            &["d"][..],
            &["data: 1"],
            &["data: 1\n"],
            &["data: 1\r\n"],
            &["data: 1\r\n\r"],
            &["data: 1\n\n", "data: 2\n"],
            &["\n\nid"],
        ] {
            assert!(!between(chunks), "{chunks:?}");
        }
    }

    #[test]
    fn a_stream_is_made_up_only_on_the_refusals_of_servers_that_have_none() {
        let auto = Fallback::OnRefusal {
            without_session: true,
        };
        for status in [404, 405, 501] {
            assert!(auto.replaces(StatusCode::from_u16(status).unwrap()));
        }
        for status in [200, 400, 401, 403, 500, 503] {
            assert!(!auto.replaces(StatusCode::from_u16(status).unwrap()));
        }
        let in_session = Fallback::OnRefusal {
            without_session: false,
        };
        assert!(!in_session.replaces(StatusCode::NOT_FOUND));
        assert!(in_session.replaces(StatusCode::METHOD_NOT_ALLOWED));
        assert!(!Fallback::Never.replaces(StatusCode::METHOD_NOT_ALLOWED));
    }
}
