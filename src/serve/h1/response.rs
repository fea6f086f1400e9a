//! A response on its way to a client: its head, then its body as it comes.

use std::cell::RefCell;
use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes};
use http::header::{self, HeaderMap};
use http::{Method, Response, StatusCode};
use http_body::Body;

use super::Broken;
use super::line::Line;
use crate::framing::{put_line, put_number};
use crate::message;
use crate::scratch;

/// A piece up to this size is copied to leave with what is before it.
const SMALL: usize = 16 * 1024;

/// What of a request decides on the form of its response.
pub struct Asked {
    pub is_head: bool,
    pub is_http11: bool,
    /// Whether the client wants to go on afterwards.
    pub persists: bool,
}

/// How a client finds the end of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// This many bytes are still to be written.
    Length(u64),
    Chunked,
    UntilClose,
    /// There is none, whatever the head says (RFC 9112, section 6.3).
    Absent,
}

pub struct Outgoing<B> {
    body: B,
    framing: Framing,
    /// What is ready to leave, in this order.
    small: Vec<u8>,
    written: usize,
    large: Bytes,
    after: &'static [u8],
    /// The body has no more for us.
    is_over: bool,
    persists: bool,
}

impl<B> Outgoing<B>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Unpin,
{
    /// `may_persist`: nothing on our side speaks against another request.
    pub fn new(response: Response<B>, asked: &Asked, may_persist: bool) -> Self {
        let (head, body) = response.into_parts();
        let framing = framing(head.status, &head.headers, &body, asked);
        let mut small = Vec::with_capacity(1024);
        put_status(&mut small, head.status);
        let (mut has_date, mut has_connection) = (false, false);
        for (name, value) in &head.headers {
            has_date |= *name == header::DATE;
            has_connection |= *name == header::CONNECTION;
            if !is_ours(name) {
                put_line(&mut small, name.as_str(), value.as_bytes());
            }
        }
        let persists = may_persist
            && asked.persists
            && framing != Framing::UntilClose
            && (!has_connection || message::persists(&head.headers, true));
        let announced = announced(head.status, &head.headers, &body, framing);
        match (framing, announced) {
            (Framing::Chunked, _) => small.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            (_, Some(length)) => {
                small.extend_from_slice(b"content-length: ");
                put_number(&mut small, length);
                small.extend_from_slice(b"\r\n");
            }
            (_, None) => {}
        }
        if !persists {
            small.extend_from_slice(b"connection: close\r\n");
        } else if !asked.is_http11 {
            small.extend_from_slice(b"connection: keep-alive\r\n");
        }
        if !has_date {
            put_date(&mut small, SystemTime::now());
        }
        small.extend_from_slice(b"\r\n");
        scratch::keep(head.headers);
        Self {
            is_over: body.is_end_stream() || matches!(framing, Framing::Absent),
            body,
            framing,
            small,
            written: 0,
            large: Bytes::new(),
            after: b"",
            persists,
        }
        .ended_at_once()
    }

    /// Whether another request may follow.
    pub fn persists(&self) -> bool {
        self.persists
    }

    /// Ready once all of it has left.
    pub fn poll(&mut self, line: &Line, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            let polled = self.poll_body(cx);
            while !self.is_empty() {
                ready!(self.poll_write(line, cx)).map_err(Broken::Io)?;
            }
            match polled {
                Poll::Ready(Ok(())) if self.is_over => {
                    return line.poll_flush(cx).map_err(Broken::Io);
                }
                Poll::Ready(Ok(())) => {}
                // What had come before the break, an event perhaps, has left.
                Poll::Ready(broken) => return Poll::Ready(broken),
                Poll::Pending => {
                    ready!(line.poll_flush(cx)).map_err(Broken::Io)?;
                    // The next piece may be long in coming.
                    self.small = Vec::new();
                    return Poll::Pending;
                }
            }
        }
    }

    /// Takes what the body has, as long as it fits. Pending: it has nothing at present.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        while !self.is_over && self.large.is_empty() && self.small.len() < SMALL {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => self.is_over = true,
                Some(Err(error)) => return Poll::Ready(Err(Broken::Body(error.into()))),
                Some(Ok(frame)) => {
                    // Trailers would bring past us every header that is dropped from a head.
                    if let Ok(data) = frame.into_data() {
                        self.put(data)?;
                    }
                    self.is_over = self.body.is_end_stream();
                }
            }
            if self.is_over {
                self.end()?;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn put(&mut self, data: Bytes) -> Result<(), Broken> {
        if data.is_empty() {
            return Ok(());
        }
        let after: &[u8] = match &mut self.framing {
            Framing::Chunked => {
                let _ = write!(self.small, "{:x}\r\n", data.len());
                b"\r\n"
            }
            Framing::Length(owed) => {
                // What is beyond the announced length would be taken for another response.
                *owed = owed.checked_sub(data.len() as u64).ok_or(Broken::Length)?;
                b""
            }
            Framing::UntilClose | Framing::Absent => b"",
        };
        if data.len() <= SMALL {
            self.small.extend_from_slice(&data);
            self.small.extend_from_slice(after);
        } else {
            self.large = data;
            self.after = after;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Broken> {
        match self.framing {
            Framing::Length(1..) => Err(Broken::Length),
            Framing::Chunked if self.large.is_empty() => {
                self.small.extend_from_slice(b"0\r\n\r\n");
                Ok(())
            }
            Framing::Chunked => {
                self.after = b"\r\n0\r\n\r\n";
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A body that is over before it begins has its end in the first piece.
    fn ended_at_once(mut self) -> Self {
        if self.is_over && self.framing == Framing::Chunked {
            self.small.extend_from_slice(b"0\r\n\r\n");
        }
        self
    }

    fn is_empty(&self) -> bool {
        self.written == self.small.len() && self.large.is_empty() && self.after.is_empty()
    }

    fn poll_write(&mut self, line: &Line, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let pieces = [
            IoSlice::new(&self.small[self.written..]),
            IoSlice::new(&self.large),
            IoSlice::new(self.after),
        ];
        let count = if self.large.is_empty() && self.after.is_empty() {
            1
        } else {
            3
        };
        let mut written = ready!(line.poll_write(&pieces[..count], cx))?;
        let small = written.min(self.small.len() - self.written);
        self.written += small;
        written -= small;
        let large = written.min(self.large.len());
        self.large.advance(large);
        self.after = &self.after[written - large..];
        if self.written == self.small.len() {
            self.written = 0;
            self.small.clear();
        }
        Poll::Ready(Ok(()))
    }
}

/// What is written from elsewhere than the handler's headers.
fn is_ours(name: &header::HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION | header::CONTENT_LENGTH | header::TRANSFER_ENCODING
    )
}

fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

fn framing<B: Body>(status: StatusCode, headers: &HeaderMap, body: &B, asked: &Asked) -> Framing {
    if asked.is_head || is_bodiless(status) {
        return Framing::Absent;
    }
    match body.size_hint().exact().or_else(|| length_in(headers)) {
        Some(length) => Framing::Length(length),
        None if asked.is_http11 => Framing::Chunked,
        None => Framing::UntilClose,
    }
}

/// The length that the head states; without a body, that of the one a GET would have had.
fn announced<B: Body>(
    status: StatusCode,
    headers: &HeaderMap,
    body: &B,
    framing: Framing,
) -> Option<u64> {
    match framing {
        Framing::Length(length) => Some(length),
        // RFC 9110, section 8.6.
        Framing::Absent if status.is_informational() || status == StatusCode::NO_CONTENT => None,
        Framing::Absent => {
            let whole = body.size_hint().exact().filter(|length| *length > 0);
            length_in(headers).or(whole)
        }
        Framing::Chunked | Framing::UntilClose => None,
    }
}

fn length_in(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(header::CONTENT_LENGTH)?;
    value.to_str().ok()?.parse().ok()
}

fn put_status(out: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// RFC 9110, section 6.6.1: whoever passes a response on adds the date it came without.
fn put_date(out: &mut Vec<u8>, now: SystemTime) {
    thread_local! {
        /// It is written out once a second.
        static WRITTEN: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    let seconds = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    WRITTEN.with_borrow_mut(|(second, text)| {
        if *second != seconds {
            *text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
            *second = seconds;
        }
        put_line(out, "date", text.as_bytes());
    });
}

/// What a client is told whose bytes are no request; its connection ends behind it.
pub fn refusal(status: StatusCode) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    put_status(&mut out, status);
    out.extend_from_slice(b"connection: close\r\ncontent-length: 0\r\n");
    put_date(&mut out, SystemTime::now());
    out.extend_from_slice(b"\r\n");
    out
}

impl Asked {
    pub fn of(request: &http::Request<()>, persists: bool) -> Self {
        Self {
            is_head: request.method() == Method::HEAD,
            is_http11: request.version() == http::Version::HTTP_11,
            persists,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header::HeaderValue;
    use http_body_util::{Empty, Full};

    use super::*;

    const PLAIN: Asked = Asked {
        is_head: false,
        is_http11: true,
        persists: true,
    };

    fn head<B>(body: B, asked: &Asked, build: impl FnOnce(&mut Response<B>)) -> (String, bool)
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Unpin,
    {
        let mut response = Response::new(body);
        response
            .headers_mut()
            .insert(header::DATE, HeaderValue::from_static("now"));
        build(&mut response);
        let outgoing = Outgoing::new(response, asked, true);
        let text = String::from_utf8(outgoing.small.clone()).unwrap();
        (text.replace("date: now\r\n", ""), outgoing.persists())
    }

    /// A body of unknown length.
    fn unknown() -> http_body_util::combinators::UnsyncBoxBody<Bytes, std::convert::Infallible> {
        use http_body_util::BodyExt as _;
        let frames = futures_util::stream::pending();
        http_body_util::StreamBody::new(frames).boxed_unsync()
    }

    #[test]
    fn a_body_of_known_length_says_how_long_it_is() {
        let (text, persists) = head(Full::from("abc"), &PLAIN, |_| {});
        assert_eq!(text, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n");
        assert!(persists);
        let (text, _) = head(Empty::<Bytes>::new(), &PLAIN, |_| {});
        assert_eq!(text, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    }

    #[test]
    fn what_is_sent_is_what_is_announced_whatever_the_handler_says() {
        let (text, _) = head(Full::from("abc"), &PLAIN, |response| {
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_LENGTH, 7.into());
            headers.insert(
                header::TRANSFER_ENCODING,
                HeaderValue::from_static("chunked"),
            );
        });
        assert_eq!(text, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n");
    }

    #[test]
    fn a_body_of_unknown_length_is_chunked_or_ends_with_its_connection() {
        let (text, persists) = head(unknown(), &PLAIN, |_| {});
        assert_eq!(
            text,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        assert!(persists);
        let old = Asked {
            is_http11: false,
            ..PLAIN
        };
        let (text, persists) = head(unknown(), &old, |_| {});
        assert_eq!(text, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
        assert!(!persists);
    }

    #[test]
    fn an_answer_without_a_body_keeps_the_length_that_it_states() {
        let asked = Asked {
            is_head: true,
            ..PLAIN
        };
        let (text, _) = head(Full::from("abc"), &asked, |_| {});
        assert_eq!(text, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n");
        let (text, _) = head(Empty::<Bytes>::new(), &asked, |_| {});
        assert_eq!(text, "HTTP/1.1 200 OK\r\n\r\n");
        for (status, says) in [(304, true), (204, false)] {
            let (text, _) = head(Empty::<Bytes>::new(), &PLAIN, |response| {
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                response
                    .headers_mut()
                    .insert(header::CONTENT_LENGTH, 7.into());
            });
            assert_eq!(text.contains("content-length: 7"), says, "{text}");
        }
    }

    #[test]
    fn a_connection_that_ends_says_so() {
        let close = |response: &mut Response<Empty<Bytes>>| {
            let value = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, value);
        };
        let last = Asked {
            persists: false,
            ..PLAIN
        };
        let old = Asked {
            is_http11: false,
            ..PLAIN
        };
        for (asked, says, goes_on) in [(PLAIN, "close", false), (last, "close", false)] {
            let (text, persists) = head(Empty::new(), &asked, close);
            assert!(text.contains(&format!("connection: {says}\r\n")), "{text}");
            assert_eq!(persists, goes_on);
        }
        let (text, persists) = head(Empty::<Bytes>::new(), &old, |_| {});
        assert!(
            text.contains("connection: keep-alive\r\n") && persists,
            "{text}"
        );
    }

    #[test]
    fn a_response_without_a_date_is_given_one() {
        let response = Response::new(Empty::<Bytes>::new());
        let outgoing = Outgoing::new(response, &PLAIN, true);
        let text = String::from_utf8(outgoing.small).unwrap();
        let date = text.lines().find_map(|line| line.strip_prefix("date: "));
        assert!(httpdate::parse_http_date(date.unwrap()).is_ok(), "{text}");
    }
}
