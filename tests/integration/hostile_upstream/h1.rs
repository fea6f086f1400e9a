//! Over HTTP/1.1.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use super::{Case, flood};

fn case(
    family: &'static str,
    name: &'static str,
    attack: impl Fn(&mut TcpStream) + Send + Sync + 'static,
) -> Case {
    Case {
        family,
        name,
        is_h2: false,
        attack: Arc::new(attack),
    }
}

/// Begins with this and repeats that for as long as it is taken.
fn endless(name: &'static str, begin: &'static str, then: &'static str) -> Case {
    case("h1 without end", name, move |stream| {
        let _ = stream.write_all(begin.as_bytes());
        flood(stream, then.as_bytes());
    })
}

/// Says this once and closes.
fn says(family: &'static str, name: &'static str, bytes: &'static str) -> Case {
    case(family, name, move |stream| {
        let _ = stream.write_all(bytes.as_bytes());
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    })
}

pub fn cases() -> Vec<Case> {
    [floods(), framing(), heads()]
        .into_iter()
        .flatten()
        .collect()
}

fn floods() -> Vec<Case> {
    vec![
        endless("status line", "HTTP/1.1 200 ", "aaaaaaaaaaaaaaaa"),
        endless(
            "headers",
            "HTTP/1.1 200 OK\r\n",
            "X-A: aaaaaaaaaaaaaaaaaaaaaa\r\n",
        ),
        endless("one header", "HTTP/1.1 200 OK\r\nX-A: ", "aaaaaaaaaaaaaaaa"),
        endless("blank lines", "", "\r\n"),
        endless("no HTTP at all", "", "SSH-2.0-OpenSSH\r\n"),
        endless("100 Continue", "", "HTTP/1.1 100 Continue\r\n\r\n"),
        endless(
            "103 Early Hints",
            "",
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        ),
        endless(
            "a body that is read by nobody",
            "HTTP/1.1 200 OK\r\n\r\n",
            "aaaaaaaaaaaaaaaa",
        ),
        endless(
            "chunks of one byte",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "1\r\na\r\n",
        ),
        endless(
            "a chunk's extension",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;",
            "aaaaaaaaaaaaaaaa",
        ),
        endless(
            "a chunk's size",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "0000000000000000",
        ),
        endless(
            "trailers",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            "X-A: aaaaaaaaaaaaaaaa\r\n",
        ),
        endless(
            "an event",
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: ",
            "aaaaaaaaaaaaaaaa",
        ),
        endless(
            "an endpoint event",
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent: endpoint\ndata: /",
            "aaaaaaaaaaaaaaaa",
        ),
        endless(
            "a refusal's words",
            "HTTP/1.1 401 Unauthorized\r\n\r\n",
            "Invalid Signature ",
        ),
        endless(
            "what follows an answer",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        ),
        case("h1 without end", "silence", |stream| {
            drop(stream.read_to_end(&mut Vec::new()))
        }),
        case("h1 without end", "a head in drops", |stream| {
            for byte in b"HTTP/1.1 200 OK\r\nX-A: "
                .iter()
                .chain(std::iter::repeat(&b'a'))
                .take(500)
            {
                if stream.write_all(&[*byte]).is_err() {
                    return;
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }),
    ]
}

fn framing() -> Vec<Case> {
    let says = |name, bytes| says("h1 framing", name, bytes);
    vec![
        says("closed without a word", ""),
        says(
            "a body shorter than its length",
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        ),
        says(
            "a body longer than its length",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\nevil",
        ),
        says(
            "two different lengths",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        ),
        says(
            "a list of lengths",
            "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        ),
        says(
            "a length with a sign",
            "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        ),
        says(
            "a length of 2^64",
            "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\nok",
        ),
        says(
            "a length and a coding",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
        says(
            "an unknown coding",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: cow\r\n\r\nok",
        ),
        says(
            "a chunk's size that is none",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n",
        ),
        says(
            "a chunk's size of 2^64",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\nok\r\n0\r\n\r\n",
        ),
        says(
            "chunks without an end",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        ),
        says(
            "204 with a body",
            "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil",
        ),
        says(
            "304 with a body",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil",
        ),
        says(
            "101 that nobody asked for",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: evil\r\nConnection: Upgrade\r\n\r\nevil",
        ),
        says("HTTP/1.0 until the end", "HTTP/1.0 200 OK\r\n\r\nok"),
    ]
}

fn heads() -> Vec<Case> {
    let says = |name, bytes| says("h1 head", name, bytes);
    vec![
        says(
            "status 000",
            "HTTP/1.1 000 Zero\r\nContent-Length: 0\r\n\r\n",
        ),
        says(
            "status 999",
            "HTTP/1.1 999 Much\r\nContent-Length: 0\r\n\r\n",
        ),
        says(
            "status of four digits",
            "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
        ),
        says("HTTP/3.0", "HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
        says(
            "a folded header",
            "HTTP/1.1 200 OK\r\nX-Upstream-A: b\r\n Set-Cookie: c\r\nContent-Length: 0\r\n\r\n",
        ),
        says(
            "a bare CR in a value",
            "HTTP/1.1 200 OK\r\nX-Upstream-A: b\rSet-Cookie: c\r\nContent-Length: 0\r\n\r\n",
        ),
        says(
            "NUL in a value",
            "HTTP/1.1 200 OK\r\nX-Upstream-A: b\0\r\nContent-Length: 0\r\n\r\n",
        ),
        says(
            "a blank before the colon",
            "HTTP/1.1 200 OK\r\nX-Upstream-A : b\r\nContent-Length: 0\r\n\r\n",
        ),
        says(
            "a code of ours",
            "HTTP/1.1 200 OK\r\nX-MCP-Auth-Proxy-Error: forged\r\nContent-Length: 0\r\n\r\n",
        ),
    ]
}
