//! HTTP words shared by both sides: request bodies, hop-by-hop removal, limited reads.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::{Instant, Sleep};

mod incoming;

pub use incoming::{Incoming, Pieces};

/// Why a request body ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// More bytes than `max_body`.
    TooLarge,
    /// No byte within the read timeout.
    Stalled,
    /// The client closed or broke its connection.
    Cut,
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the request body is larger than max_body",
            Self::Stalled => "the client stopped sending its request body",
            Self::Cut => "the client broke off its request body",
        })
    }
}

impl std::error::Error for BodyError {}

/// A request body on its way to the upstream.
pub enum RequestBody {
    /// Known whole: can be sent again.
    Full(Option<Bytes>),
    /// Read from the client as the upstream takes it: can be sent once.
    Stream(Box<Upload>),
    /// A stream that was sent.
    Gone,
}

impl RequestBody {
    pub fn empty() -> Self {
        Self::Full(None)
    }

    pub fn full(bytes: Bytes) -> Self {
        Self::Full((!bytes.is_empty()).then_some(bytes))
    }

    /// The bytes, if they are all there; `None` too for a body without any.
    pub fn whole(&self) -> Option<&Bytes> {
        match self {
            Self::Full(bytes) => bytes.as_ref(),
            Self::Stream(_) | Self::Gone => None,
        }
    }

    /// The body for one attempt. What is known whole stays for another.
    pub fn take(&mut self) -> Self {
        match self {
            Self::Full(bytes) => Self::Full(bytes.clone()),
            Self::Stream(_) | Self::Gone => std::mem::replace(self, Self::Gone),
        }
    }

    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone)
    }

    /// How the upload fares, for whoever has to explain a failed exchange. `None` for whole bodies.
    pub fn progress(&self) -> Option<Progress> {
        match self {
            Self::Full(_) | Self::Gone => None,
            Self::Stream(upload) => Some(upload.progress()),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(upload) => upload.poll_frame(cx),
            Self::Gone => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_none(),
            Self::Stream(upload) => upload.prefix.is_empty() && upload.rest.is_end_stream(),
            Self::Gone => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Stream(upload) => upload.size_hint(),
            Self::Gone => SizeHint::with_exact(0),
        }
    }
}

/// A body being passed on while it arrives: what was read ahead, then the rest.
pub struct Upload {
    prefix: Bytes,
    rest: Incoming,
    /// Bytes that may still come before the body is too large.
    allowance: u64,
    stall: StallTimer,
    progress: Progress,
}

impl Upload {
    /// `prefix` was read from the front of `rest` and counts against `max_body`.
    pub fn new(prefix: Bytes, rest: Incoming, max_body: u64, stall: Duration) -> Self {
        let progress = Progress::default();
        progress.received(prefix.len() as u64);
        Self {
            allowance: max_body.saturating_sub(prefix.len() as u64),
            prefix,
            rest,
            stall: StallTimer::new(stall),
            progress,
        }
    }

    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.prefix.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.prefix)))));
        }
        let polled = match Pin::new(&mut self.rest).poll_frame(cx) {
            Poll::Pending => {
                ready!(self.stall.poll(cx));
                Some(Err(BodyError::Stalled))
            }
            // Trailers end a body and go no further: they would bring past us every header
            // that is dropped from a head (RFC 9110, section 6.5.1).
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => None,
            Poll::Ready(frame) => {
                self.stall.reset();
                frame.map(|frame| self.admit(frame))
            }
        };
        match &polled {
            None => self.progress.done(),
            Some(Ok(_)) if self.rest.is_end_stream() => self.progress.done(),
            Some(Ok(_)) => self.progress.moved(),
            Some(Err(error)) => self.progress.fail(*error),
        }
        Poll::Ready(polled)
    }

    fn admit(&mut self, frame: Result<Frame<Bytes>, BodyError>) -> Result<Frame<Bytes>, BodyError> {
        let frame = frame?;
        let len = frame.data_ref().map_or(0, Bytes::len) as u64;
        self.progress.received(len);
        self.allowance = self.allowance.checked_sub(len).ok_or(BodyError::TooLarge)?;
        Ok(frame)
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = self.prefix.len() as u64;
        let mut hint = SizeHint::new();
        let rest = self.rest.size_hint();
        hint.set_lower(rest.lower() + ahead);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + ahead);
        }
        hint
    }
}

/// Shared view of an [`Upload`] that has been handed to a connection.
#[derive(Clone, Default)]
pub struct Progress(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: AtomicU8,
    frames: AtomicU64,
    bytes: AtomicU64,
}

impl Progress {
    const DONE: u8 = 1;

    pub fn is_done(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == Self::DONE
    }

    /// Grows with every piece that the upstream takes.
    pub fn frames(&self) -> u64 {
        self.0.frames.load(Ordering::Acquire)
    }

    /// What came of the body so far.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Why the client's side of the upload failed, if it did.
    pub fn error(&self) -> Option<BodyError> {
        match self.0.state.load(Ordering::Acquire) {
            2 => Some(BodyError::TooLarge),
            3 => Some(BodyError::Stalled),
            4 => Some(BodyError::Cut),
            _ => None,
        }
    }

    fn received(&self, bytes: u64) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn moved(&self) {
        self.0.frames.fetch_add(1, Ordering::AcqRel);
    }

    fn done(&self) {
        self.0.state.store(Self::DONE, Ordering::Release);
    }

    fn fail(&self, error: BodyError) {
        let state = match error {
            BodyError::TooLarge => 2,
            BodyError::Stalled => 3,
            BodyError::Cut => 4,
        };
        self.0.state.store(state, Ordering::Release);
    }
}

/// Fires when nothing happened for a while; costs nothing until somebody waits.
pub struct StallTimer {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    armed: bool,
}

impl StallTimer {
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            sleep: None,
            armed: false,
        }
    }

    pub fn reset(&mut self) {
        self.armed = false;
    }

    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if !self.armed {
            sleep.as_mut().reset(Instant::now() + limit);
            self.armed = true;
        }
        sleep.as_mut().poll(cx)
    }
}

/// The front of a body, read up to a limit.
pub enum ReadAhead {
    Whole(Bytes),
    /// There is more than the limit; this much has been read.
    Part(Bytes),
}

/// Reads `body` until its end or until more than `limit` bytes have come.
///
/// # Errors
/// [`BodyError::Stalled`] when no byte comes within `stall`, [`BodyError::Cut`] when the client breaks off.
pub async fn read_ahead(
    body: &mut Incoming,
    limit: usize,
    stall: Duration,
) -> Result<ReadAhead, BodyError> {
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    while !body.is_end_stream() {
        let frame = tokio::time::timeout(stall, body.frame())
            .await
            .map_err(|_| BodyError::Stalled)?;
        let Some(frame) = frame else { break };
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        // Most bodies arrive in one piece: keep it as it is.
        if first.is_empty() && more.is_empty() {
            first = data;
        } else {
            if more.is_empty() {
                more.extend_from_slice(&first);
            }
            more.extend_from_slice(&data);
        }
        if first.len().max(more.len()) > limit {
            return Ok(ReadAhead::Part(if more.is_empty() {
                first
            } else {
                more.freeze()
            }));
        }
    }
    Ok(ReadAhead::Whole(if more.is_empty() {
        first
    } else {
        more.freeze()
    }))
}

/// Removes what concerns one connection only (RFC 9110, section 7.6.1).
///
/// `Connection` may come in several lines, and each may name further headers.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    remove(headers, is_hop_by_hop);
}

/// Removes what `Connection` names, in all of its lines, and what `is_dropped` picks.
pub fn remove(headers: &mut HeaderMap, is_dropped: impl Fn(&HeaderName) -> bool) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<_> = connection_options(headers)
            .filter_map(|option| HeaderName::from_bytes(option).ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    let dropped: Vec<_> = headers
        .keys()
        .filter(|name| is_dropped(name))
        .cloned()
        .collect();
    for name in dropped {
        headers.remove(name);
    }
}

/// Whether a header concerns one connection only, whatever `Connection` says.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION
            | header::PROXY_AUTHENTICATE
            | header::TE
            | header::TRAILER
            | header::TRANSFER_ENCODING
            | header::UPGRADE
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// Why a message's end could be found in two places (RFC 9112, section 6.3), if it could.
///
/// Stricter than the RFC: the same length twice, `gzip, chunked` and `chunked, chunked` are
/// well-formed, and what servers are known to disagree on.
pub fn framing_fault(headers: &HeaderMap) -> Option<&'static str> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let (length, coding) = (lengths.next(), codings.next());
    let is_number = |value: &HeaderValue| value.as_bytes().iter().all(u8::is_ascii_digit);
    let is_chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    if length.is_some() && coding.is_some() {
        Some("it has both Content-Length and Transfer-Encoding")
    } else if lengths.next().is_some() || !length.is_none_or(is_number) {
        Some("its Content-Length is not one number")
    } else if codings.next().is_some() || !coding.is_none_or(is_chunked) {
        Some("it has another Transfer-Encoding than chunked")
    } else {
        None
    }
}

/// What every `Connection` line lists, as bytes: one that is no text would hide its neighbours otherwise.
pub fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

/// Whether a connection goes on after a message with these headers (RFC 9112, section 9.3).
pub fn persists(headers: &HeaderMap, is_http11: bool) -> bool {
    if !headers.contains_key(header::CONNECTION) {
        return is_http11;
    }
    let says = |option: &str| {
        connection_options(headers).any(|item| item.eq_ignore_ascii_case(option.as_bytes()))
    };
    !says("close") && (is_http11 || says("keep-alive"))
}

/// Whether a `Content-Type` value is that media type, parameters aside.
pub fn is_media_type(value: Option<&HeaderValue>, expected: &str) -> bool {
    let value = value.map_or(&[][..], HeaderValue::as_bytes);
    match value.trim_ascii_start().split_at_checked(expected.len()) {
        Some((kind, rest)) => {
            kind.eq_ignore_ascii_case(expected.as_bytes())
                && matches!(rest.trim_ascii_start(), [] | [b';', ..])
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_line_is_read_and_what_it_names_is_removed() {
        let mut headers = HeaderMap::new();
        headers.append("connection", HeaderValue::from_static("close, X-One"));
        headers.append("connection", HeaderValue::from_static("x-two"));
        let no_text = HeaderValue::from_bytes(b"\xe9, X-Four").expect("a value");
        headers.append("connection", no_text);
        for name in [
            "x-one",
            "x-two",
            "x-three",
            "x-four",
            "te",
            "upgrade",
            "keep-alive",
            "proxy-connection",
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("v"));
        }
        remove_hop_by_hop(&mut headers);
        assert_eq!(
            headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(),
            ["x-three"]
        );
    }

    #[test]
    fn a_message_has_one_length_or_one_coding_that_everybody_knows() {
        let fault = |fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_static(value));
            }
            framing_fault(&headers)
        };
        for good in [
            &[][..],
            &[("content-length", "0")],
            &[("transfer-encoding", "Chunked")],
        ] {
            assert_eq!(fault(good), None, "{good:?}");
        }
        for bad in [
            &[("content-length", "2"), ("content-length", "2")][..],
            &[("content-length", "2, 2")],
            &[("content-length", "+2")],
            &[("content-length", "2"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "gzip, chunked")],
            &[
                ("transfer-encoding", "chunked"),
                ("transfer-encoding", "chunked"),
            ],
        ] {
            assert!(fault(bad).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn a_media_type_is_recognised_with_parameters_and_in_any_case() {
        let value = HeaderValue::from_static("Application/JSON; charset=utf-8");
        assert!(is_media_type(Some(&value), "application/json"));
        assert!(!is_media_type(Some(&value), "text/event-stream"));
        assert!(!is_media_type(Some(&value), "application/js"));
        let alone = HeaderValue::from_static(" application/json ");
        assert!(is_media_type(Some(&alone), "application/json"));
        let longer = HeaderValue::from_static("application/json-seq");
        assert!(!is_media_type(Some(&longer), "application/json"));
        assert!(!is_media_type(None, "application/json"));
    }
}
