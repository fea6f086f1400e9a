//! The head of a client's request, from bytes (RFC 9112, sections 2 to 6).
//!
//! Where readers are known to disagree, nothing is guessed: a line that ends without CR, or a
//! folded one, is malformed; a head that leaves its body's end in doubt is handed on as such.

use std::mem::MaybeUninit;

use bytes::{Buf, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri, Version};

use crate::framing::{Decoder, MAX_HEAD, Malformed};
use crate::message;
use crate::scratch;

/// Most header lines of a request; more get a 431.
const MAX_LINES: usize = 100;

pub struct Head {
    pub request: Request<()>,
    pub body: Decoder,
    /// Waits for a 100 before it sends its body (RFC 9110, section 10.1.1).
    pub expects: bool,
    /// The client wants to go on with this connection.
    pub persists: bool,
    /// Its body could end in two places. It is not to be read, and nothing behind it.
    pub is_ambiguous: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    Malformed(Malformed),
    TooLarge,
}

/// How far the front of the input was looked at: a head that comes in drops is read once.
#[derive(Debug, Default)]
pub struct Scan {
    seen: usize,
    /// Where the line that is not complete begins.
    line: usize,
}

/// Takes a head from the front of `input`; `None` if it is not complete.
///
/// # Errors
/// What comes is no request, or its head is larger than 64 KiB or 100 lines.
pub fn parse(input: &mut BytesMut, scan: &mut Scan) -> Result<Option<Head>, Refused> {
    match scan.end_of_head(input)? {
        Some(length) => {
            *scan = Scan::default();
            parse_lines(input, length).map(Some)
        }
        None => Ok(None),
    }
}

impl Scan {
    /// The length of the head at the front. Blank lines before it are dropped (section 2.2).
    fn end_of_head(&mut self, input: &mut BytesMut) -> Result<Option<usize>, Refused> {
        while let Some(found) = memchr::memchr(b'\n', &input[self.seen..]) {
            let at = self.seen + found;
            if at == 0 || input[at - 1] != b'\r' {
                return Err(Refused::Malformed("a line of its head ends without CR"));
            }
            let is_blank = at - 1 == self.line;
            if is_blank && self.line > 0 {
                return match at + 1 {
                    length if length <= MAX_HEAD => Ok(Some(length)),
                    _ => Err(Refused::TooLarge),
                };
            }
            if is_blank {
                input.advance(2);
                *self = Self::default();
            } else {
                self.seen = at + 1;
                self.line = at + 1;
            }
        }
        self.seen = input.len();
        match input.len() {
            ..=MAX_HEAD => Ok(None),
            _ => Err(Refused::TooLarge),
        }
    }
}

fn parse_lines(input: &mut BytesMut, length: usize) -> Result<Head, Refused> {
    let bytes = input.split_to(length).freeze();
    let mut lines = [const { MaybeUninit::uninit() }; MAX_LINES];
    let mut parsed = httparse::Request::new(&mut []);
    match httparse::ParserConfig::default().parse_request_with_uninit_headers(
        &mut parsed,
        &bytes,
        &mut lines,
    ) {
        Ok(httparse::Status::Complete(end)) if end == length => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Refused::TooLarge),
        _ => return Err(Refused::Malformed("its head is malformed")),
    }
    let malformed = |_| Refused::Malformed("its head is malformed");
    let method = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes());
    let method = method.map_err(|_| Refused::Malformed("its method is malformed"))?;
    let target = bytes.slice_ref(parsed.path.unwrap_or_default().as_bytes());
    let target = Uri::from_maybe_shared(target)
        .map_err(|_| Refused::Malformed("its target is malformed"))?;
    let is_http11 = parsed.version == Some(1);
    let mut headers = scratch::headers(parsed.headers.len());
    for line in parsed.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes())
            .map_err(|_| ())
            .map_err(malformed)?;
        // The values stay where they are, in the bytes that came.
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(line.value));
        headers.append(name, value.map_err(|_| ()).map_err(malformed)?);
    }
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = target;
    *request.version_mut() = if is_http11 {
        Version::HTTP_11
    } else {
        Version::HTTP_10
    };
    *request.headers_mut() = headers;
    Ok(Head::of(request, is_http11))
}

impl Head {
    fn of(request: Request<()>, is_http11: bool) -> Self {
        let headers = request.headers();
        let body = body(headers, is_http11);
        let expects = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
        Self {
            expects: is_http11 && headers.get(header::EXPECT).is_some_and(expects),
            persists: body.is_some() && message::persists(headers, is_http11),
            is_ambiguous: body.is_none(),
            body: body.unwrap_or(Decoder::Done),
            request,
        }
    }
}

/// How the body is delimited (section 6.3); `None` if that is in doubt.
fn body(headers: &HeaderMap, is_http11: bool) -> Option<Decoder> {
    if message::framing_fault(headers).is_some() {
        return None;
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        // Section 6.1: no client of that time knew it, so one of the two is not true.
        return is_http11.then(Decoder::chunked);
    }
    match headers.get(header::CONTENT_LENGTH) {
        None => Some(Decoder::length(0)),
        Some(length) => length.to_str().ok()?.parse().ok().map(Decoder::length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Option<Head>, Refused> {
        parse(&mut BytesMut::from(text), &mut Scan::default())
    }

    fn head(lines: &str) -> Head {
        parsed(&format!("POST /x HTTP/1.1\r\n{lines}\r\n"))
            .unwrap()
            .unwrap()
    }

    #[test]
    fn a_head_is_taken_and_what_is_behind_it_stays() {
        let mut input = BytesMut::from("\r\n\r\nPUT /a?b=%41 HTTP/1.1\r\nX-Y: z \r\n\r\nrest");
        let head = parse(&mut input, &mut Scan::default()).unwrap().unwrap();
        assert_eq!(head.request.method(), Method::PUT);
        assert_eq!(head.request.uri(), "/a?b=%41");
        assert_eq!(head.request.headers()["x-y"], "z");
        assert_eq!(&input[..], b"rest");
    }

    #[test]
    fn an_incomplete_head_is_waited_for_up_to_its_limits() {
        for text in [
            "",
            "\r",
            "\r\n",
            "G",
            "GET / HTTP/1.1\r\nX: y\r\n",
            "GET / HTTP/1.1\r\n\r",
        ] {
            assert!(parsed(text).unwrap().is_none(), "{text:?}");
        }
        let long = format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(MAX_HEAD));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(MAX_LINES + 1));
        for text in [long.clone(), format!("{long}\r\n\r\n"), many] {
            assert_eq!(parsed(&text).err(), Some(Refused::TooLarge));
        }
    }

    #[test]
    fn what_one_reader_takes_and_another_does_not_is_malformed() {
        for text in [
            "GET / HTTP/1.1\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\n\n",
            "\nGET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\ry\r\n\r\n",
            "GET / HTTP/1.1\r\n: x\r\n\r\n",
            "GET  / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1 \r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n",
            "GET /\r\n\r\n",
            "GET / x HTTP/1.1\r\n\r\n",
            "G\u{e9}T / HTTP/1.1\r\n\r\n",
        ] {
            let refused = parsed(text).err();
            assert!(matches!(refused, Some(Refused::Malformed(_))), "{text:?}");
        }
    }

    #[test]
    fn a_body_ends_where_the_head_says() {
        assert_eq!(head("").body, Decoder::length(0));
        assert_eq!(head("Content-Length: 7\r\n").body, Decoder::length(7));
        assert_eq!(
            head("Transfer-Encoding: CHUNKED\r\n").body,
            Decoder::chunked()
        );
    }

    #[test]
    fn a_head_that_leaves_its_bodys_end_in_doubt_is_the_last() {
        for lines in [
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
            "Content-Length: 4\r\nContent-Length: 4\r\n",
            "Content-Length: 4, 4\r\n",
            "Content-Length: +4\r\n",
            "Content-Length:\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ] {
            let head = head(lines);
            assert!(head.is_ambiguous && !head.persists, "{lines:?}");
            assert_eq!(head.body, Decoder::Done);
        }
        let old = parsed(
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n",
        );
        assert!(old.unwrap().unwrap().is_ambiguous);
    }

    #[test]
    fn only_a_client_of_http_1_1_goes_on_unasked() {
        assert!(head("").persists);
        assert!(!head("Connection: x, Close\r\n").persists);
        let old = |lines: &str| {
            parsed(&format!("GET / HTTP/1.0\r\n{lines}\r\n"))
                .unwrap()
                .unwrap()
        };
        assert!(!old("").persists);
        assert!(old("Connection: Keep-Alive\r\n").persists);
        assert!(!old("Expect: 100-continue\r\n").expects);
        assert!(head("Expect: 100-Continue\r\n").expects);
    }

    proptest::proptest! {
        #[test]
        fn the_cut_of_the_input_makes_no_difference(bytes in "(\r\n|GET /|[a-zA-Z0-9:; \n]| HTTP/1[.]1\r\n|\r\n\r\n){0,20}", at in 0usize..200) {
            let at = at.min(bytes.len());
            let bytes = bytes.as_bytes();
            let whole = parse(&mut BytesMut::from(bytes), &mut Scan::default()).map(|head| head.map(|head| head.request.headers().clone()));
            let (mut input, mut scan) = (BytesMut::from(&bytes[..at]), Scan::default());
            let first = parse(&mut input, &mut scan);
            let cut = match first {
                Ok(None) => {
                    input.extend_from_slice(&bytes[at..]);
                    parse(&mut input, &mut scan)
                }
                first => first,
            };
            proptest::prop_assert_eq!(whole, cut.map(|head| head.map(|head| head.request.headers().clone())));
        }
    }
}
