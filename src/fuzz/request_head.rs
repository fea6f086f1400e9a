//! Requests as they come in on a connection: the same however the bytes arrive, and none that
//! another reader would see elsewhere.

use bytes::BytesMut;
use http::Method;

use super::{pieces, seeded};
use crate::framing::Decoded;
use crate::serve::h1::request::{Refused, Scan, parse};

/// What a connection comes to: its requests, and how it ends.
#[derive(Debug, PartialEq)]
struct Verdict {
    requests: Vec<Request>,
    end: End,
}

#[derive(Debug, PartialEq)]
struct Request {
    method: Method,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    is_whole: bool,
}

#[derive(Debug, PartialEq)]
enum End {
    Waiting,
    Refused(Refused),
    BadBody,
    /// Nothing is read behind a head whose body could end in two places.
    Ambiguous,
}

pub fn check(data: &[u8]) {
    let (seed, data) = seeded(data);
    let whole = read(&[data]);
    assert_eq!(
        whole,
        read(&pieces(seed, data)),
        "a cut changes what is seen"
    );
    let mut rest = data;
    for request in &whole.requests {
        match reference(rest, request) {
            Some(behind) => rest = behind,
            None => return,
        }
    }
}

fn read(pieces: &[&[u8]]) -> Verdict {
    let mut pieces = pieces.iter();
    let (mut input, mut scan) = (BytesMut::new(), Scan::default());
    let mut requests = Vec::new();
    let end = loop {
        let mut head = match parse(&mut input, &mut scan) {
            Ok(Some(head)) => head,
            Ok(None) => match pieces.next() {
                Some(piece) => {
                    input.extend_from_slice(piece);
                    continue;
                }
                None => break End::Waiting,
            },
            Err(refused) => break End::Refused(refused),
        };
        let (parts, ()) = head.request.into_parts();
        let lines = parts.headers.iter();
        let mut request = Request {
            method: parts.method,
            target: parts.uri.to_string(),
            headers: lines
                .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
                .collect(),
            body: Vec::new(),
            is_whole: false,
        };
        let ended = loop {
            match head.body.decode(&mut input) {
                Ok(Decoded::Data(data)) => request.body.extend_from_slice(&data),
                Ok(Decoded::Trailers(_)) => {}
                Ok(Decoded::End) => {
                    request.is_whole = true;
                    break head.is_ambiguous.then_some(End::Ambiguous);
                }
                Ok(Decoded::Incomplete) => match pieces.next() {
                    Some(piece) => input.extend_from_slice(piece),
                    None => break Some(End::Waiting),
                },
                Err(_) => {
                    // How much of it came out before depends on how it came in; it is cut anyhow.
                    request.body.clear();
                    break Some(End::BadBody);
                }
            }
        };
        requests.push(request);
        if let Some(end) = ended {
            break end;
        }
    };
    Verdict { requests, end }
}

/// Finds `ours` at the front of `data` by another reader; what is behind it, if that is sure.
fn reference<'a>(data: &'a [u8], ours: &Request) -> Option<&'a [u8]> {
    let mut lines = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut lines);
    let parsed = request.parse(data);
    let Ok(httparse::Status::Complete(length)) = parsed else {
        panic!("it took what is no request: {parsed:?}");
    };
    assert_eq!(request.method, Some(ours.method.as_str()));
    assert_eq!(request.headers.len(), ours.headers.len());
    let values = |name: &str| -> Vec<&[u8]> {
        let lines = request.headers.iter();
        let lines = lines.filter(|line| line.name.eq_ignore_ascii_case(name));
        lines.map(|line| line.value).collect()
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    let rest = &data[length..];
    match (&lengths[..], &codings[..]) {
        ([], []) => {
            assert!(ours.body.is_empty());
            Some(rest)
        }
        ([length], []) => {
            let plain = |digits: &&str| digits.bytes().all(|byte| byte.is_ascii_digit());
            let length = std::str::from_utf8(length).ok().filter(plain);
            match length.and_then(|digits| digits.parse::<usize>().ok()) {
                Some(length) => {
                    let there = length.min(rest.len());
                    assert_eq!(
                        ours.body,
                        rest[..there],
                        "another body than its length says"
                    );
                    Some(&rest[there..])
                }
                None => doubtful(ours),
            }
        }
        // Chunks have a target of their own; what is behind them is not found here.
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") && request.version == Some(1) => {
            None
        }
        _ => doubtful(ours),
    }
}

fn doubtful<'a>(ours: &Request) -> Option<&'a [u8]> {
    assert!(ours.body.is_empty(), "a body is read whose end is a guess");
    None
}
