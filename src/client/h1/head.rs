//! Heads of HTTP/1.1 messages: a request's as bytes, a response's from bytes (RFC 9112).

use std::mem::MaybeUninit;

use bytes::BytesMut;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;

use crate::framing::{Decoder, MAX_HEAD, MAX_LINES, Malformed, put_line, put_number};
use crate::message::{self, RequestBody};
use crate::scratch;

/// How a request's body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    Chunked,
}

/// Writes the head of a request whose URI is a path; says how its body has to follow.
pub fn encode(request: &Request<RequestBody>, out: &mut Vec<u8>) -> Framing {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    for part in [request.method().as_str(), " ", path, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    for (name, value) in request.headers() {
        put_line(out, name.as_str(), value.as_bytes());
    }
    let hint = request.body().size_hint();
    let framing = hint.exact().map_or(Framing::Chunked, Framing::Length);
    match framing {
        Framing::Chunked => put_line(out, "transfer-encoding", b"chunked"),
        // RFC 9110, section 8.6: a method that could have content says that it has none.
        Framing::Length(0) if !has_content(request.method()) => {}
        Framing::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            put_number(out, length);
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(b"\r\n");
    framing
}

fn has_content(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// A response's head, what is known of its body, and whether another response may follow.
pub struct Head {
    pub response: Response<()>,
    pub decoder: Decoder,
    pub keeps_alive: bool,
}

/// Takes a head from the front of `input`; `None` if it is not complete.
///
/// # Errors
/// What in it is not as RFC 9112 has it: a body's end must never be a guess.
pub fn parse(input: &mut BytesMut, method: &Method) -> Result<Option<Head>, Malformed> {
    let Some((status, is_http11, headers)) = parse_lines(input)? else {
        return Ok(None);
    };
    if let Some(fault) = message::framing_fault(&headers) {
        return Err(fault);
    }
    // RFC 9112, section 6.1: no peer of that time knew it, so one of the two is not true.
    if !is_http11 && headers.contains_key(header::TRANSFER_ENCODING) {
        return Err("it is HTTP/1.0 and has a Transfer-Encoding");
    }
    let decoder = body(method, status, &headers)?;
    let keeps_alive = decoder != Decoder::UntilClose && message::persists(&headers, is_http11);
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    *response.version_mut() = if is_http11 {
        Version::HTTP_11
    } else {
        Version::HTTP_10
    };
    Ok(Some(Head {
        response,
        decoder,
        keeps_alive,
    }))
}

type Lines = (StatusCode, bool, HeaderMap);

fn parse_lines(input: &mut BytesMut) -> Result<Option<Lines>, Malformed> {
    // Filled as far as there are lines: to set all of them costs more than to parse.
    let mut lines = [const { MaybeUninit::uninit() }; MAX_LINES];
    let mut parsed = httparse::Response::new(&mut []);
    let outcome = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut parsed,
        input,
        &mut lines,
    );
    let length = complete(outcome, input)?;
    let Some(length) = length else {
        return Ok(None);
    };
    let status = parsed
        .code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or("its status is none")?;
    let is_http11 = parsed.version == Some(1);
    let start = input.as_ptr() as usize;
    let places: Vec<_> = parsed
        .headers
        .iter()
        .map(|line| {
            let value = line.value.as_ptr() as usize - start;
            let name = HeaderName::from_bytes(line.name.as_bytes());
            (name, value..value + line.value.len())
        })
        .collect();
    // The values stay where they are, in the bytes that came.
    let bytes = input.split_to(length).freeze();
    let mut headers = scratch::headers(places.len());
    for (name, place) in places {
        let value = HeaderValue::from_maybe_shared(bytes.slice(place));
        headers.append(
            name.map_err(|_| "a header's name is malformed")?,
            value.map_err(|_| "a header's value is malformed")?,
        );
    }
    Ok(Some((status, is_http11, headers)))
}

/// The length of a head that is there whole.
fn complete(parsed: httparse::Result<usize>, input: &[u8]) -> Result<Option<usize>, Malformed> {
    match parsed {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => Ok(Some(length)),
        Ok(httparse::Status::Partial) if input.len() <= MAX_HEAD => Ok(None),
        Ok(_) => Err("its head is larger than 64 KiB"),
        Err(httparse::Error::TooManyHeaders) => Err("its head has more than 128 lines"),
        Err(_) => Err("its head is malformed"),
    }
}

/// How the body is delimited (RFC 9112, section 6.3).
fn body(method: &Method, status: StatusCode, headers: &HeaderMap) -> Result<Decoder, Malformed> {
    let is_bodiless = *method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if is_bodiless {
        return Ok(Decoder::length(0));
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return Ok(Decoder::chunked());
    }
    let Some(length) = headers.get(header::CONTENT_LENGTH) else {
        return Ok(Decoder::UntilClose);
    };
    let length = length.to_str().ok().and_then(|text| text.parse().ok());
    length
        .map(Decoder::length)
        .ok_or("its Content-Length is no number")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn parsed(text: &str) -> Result<Option<Head>, Malformed> {
        parse(&mut BytesMut::from(text), &Method::GET)
    }

    fn decoder(text: &str) -> Decoder {
        parsed(text).unwrap().unwrap().decoder
    }

    fn encoded(method: Method, body: RequestBody) -> (Framing, String) {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = "/a//b?c=%41".parse().unwrap();
        let mut out = Vec::new();
        let framing = encode(&request, &mut out);
        (framing, String::from_utf8(out).unwrap())
    }

    #[test]
    fn what_one_reader_takes_and_another_does_not_is_refused() {
        let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n";
        assert!(parsed(old).is_err());
    }

    #[test]
    fn a_request_is_written_as_it_stands() {
        let body = RequestBody::full(Bytes::from_static(b"{}"));
        let (framing, text) = encoded(Method::POST, body);
        assert_eq!(framing, Framing::Length(2));
        assert_eq!(
            text,
            "POST /a//b?c=%41 HTTP/1.1\r\ncontent-length: 2\r\n\r\n"
        );
    }

    #[test]
    fn only_methods_that_could_have_content_say_that_they_have_none() {
        for (method, says) in [
            (Method::GET, false),
            (Method::DELETE, false),
            (Method::POST, true),
        ] {
            let (_, text) = encoded(method, RequestBody::empty());
            assert_eq!(text.contains("content-length: 0"), says, "{text}");
        }
    }

    #[test]
    fn a_body_ends_where_the_head_says() {
        for (head, expected) in [
            ("200 OK\r\ncontent-length: 5\r\n", Decoder::length(5)),
            (
                "200 OK\r\ntransfer-encoding: Chunked\r\n",
                Decoder::chunked(),
            ),
            ("200 OK\r\n", Decoder::UntilClose),
            (
                "204 No Content\r\ncontent-length: 7\r\n",
                Decoder::length(0),
            ),
            (
                "304 Not Modified\r\ntransfer-encoding: chunked\r\n",
                Decoder::length(0),
            ),
            ("100 Continue\r\n", Decoder::length(0)),
        ] {
            assert_eq!(
                decoder(&format!("HTTP/1.1 {head}\r\n")),
                expected,
                "{head:?}"
            );
        }
        let mut head = BytesMut::from("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
        let head = parse(&mut head, &Method::HEAD).unwrap().unwrap();
        assert_eq!(head.decoder, Decoder::length(0));
    }

    #[test]
    fn a_head_that_leaves_the_bodys_end_in_doubt_is_refused() {
        for head in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6",
            "HTTP/1.1 200 OK\r\ncontent-length: 5, 6",
            "HTTP/1.1 200 OK\r\ncontent-length: +5",
            "HTTP/1.1 200 OK\r\ncontent-length: 5 5",
            "HTTP/1.1 200 OK\r\ncontent-length:",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: xchunked",
            "HTTP/1.1 200 OK\r\nname : value",
            "HTTP/1.1 200 OK\r\n folded",
            "HTTP/2 200",
            "SSH-2.0-OpenSSH",
        ] {
            assert!(parsed(&format!("{head}\r\n\r\n")).is_err(), "{head:?}");
        }
    }

    #[test]
    fn a_connection_persists_unless_somebody_says_otherwise() {
        for (head, persists) in [
            ("1.1 200 OK\r\ncontent-length: 0\r\n", true),
            (
                "1.1 200 OK\r\ncontent-length: 0\r\nconnection: x, Close\r\n",
                false,
            ),
            (
                "1.1 200 OK\r\ncontent-length: 0\r\nconnection: \u{e9}, close\r\n",
                false,
            ),
            ("1.0 200 OK\r\ncontent-length: 0\r\n", false),
            (
                "1.0 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n",
                true,
            ),
            ("1.1 200 OK\r\n", false),
        ] {
            let head = parsed(&format!("HTTP/{head}\r\n")).unwrap().unwrap();
            assert_eq!(head.keeps_alive, persists);
        }
    }

    #[test]
    fn an_incomplete_head_is_waited_for_up_to_its_limit() {
        assert!(parsed("HTTP/1.1 200 OK\r\nx: y\r\n").unwrap().is_none());
        let long = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(MAX_HEAD));
        assert!(parsed(&long).is_err());
        assert!(parsed(&format!("{long}\r\n\r\n")).is_err());
        let many = format!(
            "HTTP/1.1 200 OK\r\n{}\r\n",
            "x: y\r\n".repeat(MAX_LINES + 1)
        );
        assert!(parsed(&many).is_err());
    }
}
