//! Clients of HTTP/2: what its frames can carry and HTTP/1.1 cannot, or means otherwise.

use futures_util::future::join_all;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::Behind;
use crate::common::frames::{self, END_HEADERS, END_STREAM, frame};
use crate::common::verdicts::{self, Row};
use crate::common::{Daemon, within};

type Field = (&'static [u8], &'static [u8]);

struct Case {
    family: &'static str,
    name: &'static str,
    /// Replaces or joins those of a plain POST; `####` stands for the number of the variant.
    fields: Vec<Field>,
    without: &'static [&'static [u8]],
    body: &'static [u8],
    trailers: Vec<Field>,
}

const SMUGGLED: &[u8] = b"GET /smuggled/#### HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn case(family: &'static str, name: &'static str, fields: &[Field]) -> Case {
    Case {
        family,
        name,
        fields: fields.to_vec(),
        without: &[],
        body: b"",
        trailers: Vec::new(),
    }
}

fn lengths() -> Vec<Case> {
    [
        ("length zero", &[(&b"content-length"[..], &b"0"[..])][..]),
        ("length too small", &[(b"content-length", b"3")]),
        ("length too large", &[(b"content-length", b"500")]),
        ("length no number", &[(b"content-length", b"+48")]),
        (
            "two lengths",
            &[(b"content-length", b"48"), (b"content-length", b"0")],
        ),
        (
            "the same length twice",
            &[(b"content-length", b"48"), (b"content-length", b"48")],
        ),
        ("a list of lengths", &[(b"content-length", b"48, 48")]),
        ("no length", &[]),
        ("the right length", &[(b"content-length", b"48")]),
        ("transfer-encoding", &[(b"transfer-encoding", b"chunked")]),
        (
            "transfer-encoding in capitals",
            &[(b"Transfer-Encoding", b"chunked")],
        ),
        (
            "transfer-encoding with a length",
            &[
                (b"transfer-encoding", b"chunked"),
                (b"content-length", b"48"),
            ],
        ),
        ("transfer_encoding", &[(b"transfer_encoding", b"chunked")]),
    ]
    .into_iter()
    .map(|(name, fields)| Case {
        body: SMUGGLED,
        ..case("h2 lengths", name, fields)
    })
    .collect()
}

fn bytes() -> Vec<Case> {
    [
        (
            "CR LF in a value",
            &b"x-a"[..],
            &b"b\r\nTransfer-Encoding: chunked"[..],
        ),
        (
            "a request in a value",
            b"x-a",
            b"b\r\n\r\nGET /smuggled/#### HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ),
        ("LF in a value", b"x-a", b"b\nx-b: c"),
        ("CR in a value", b"x-a", b"b\rx-b: c"),
        ("NUL in a value", b"x-a", b"b\0c"),
        ("blanks around a value", b"x-a", b" b "),
        ("a value that is not ASCII", b"x-a", b"\xe9\xff"),
        ("CR LF in a name", b"x-a: b\r\nx-c", b"d"),
        ("a colon in a name", b"x-a: b", b"c"),
        ("a blank in a name", b"x a", b"b"),
        ("capitals in a name", b"X-A", b"b"),
        ("no name", b"", b"b"),
        ("a name that is not ASCII", b"x-\xe9", b"b"),
        ("NUL in a name", b"x-a\0", b"b"),
        ("connection", b"connection", b"close"),
        ("keep-alive", b"keep-alive", b"timeout=5"),
        ("proxy-connection", b"proxy-connection", b"close"),
        ("upgrade", b"upgrade", b"h2c"),
        ("te: trailers", b"te", b"trailers"),
        ("te: gzip", b"te", b"gzip"),
        ("host, the same", b"host", b"localhost"),
        ("host, another", b"host", b"evil.example"),
        ("the signature's header", b"x-signature", b"1"),
        ("expect", b"expect", b"100-continue"),
    ]
    .into_iter()
    .map(|(name, field, value)| case("h2 header bytes", name, &[(field, value)]))
    .collect()
}

fn pseudo() -> Vec<Case> {
    let mut cases: Vec<_> = [
        (
            "CR LF in the path",
            &b":path"[..],
            &b"/case/#### HTTP/1.1\r\nx-a: b"[..],
        ),
        ("a blank in the path", b":path", b"/case/#### HTTP/1.1"),
        ("a fragment in the path", b":path", b"/case/#####fragment"),
        ("NUL in the path", b":path", b"/case/####\0"),
        ("an empty path", b":path", b""),
        ("a path without a slash", b":path", b"case/####"),
        ("an asterisk", b":path", b"*"),
        (
            "a whole URL as the path",
            b":path",
            b"http://evil.example/case/####",
        ),
        (
            "two slashes and a host",
            b":path",
            b"//evil.example/case/####",
        ),
        (
            "CR LF in the method",
            b":method",
            b"GET / HTTP/1.1\r\nx-a: b\r\n\r\n",
        ),
        ("a blank in the method", b":method", b"POST /smuggled/####"),
        ("an empty method", b":method", b""),
        ("CONNECT", b":method", b"CONNECT"),
        ("TRACE", b":method", b"TRACE"),
        (
            "CR LF in the authority",
            b":authority",
            b"localhost\r\nx-a: b",
        ),
        ("another authority", b":authority", b"evil.example"),
        (
            "user and password",
            b":authority",
            b"localhost:1@evil.example",
        ),
        ("an empty authority", b":authority", b""),
        ("an odd scheme", b":scheme", b"file"),
        ("CR LF in the scheme", b":scheme", b"http://x/\r\n"),
    ]
    .into_iter()
    .map(|(name, field, value)| Case {
        without: std::slice::from_ref(match field {
            b":path" => &(b":path" as &[u8]),
            b":method" => &(b":method" as &[u8]),
            b":authority" => &(b":authority" as &[u8]),
            _ => &(b":scheme" as &[u8]),
        }),
        ..case("h2 pseudo-headers", name, &[(field, value)])
    })
    .collect();
    cases.push(Case {
        without: &[b":path"],
        ..case("h2 pseudo-headers", "no path", &[])
    });
    cases.push(Case {
        without: &[b":method"],
        ..case("h2 pseudo-headers", "no method", &[])
    });
    cases.push(Case {
        without: &[b":authority"],
        ..case("h2 pseudo-headers", "no authority", &[])
    });
    cases.push(Case {
        without: &[b":scheme"],
        ..case("h2 pseudo-headers", "no scheme", &[])
    });
    cases.push(case(
        "h2 pseudo-headers",
        "two paths",
        &[(b":path", b"/smuggled/####")],
    ));
    cases.push(case(
        "h2 pseudo-headers",
        "one of a response",
        &[(b":status", b"200")],
    ));
    cases.push(case(
        "h2 pseudo-headers",
        "one behind a header",
        &[(b"x-a", b"b"), (b":path", b"/smuggled/####")],
    ));
    cases.push(case(
        "h2 pseudo-headers",
        "an unknown one",
        &[(b":secret", b"1")],
    ));
    cases.push(case(
        "h2 pseudo-headers",
        "extended CONNECT",
        &[(b":protocol", b"websocket")],
    ));
    cases
}

fn trailers() -> Vec<Case> {
    [
        ("an ordinary one", (&b"x-a"[..], &b"b"[..])),
        ("a length", (b"content-length", b"500")),
        ("a coding", (b"transfer-encoding", b"chunked")),
        ("a signature", (b"x-signature", b"1")),
        ("a pseudo-header", (b":path", b"/smuggled/####")),
        (
            "CR LF",
            (b"x-a", b"b\r\n\r\nGET /smuggled/#### HTTP/1.1\r\n\r\n"),
        ),
    ]
    .into_iter()
    .map(|(name, trailer)| Case {
        body: b"{}",
        trailers: vec![trailer],
        ..case("h2 trailers", name, &[])
    })
    .collect()
}

fn cases() -> Vec<Case> {
    [lengths(), bytes(), pseudo(), trailers()]
        .into_iter()
        .flatten()
        .collect()
}

#[tokio::test]
async fn no_frames_of_a_client_are_more_requests_upstream_than_it_sent() {
    let cases = cases();
    let mut verdicts: Vec<Option<String>> = vec![None; cases.len()];
    for behind in Behind::both() {
        let daemon = behind.daemon().await;
        for is_tcp in [true, false] {
            let found = all_of(&cases, &daemon, &behind, is_tcp).await;
            for ((case, verdict), found) in cases.iter().zip(&mut verdicts).zip(found) {
                let verdict = verdict.get_or_insert_with(|| found.clone());
                assert_eq!(*verdict, found, "{} depends on the way", case.name);
            }
        }
        behind.assert_clean();
    }
    let rows: Vec<Row> = cases
        .iter()
        .zip(verdicts)
        .map(|(case, verdict)| (case.family, case.name.to_owned(), verdict.unwrap()))
        .collect();
    verdicts::assert_kept("smuggling/h2.txt", &rows);
}

async fn all_of(cases: &[Case], daemon: &Daemon, behind: &Behind, is_tcp: bool) -> Vec<String> {
    let base = if is_tcp { 1000 } else { 3000 };
    let types: [&'static [u8]; 2] = [b"application/json", b"text/plain"];
    let sent = cases.iter().enumerate().flat_map(|(at, case)| {
        types.iter().enumerate().map(move |(of_type, media_type)| {
            let number = (base + 1000 * of_type + at).to_string();
            exchange(daemon, is_tcp, connection(case, media_type, &number))
        })
    });
    let answers = join_all(sent).await;
    let seen = behind.seen();
    assert!(
        !seen.iter().any(|line| line.contains("smuggled")),
        "{seen:?}"
    );
    cases
        .iter()
        .enumerate()
        .map(|(at, case)| {
            let verdicts = [0, 1].map(|of_type| {
                let number = (base + 1000 * of_type + at).to_string();
                let arrived = seen.iter().filter(|line| line.contains(&number)).count();
                assert!(arrived <= 1, "{}: {arrived} arrived", case.name);
                format!("{}, {arrived} upstream", answers[2 * at + of_type])
            });
            // Known to be whole before the frame comes that contradicts it.
            if case.name == "length zero" {
                return "at most 1 upstream".to_owned();
            }
            match verdicts {
                [read_ahead, streamed] if read_ahead == streamed => streamed,
                [read_ahead, streamed] => format!("{read_ahead}; streamed: {streamed}"),
            }
        })
        .collect()
}

fn connection(case: &Case, media_type: &'static [u8], number: &str) -> Vec<u8> {
    let fill = |text: &[u8]| -> Vec<u8> {
        let at = text.windows(4).position(|window| window == b"####");
        let mut text = text.to_vec();
        if let Some(at) = at {
            text.splice(at..at + 4, number.bytes());
        }
        text
    };
    let block = |fields: &[Field]| {
        let filled: Vec<_> = fields
            .iter()
            .map(|(name, value)| (*name, fill(value)))
            .collect();
        let fields: Vec<_> = filled
            .iter()
            .map(|(name, value)| (*name, &value[..]))
            .collect();
        frames::block(&fields)
    };
    let plain: [Field; 5] = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/case/####"),
        (b":authority", b"localhost"),
        (b"content-type", media_type),
    ];
    let kept = plain
        .iter()
        .filter(|(name, _)| !case.without.contains(name));
    let mut fields: Vec<Field> = kept.chain(&case.fields).copied().collect();
    // Pseudo-headers come first, unless that they do not is the case.
    if case.name != "one behind a header" {
        fields.sort_by_key(|(name, _)| !name.starts_with(b":"));
    }
    let mut sent = frames::PREFACE.to_vec();
    sent.extend(frame(frames::SETTINGS, 0, 0, &[]));
    sent.extend(frame(frames::SETTINGS, frames::ACK, 0, &[]));
    let ends = |is_last: bool| if is_last { END_STREAM } else { 0 };
    let (has_body, has_trailers) = (!case.body.is_empty(), !case.trailers.is_empty());
    let flags = END_HEADERS | ends(!has_body);
    sent.extend(frame(frames::HEADERS, flags, 1, &block(&fields)));
    if has_body {
        let body = fill(case.body);
        sent.extend(frame(frames::DATA, ends(!has_trailers), 1, &body));
    }
    if has_trailers {
        let flags = END_HEADERS | END_STREAM;
        sent.extend(frame(frames::HEADERS, flags, 1, &block(&case.trailers)));
    }
    sent
}

async fn exchange(daemon: &Daemon, is_tcp: bool, bytes: Vec<u8>) -> String {
    if is_tcp {
        let stream = TcpStream::connect(daemon.address()).await.unwrap();
        return end_of_stream(stream, &bytes).await;
    }
    end_of_stream(UnixStream::connect(daemon.socket()).await.unwrap(), &bytes).await
}

/// How the request's stream ends.
async fn end_of_stream(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> String {
    let _ = stream.write_all(bytes).await;
    let mut read = Vec::new();
    let what = format!("an end to {}", String::from_utf8_lossy(bytes));
    within(what, async {
        loop {
            if let Some(end) = end(&read) {
                return end;
            }
            if !matches!(stream.read_buf(&mut read).await, Ok(1..)) {
                return end(&read).unwrap_or_else(|| "closed".to_owned());
            }
        }
    })
    .await
}

fn end(mut bytes: &[u8]) -> Option<String> {
    let mut status = None;
    while let Some((frame, rest)) = frames::split(bytes) {
        bytes = rest;
        let is_last = frame.flags & END_STREAM != 0;
        match (frame.kind, frame.stream) {
            (frames::HEADERS, 1) => {
                status = status.or(Some(status_of(frame.payload)));
                if is_last {
                    return status;
                }
            }
            (frames::DATA, 1) if is_last => return status,
            // A stream that was answered may be reset because nobody wants the rest of it.
            (frames::RST_STREAM, 1) => return status.or(Some("reset".to_owned())),
            (frames::GOAWAY, _) => return Some("connection closed".to_owned()),
            _ => {}
        }
    }
    None
}

/// The first field of an answer's first block: from the static table, or a literal of three
/// digits, with Huffman's code or without (RFC 7541, section 6 and appendices A and B).
fn status_of(block: &[u8]) -> String {
    match block {
        [0x88, ..] => "200".into(),
        [0x89, ..] => "204".into(),
        [0x8c, ..] => "400".into(),
        [0x8d, ..] => "404".into(),
        [0x8e, ..] => "500".into(),
        [0x48 | 0x08, 3, digits @ ..] => String::from_utf8_lossy(&digits[..3]).into_owned(),
        [0x48 | 0x08, length, code @ ..] if length & 128 != 0 => {
            let bits: String = code
                .iter()
                .take(3)
                .map(|byte| format!("{byte:08b}"))
                .collect();
            let mut at = 0;
            (0..3)
                .map(|_| {
                    // 0, 1 and 2 have five bits, 3 to 9 six.
                    let five = u8::from_str_radix(&bits[at..at + 5], 2).unwrap();
                    at += if five <= 2 { 5 } else { 6 };
                    let six = u8::from_str_radix(&bits[at - 6..at], 2).unwrap_or(0);
                    char::from(b'0' + if five <= 2 { five } else { six - 0x19 + 3 })
                })
                .collect()
        }
        other => format!("{other:x?}"),
    }
}
