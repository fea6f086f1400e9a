//! Clients of HTTP/1.1.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::Behind;
use crate::common::verdicts::{self, Row};
use crate::common::{Daemon, within};

/// `requests`: how many the bytes are at most, by any reading that RFC 9112 allows.
struct Case {
    family: &'static str,
    name: &'static str,
    requests: usize,
    bytes: String,
}

/// The request that must never be one. It is 56 bytes long in every variant.
const SMUGGLED: &str = "GET /smuggled/#### HTTP/1.1\r\nHost: localhost\r\nX-Pad: 1\r\n\r\n";

/// A POST whose head goes on with `rest`, which brings its own blank line and body.
fn post(family: &'static str, name: &'static str, requests: usize, rest: &str) -> Case {
    let rest = rest
        .replace("<S>", SMUGGLED)
        .replace("<LEN>", &SMUGGLED.len().to_string());
    let rest = rest.replace("<HEX>", &format!("{:x}", SMUGGLED.len()));
    Case {
        family,
        name,
        requests,
        bytes: format!(
            "POST /case/#### HTTP/1.1\r\nHost: localhost\r\nContent-Type: <TYPE>\r\n{rest}"
        ),
    }
}

fn whole(family: &'static str, name: &'static str, requests: usize, bytes: &str) -> Case {
    let bytes = bytes
        .replace("<S>", SMUGGLED)
        .replace("<LEN>", &SMUGGLED.len().to_string());
    Case {
        family,
        name,
        requests,
        bytes,
    }
}

fn two_lengths() -> Vec<Case> {
    [
        (
            "CL.TE",
            "length covers all",
            "Content-Length: 61\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n<S>",
        ),
        (
            "CL.TE",
            "length covers one byte more",
            "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
        ),
        (
            "CL.TE",
            "length zero",
            "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n<S>",
        ),
        (
            "TE.CL",
            "length covers the chunk's size line",
            "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n<HEX>\r\n<S>\r\n0\r\n\r\n",
        ),
        (
            "TE.CL",
            "coding in capitals",
            "TRANSFER-ENCODING: CHUNKED\r\nContent-Length: 4\r\n\r\n<HEX>\r\n<S>\r\n0\r\n\r\n",
        ),
        (
            "TE.CL",
            "no blank behind the colon",
            "Transfer-Encoding:chunked\r\nContent-Length:4\r\n\r\n<HEX>\r\n<S>\r\n0\r\n\r\n",
        ),
    ]
    .into_iter()
    .map(|(family, name, rest)| post(family, name, 1, rest))
    .collect()
}

fn codings() -> Vec<Case> {
    let body = "Content-Length: 5\r\n\r\n0\r\n\r\n<S>";
    let alone = "\r\n0\r\n\r\n<S>";
    [
        ("unknown coding", "Transfer-Encoding: xchunked\r\n", alone),
        ("identity", "Transfer-Encoding: identity\r\n", alone),
        (
            "chunked, identity",
            "Transfer-Encoding: chunked, identity\r\n",
            alone,
        ),
        (
            "identity, chunked",
            "Transfer-Encoding: identity, chunked\r\n",
            alone,
        ),
        (
            "gzip, chunked",
            "Transfer-Encoding: gzip, chunked\r\n",
            alone,
        ),
        (
            "chunked twice in a line",
            "Transfer-Encoding: chunked, chunked\r\n",
            alone,
        ),
        (
            "chunked in two lines",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            alone,
        ),
        (
            "chunked, then another line",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n",
            alone,
        ),
        (
            "another line, then chunked",
            "Transfer-Encoding: cow\r\nTransfer-Encoding: chunked\r\n",
            alone,
        ),
        ("a parameter", "Transfer-Encoding: chunked;q=1\r\n", alone),
        ("quoted", "Transfer-Encoding: \"chunked\"\r\n", alone),
        ("empty", "Transfer-Encoding:\r\n", alone),
        ("empty, with a length", "Transfer-Encoding:\r\n", body),
        (
            "blank before the colon",
            "Transfer-Encoding : chunked\r\n",
            body,
        ),
        (
            "tab before the colon",
            "Transfer-Encoding\t: chunked\r\n",
            body,
        ),
        (
            "vertical tab in the value",
            "Transfer-Encoding: \x0bchunked\r\n",
            body,
        ),
        (
            "form feed in the value",
            "Transfer-Encoding: chunked\x0c\r\n",
            body,
        ),
        ("folded value", "Transfer-Encoding:\r\n chunked\r\n", body),
        ("folded name", "Transfer-Encoding\r\n : chunked\r\n", body),
        (
            "behind a bare LF",
            "X-A: b\nTransfer-Encoding: chunked\r\n",
            body,
        ),
        (
            "behind a bare CR",
            "X-A: b\rTransfer-Encoding: chunked\r\n",
            body,
        ),
        (
            "underscore, with a length",
            "Transfer_Encoding: chunked\r\n",
            body,
        ),
        (
            "a prefix of the name, with a length",
            "Transfer-Encodin: chunked\r\n",
            body,
        ),
        ("NUL in the name", "Transfer-Encoding\0: chunked\r\n", body),
    ]
    .into_iter()
    .map(|(name, coding, rest)| post("TE.TE", name, 2, &format!("{coding}{rest}")))
    .collect()
}

fn lengths() -> Vec<Case> {
    [
        ("the same twice", "Content-Length: 5\r\nContent-Length: 5"),
        ("two different", "Content-Length: 5\r\nContent-Length: 61"),
        (
            "zero, then another",
            "Content-Length: 0\r\nContent-Length: 5",
        ),
        ("a list of the same", "Content-Length: 5, 5"),
        ("a list", "Content-Length: 5, 61"),
        ("plus", "Content-Length: +5"),
        ("minus", "Content-Length: -5"),
        ("minus zero", "Content-Length: -0"),
        ("hexadecimal", "Content-Length: 0x5"),
        ("leading zeros", "Content-Length: 0005"),
        ("exponent", "Content-Length: 5e0"),
        ("fraction", "Content-Length: 5.0"),
        ("two words", "Content-Length: 5 5"),
        ("semicolon", "Content-Length: 5;"),
        ("quoted", "Content-Length: \"5\""),
        ("vertical tab", "Content-Length: 5\x0b"),
        ("2^64 + 5", "Content-Length: 18446744073709551621"),
        ("2^32 + 5", "Content-Length: 4294967301"),
        ("empty", "Content-Length:"),
        ("blank before the colon", "Content-Length : 5"),
        ("folded", "Content-Length:\r\n 5"),
        ("underscore", "Content_Length: 61"),
        ("Arabic digit", "Content-Length: \u{665}"),
    ]
    .into_iter()
    .map(|(name, lengths)| post("lengths", name, 2, &format!("{lengths}\r\n\r\nhello<S>")))
    .collect()
}

fn hidden_bodies() -> Vec<Case> {
    let get = |name, method: &str, rest: &str| {
        let bytes = format!("{method} /case/#### HTTP/1.1\r\nHost: localhost\r\n{rest}");
        whole("CL.0", name, 1, &bytes)
    };
    vec![
        post(
            "CL.0",
            "POST with a request as its body",
            1,
            "Content-Length: <LEN>\r\n\r\n<S>",
        ),
        get("GET with a body", "GET", "Content-Length: <LEN>\r\n\r\n<S>"),
        get(
            "HEAD with a body",
            "HEAD",
            "Content-Length: <LEN>\r\n\r\n<S>",
        ),
        get(
            "OPTIONS with a body",
            "OPTIONS",
            "Content-Length: <LEN>\r\n\r\n<S>",
        ),
        get(
            "DELETE with a body",
            "DELETE",
            "Content-Length: <LEN>\r\n\r\n<S>",
        ),
        get(
            "GET with chunks",
            "GET",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        get("TRACE", "TRACE", "\r\n"),
        get("an own method", "BREW", "Content-Length: <LEN>\r\n\r\n<S>"),
        get(
            "expects 100",
            "PUT",
            "Expect: 100-continue\r\nContent-Length: <LEN>\r\n\r\n<S>",
        ),
        get(
            "expects something else",
            "PUT",
            "Expect: miracles\r\nContent-Length: <LEN>\r\n\r\n<S>",
        ),
        get(
            "length named in Connection",
            "PUT",
            "Connection: content-length\r\nContent-Length: <LEN>\r\n\r\n<S>",
        ),
        get(
            "coding named in Connection",
            "PUT",
            "Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        get(
            "ours named in Connection",
            "GET",
            "Connection: host, x-signature, x-timestamp, x-api-key-id, x-request-id\r\n\r\n",
        ),
        get(
            "upgrade to h2c",
            "GET",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
        ),
        get(
            "upgrade to websocket",
            "GET",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n\r\n",
        ),
        get(
            "length of another's body",
            "GET",
            "X-Content-Length: 0\r\nContent-Length: <LEN>\r\n\r\n<S>",
        ),
    ]
}

fn chunks() -> Vec<Case> {
    [
        ("an extension", 1, "5;a=b\r\nhello\r\n0\r\n\r\n"),
        (
            "an extension with a quoted line end",
            2,
            "5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n<S>",
        ),
        (
            "an extension with a bare LF",
            2,
            "5;a\nhello\r\n0\r\n\r\n<S>",
        ),
        (
            "an extension with a bare CR",
            2,
            "5;a\rb\r\nhello\r\n0\r\n\r\n<S>",
        ),
        (
            "an extension of the last chunk",
            1,
            "5\r\nhello\r\n0;a=b\r\n\r\n",
        ),
        ("a size with a bare LF", 2, "5\nhello\r\n0\r\n\r\n<S>"),
        (
            "a blank before the extension",
            1,
            "5 ;a\r\nhello\r\n0\r\n\r\n",
        ),
        ("a blank before the size", 2, " 5\r\nhello\r\n0\r\n\r\n<S>"),
        ("hexadecimal with 0x", 2, "0x5\r\nhello\r\n0\r\n\r\n<S>"),
        ("plus", 2, "+5\r\nhello\r\n0\r\n\r\n<S>"),
        ("minus", 2, "-5\r\nhello\r\n0\r\n\r\n<S>"),
        ("leading zeros", 1, "00000005\r\nhello\r\n0\r\n\r\n"),
        ("2^64 + 5", 2, "10000000000000005\r\nhello\r\n0\r\n\r\n<S>"),
        ("no digits", 2, "\r\nhello\r\n0\r\n\r\n<S>"),
        ("an underscore", 2, "1_0\r\nhello\r\n0\r\n\r\n<S>"),
        (
            "data longer than its size",
            2,
            "5\r\nhelloX\r\n0\r\n\r\n<S>",
        ),
        ("data with a bare LF behind", 2, "5\r\nhello\n0\r\n\r\n<S>"),
        ("data with nothing behind", 2, "5\r\nhello0\r\n\r\n<S>"),
        ("the end with bare LFs", 2, "5\r\nhello\r\n0\n\n<S>"),
        ("the end without a blank line", 2, "5\r\nhello\r\n0\r\n<S>"),
        (
            "a length in the trailers",
            1,
            "5\r\nhello\r\n0\r\nContent-Length: 61\r\n\r\n",
        ),
        (
            "a coding in the trailers",
            1,
            "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "a host and a signature in the trailers",
            1,
            "5\r\nhello\r\n0\r\nHost: evil\r\nX-Signature: 1\r\n\r\n",
        ),
        (
            "a trailer with a bare LF",
            2,
            "5\r\nhello\r\n0\r\nX-A: b\n\r\n<S>",
        ),
        (
            "a folded trailer",
            2,
            "5\r\nhello\r\n0\r\nX-A: b\r\n c\r\n\r\n<S>",
        ),
        ("never ends", 1, "5\r\nhello\r\n"),
        ("only the end", 1, "0\r\n\r\n"),
        ("a request in a chunk", 1, "<HEX>\r\n<S>\r\n0\r\n\r\n"),
    ]
    .into_iter()
    .map(|(name, requests, body)| {
        post(
            "chunks",
            name,
            requests,
            &format!("Transfer-Encoding: chunked\r\n\r\n{body}"),
        )
    })
    .collect()
}

fn line_ends() -> Vec<Case> {
    let case = |name, requests, bytes: &str| whole("line ends", name, requests, bytes);
    vec![
        case(
            "bare LFs in the whole head",
            2,
            "GET /case/#### HTTP/1.1\nHost: localhost\n\n<S>",
        ),
        case(
            "a bare LF behind a header",
            2,
            "GET /case/#### HTTP/1.1\r\nHost: localhost\nX-A: b\r\n\r\n",
        ),
        case(
            "a bare LF that ends the head",
            2,
            "GET /case/#### HTTP/1.1\r\nHost: localhost\r\nX-A: b\n\n<S>",
        ),
        case(
            "a bare LF behind the request line",
            2,
            "GET /case/#### HTTP/1.1\nHost: localhost\r\n\r\n",
        ),
        case(
            "a bare CR in a value",
            1,
            "GET /case/#### HTTP/1.1\r\nHost: localhost\r\nX-A: b\rX-B: c\r\n\r\n",
        ),
        case(
            "a bare CR that ends the head",
            2,
            "GET /case/#### HTTP/1.1\r\nHost: localhost\r\n\r\r\n<S>",
        ),
        case(
            "CR CR LF",
            2,
            "GET /case/#### HTTP/1.1\r\r\nHost: localhost\r\n\r\n",
        ),
        case(
            "blank lines before the request",
            1,
            "\r\n\r\nGET /case/#### HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ),
        case(
            "a bare LF before the request",
            1,
            "\nGET /case/#### HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ),
        case(
            "a bare CR before the request",
            1,
            "\rGET /case/#### HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ),
        case(
            "blank lines between two",
            2,
            "GET /case/#### HTTP/1.1\r\nHost: localhost\r\n\r\n\r\nGET /case/#### HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ),
        case(
            "two in one segment",
            2,
            "GET /case/#### HTTP/1.1\r\nHost: localhost\r\n\r\nGET /case/#### HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ),
        case(
            "obs-fold with a blank",
            1,
            "GET /case/#### HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n c\r\n\r\n",
        ),
        case(
            "obs-fold with a tab",
            1,
            "GET /case/#### HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n\tc\r\n\r\n",
        ),
        case(
            "obs-fold of the host",
            1,
            "GET /case/#### HTTP/1.1\r\nHost:\r\n localhost\r\n\r\n",
        ),
        case(
            "a blank before the first header",
            1,
            "GET /case/#### HTTP/1.1\r\n X-A: b\r\nHost: localhost\r\n\r\n",
        ),
    ]
}

fn heads() -> Vec<Case> {
    let line = |name, line: &str| {
        whole(
            "request line",
            name,
            1,
            &format!("{line}\r\nHost: localhost\r\n\r\n"),
        )
    };
    let header = |name, header: &str| {
        let bytes = format!("GET /case/#### HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n");
        whole("header bytes", name, 1, &bytes)
    };
    vec![
        line("two blanks", "GET  /case/#### HTTP/1.1"),
        line("tabs", "GET\t/case/####\tHTTP/1.1"),
        line("a blank behind", "GET /case/#### HTTP/1.1 "),
        line("a blank before", " GET /case/#### HTTP/1.1"),
        line("no version", "GET /case/####"),
        line("HTTP/0.9", "GET /case/#### HTTP/0.9"),
        line("HTTP/1.0", "GET /case/#### HTTP/1.0"),
        line("HTTP/1.2", "GET /case/#### HTTP/1.2"),
        line("HTTP/1.10", "GET /case/#### HTTP/1.10"),
        line("HTTP/2.0", "GET /case/#### HTTP/2.0"),
        line("http/1.1", "GET /case/#### http/1.1"),
        line(
            "a request in the target",
            "GET /case/####%20HTTP/1.1%0d%0aX:%20y HTTP/1.1",
        ),
        line(
            "a line end in the query",
            "GET /case/####?a=%0d%0ab HTTP/1.1",
        ),
        line("a blank in the target", "GET /case/#### x HTTP/1.1"),
        line("a fragment", "GET /case/####?q#fragment HTTP/1.1"),
        line("bytes that are not ASCII", "GET /case/####?\u{e9} HTTP/1.1"),
        line("absolute form", "GET http://localhost/case/#### HTTP/1.1"),
        line(
            "absolute form of another host",
            "GET http://evil.example/case/#### HTTP/1.1",
        ),
        line(
            "absolute form of another scheme",
            "GET ftp://localhost/case/#### HTTP/1.1",
        ),
        line(
            "user and password",
            "GET http://a:b@localhost/case/#### HTTP/1.1",
        ),
        line("authority form", "GET localhost:80 HTTP/1.1"),
        line("CONNECT", "CONNECT localhost:80 HTTP/1.1"),
        line("lower-case method", "get /case/#### HTTP/1.1"),
        header("blank in a name", "X A: b"),
        header("blank behind a name", "X-A : b"),
        header("tab in a name", "X\tA: b"),
        header("parenthesis in a name", "X(A): b"),
        header("a name that is not ASCII", "X-\u{e9}: b"),
        header("NUL in a name", "X\0A: b"),
        header("no name", ": b"),
        header("no colon", "X-A"),
        header("NUL in a value", "X-A: b\0c"),
        header("escape in a value", "X-A: b\x1b[31m"),
        header("delete in a value", "X-A: b\x7f"),
        header("value that is not ASCII", "X-A: \u{e9}"),
        header("second host", "Host: localhost"),
        header("second host, another", "hOST: evil.example"),
        header(
            "the signature's own headers",
            "X-Signature: 1\r\nx-signature: 2\r\nX-API-KEY-ID: 3\r\nX-Timestamp: 4",
        ),
    ]
}

fn cases() -> Vec<Case> {
    [
        two_lengths(),
        codings(),
        hidden_bodies(),
        lengths(),
        chunks(),
        line_ends(),
        heads(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[tokio::test]
async fn no_bytes_of_a_client_are_more_requests_upstream_than_it_sent() {
    let cases = Arc::new(cases());
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
    verdicts::assert_kept("smuggling/h1.txt", &rows);
}

/// The verdict on each case by one listener, be it read ahead as JSON or streamed.
async fn all_of(cases: &[Case], daemon: &Daemon, behind: &Behind, is_tcp: bool) -> Vec<String> {
    let base = if is_tcp { 1000 } else { 3000 };
    let types = ["application/json", "text/plain"];
    let sent = cases.iter().enumerate().flat_map(|(at, case)| {
        types.iter().enumerate().map(move |(of_type, media_type)| {
            let number = base + 1000 * of_type + at;
            let bytes = case.bytes.replace("<TYPE>", media_type);
            exchange(daemon, is_tcp, bytes.replace("####", &number.to_string()))
        })
    });
    let answers = join_all(sent).await;
    let seen = behind.seen();
    let smuggled: Vec<_> = seen
        .iter()
        .filter(|line| line.contains("smuggled"))
        .collect();
    cases
        .iter()
        .enumerate()
        .map(|(at, case)| {
            let verdicts = [0, 1].map(|of_type| {
                let number = (base + 1000 * of_type + at).to_string();
                let arrived = seen.iter().filter(|line| line.contains(&number)).count();
                assert!(arrived <= case.requests, "{}: {arrived} arrived", case.name);
                // Two requests of one reading may both pass; one of both readings may not.
                if case.requests < 2 {
                    assert!(
                        !smuggled.iter().any(|line| line.contains(&number)),
                        "{}",
                        case.name
                    );
                }
                format!("{}, {arrived} upstream", answers[2 * at + of_type])
            });
            match verdicts {
                [read_ahead, streamed] if read_ahead == streamed => streamed,
                [read_ahead, streamed] => format!("{read_ahead}; streamed: {streamed}"),
            }
        })
        .collect()
}

async fn exchange(daemon: &Daemon, is_tcp: bool, bytes: String) -> String {
    if is_tcp {
        let stream = TcpStream::connect(daemon.address()).await.unwrap();
        return statuses(stream, &bytes).await;
    }
    statuses(UnixStream::connect(daemon.socket()).await.unwrap(), &bytes).await
}

/// The status of every answer until the daemon closes the connection.
async fn statuses(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &str) -> String {
    let _ = stream.write_all(bytes.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = within(
        format!("the connection was closed after {bytes:?}"),
        stream.read_to_end(&mut answer),
    )
    .await;
    let answer = String::from_utf8_lossy(&answer);
    let all: Vec<_> = answer
        .split("HTTP/1.")
        .skip(1)
        .filter_map(|rest| rest.get(2..5))
        .filter(|status| status.bytes().all(|byte| byte.is_ascii_digit()))
        .collect();
    if all.is_empty() {
        "closed".to_owned()
    } else {
        all.join(" ")
    }
}
