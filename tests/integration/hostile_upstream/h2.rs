//! Over HTTP/2, with frames written by hand.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use super::{Case, flood};
use crate::common::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PUSH_PROMISE,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame,
};

/// `attack` gets the stream on which the first request has come.
fn case(name: &'static str, attack: impl Fn(&mut TcpStream, u32) + Send + Sync + 'static) -> Case {
    let attack = move |stream: &mut TcpStream| {
        if let Some(id) = first_request(stream) {
            attack(stream, id);
        }
    };
    let family = if name.contains("flood") {
        "h2 without end"
    } else {
        "h2 frames"
    };
    Case {
        family,
        name,
        is_h2: true,
        attack: Arc::new(attack),
    }
}

/// Answers every request with these frames, until the daemon closes: what only reads is tried again.
fn says(name: &'static str, frames: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static) -> Case {
    case(name, move |stream, id| {
        let mut next = Some(id);
        while let Some(id) = next {
            if stream.write_all(&frames(id)).is_err() {
                return;
            }
            next = next_request(stream);
        }
    })
}

fn floods(name: &'static str, frames: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static) -> Case {
    case(name, move |stream, id| flood(stream, &frames(id)))
}

/// The rest of the preface has come, settings are exchanged, and a request is there.
fn first_request(stream: &mut TcpStream) -> Option<u32> {
    let mut rest_of_preface = [0; 6];
    stream.read_exact(&mut rest_of_preface).ok()?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).ok()?;
    next_request(stream)
}

fn next_request(stream: &mut TcpStream) -> Option<u32> {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).ok()?;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        stream.read_exact(&mut vec![0; len as usize]).ok()?;
        if head[3] == SETTINGS && head[4] & ACK == 0 {
            stream.write_all(&frame(SETTINGS, ACK, 0, &[])).ok()?;
        }
        if head[3] == HEADERS {
            return Some(u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
        }
    }
}

fn ok() -> Vec<u8> {
    block(&[(b":status", b"200")])
}

fn head(id: u32, fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, id, &block(fields))
}

pub fn cases() -> Vec<Case> {
    [endless(), answers(), frames()]
        .into_iter()
        .flatten()
        .collect()
}

fn endless() -> Vec<Case> {
    vec![
        case("CONTINUATION flood", |stream, id| {
            let _ = stream.write_all(&frame(HEADERS, 0, id, &ok()));
            flood(
                stream,
                &frame(CONTINUATION, 0, id, &block(&[(b"x-a", &[b'a'; 1000])])),
            );
        }),
        case("empty CONTINUATION flood", |stream, id| {
            let _ = stream.write_all(&frame(HEADERS, 0, id, &ok()));
            flood(stream, &frame(CONTINUATION, 0, id, &[]));
        }),
        floods("PING flood", |_| frame(PING, 0, 0, &[0; 8])),
        floods("SETTINGS flood", |_| {
            frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])
        }),
        floods("SETTINGS ACK flood", |_| frame(SETTINGS, ACK, 0, &[])),
        floods("flood of PRIORITY", |id| frame(2, 0, id, &[0, 0, 0, 0, 1])),
        floods("flood of unknown frames", |id| {
            frame(0xfe, 0xff, id, &[0; 100])
        }),
        floods("WINDOW_UPDATE flood", |_| {
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])
        }),
        floods("flood of resets of one stream", |id| {
            frame(RST_STREAM, 0, id, &[0, 0, 0, 8])
        }),
        floods("flood of 103 Early Hints", |id| {
            frame(
                HEADERS,
                END_HEADERS,
                id,
                &block(&[(b":status", b"103"), (b"link", b"</a>")]),
            )
        }),
        case("flood of 103 out of the dynamic table", |stream, id| {
            // RFC 7541, section 6.2.1: both are from then on in the table, the last one first.
            let remembered = [&b"\x48\x03103"[..], b"\x40\x03x-a\x01b"].concat();
            let _ = stream.write_all(&frame(HEADERS, END_HEADERS, id, &remembered));
            flood(
                stream,
                &frame(HEADERS, END_HEADERS, id, &[0x80 | 63, 0x80 | 62]),
            );
        }),
        case("flood of empty DATA", |stream, id| {
            let _ = stream.write_all(&frame(HEADERS, END_HEADERS, id, &ok()));
            flood(stream, &frame(DATA, 0, id, &[]));
        }),
        case("flood of padding", |stream, id| {
            let _ = stream.write_all(&frame(HEADERS, END_HEADERS, id, &ok()));
            flood(
                stream,
                &frame(DATA, 8, id, &[&[255][..], &[0; 255]].concat()),
            );
        }),
        case("flood of DATA beyond the window", |stream, id| {
            let _ = stream.write_all(&frame(HEADERS, END_HEADERS, id, &ok()));
            flood(stream, &frame(DATA, 0, id, &[b'a'; 16 * 1024]));
        }),
        case("flood of trailers", |stream, id| {
            let _ = stream.write_all(&frame(HEADERS, END_HEADERS, id, &ok()));
            flood(
                stream,
                &frame(HEADERS, END_HEADERS, id, &block(&[(b"x-a", b"b")])),
            );
        }),
        case("silence as a flood of nothing", |stream, _| {
            drop(stream.read_to_end(&mut Vec::new()))
        }),
    ]
}

fn answers() -> Vec<Case> {
    vec![
        says("a header list of 64 MiB by the dynamic table", |id| {
            // An entry of 4,000 bytes, named once and then again and again by its index.
            let mut block = ok();
            block.extend([0x40, 3, b'x', b'-', b'a', 127, 0xa1, 0x1e]);
            block.extend([b'a'; 4000]);
            block.extend([0xbe; 12_000]);
            frame(HEADERS, END_HEADERS | END_STREAM, id, &block)
        }),
        says("CR LF in a value", |id| {
            head(
                id,
                &[
                    (b":status", b"200"),
                    (b"x-upstream-a", b"b\r\nset-cookie: c"),
                ],
            )
        }),
        says("LF in a value", |id| {
            head(
                id,
                &[(b":status", b"200"), (b"x-upstream-a", b"b\nset-cookie: c")],
            )
        }),
        says("CR LF in a name", |id| {
            head(
                id,
                &[
                    (b":status", b"200"),
                    (b"x-upstream-a: b\r\nset-cookie", b"c"),
                ],
            )
        }),
        says("connection in an answer", |id| {
            head(id, &[(b":status", b"200"), (b"connection", b"close")])
        }),
        says("transfer-encoding in an answer", |id| {
            head(
                id,
                &[(b":status", b"200"), (b"transfer-encoding", b"chunked")],
            )
        }),
        says("a length that does not fit", |id| {
            let head = block(&[(b":status", b"200"), (b"content-length", b"500")]);
            [
                frame(HEADERS, END_HEADERS, id, &head),
                frame(DATA, END_STREAM, id, b"short"),
            ]
            .concat()
        }),
        says("no status", |id| head(id, &[(b"x-upstream-a", b"b")])),
        says("two statuses", |id| {
            head(id, &[(b":status", b"200"), (b":status", b"204")])
        }),
        says("status 000", |id| head(id, &[(b":status", b"000")])),
        says("status of four digits", |id| {
            head(id, &[(b":status", b"2000")])
        }),
        says("a request as an answer", |id| {
            head(id, &[(b":method", b"GET"), (b":path", b"/")])
        }),
        says("101 Switching Protocols", |id| {
            head(id, &[(b":status", b"101")])
        }),
        says("a code of ours", |id| {
            head(
                id,
                &[(b":status", b"200"), (b"x-mcp-auth-proxy-error", b"forged")],
            )
        }),
        says("CR LF in a trailer", |id| {
            let trailer = block(&[(b"x-a", b"b\r\n\r\nHTTP/1.1 200 OK")]);
            [
                frame(HEADERS, END_HEADERS, id, &ok()),
                frame(HEADERS, END_HEADERS | END_STREAM, id, &trailer),
            ]
            .concat()
        }),
    ]
}

fn frames() -> Vec<Case> {
    vec![
        says("every stream reset at once", |id| {
            frame(RST_STREAM, 0, id, &[0, 0, 0, 8])
        }),
        says("every stream refused", |id| {
            frame(RST_STREAM, 0, id, &[0, 0, 0, 7])
        }),
        says("a malformed stream by the upstream's word", |id| {
            frame(RST_STREAM, 0, id, &[0, 0, 0, 1])
        }),
        says("GOAWAY before the request", |_| {
            frame(GOAWAY, 0, 0, &[0; 8])
        }),
        says("a frame of 16 MiB", |id| {
            let mut frame = frame(DATA, 0, id, &[]);
            frame[..3].fill(0xff);
            frame
        }),
        says("a promise of a push", |id| {
            frame(
                PUSH_PROMISE,
                END_HEADERS,
                id,
                &[&[0, 0, 0, 2][..], &ok()].concat(),
            )
        }),
        says("DATA before a head", |id| frame(DATA, 0, id, b"early")),
        says("an answer to nothing", |_| {
            head(99, &[(b":status", b"200")])
        }),
        says("a stream of the upstream's own", |_| {
            head(2, &[(b":status", b"200")])
        }),
        says("a window of 2^31", |_| {
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]).repeat(2)
        }),
        says("a window of nothing", |_| {
            frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])
        }),
        says("a header table of 4 GiB", |id| {
            [
                frame(SETTINGS, 0, 0, &[0, 1, 0xff, 0xff, 0xff, 0xff]),
                head(id, &[(b":status", b"200")]),
            ]
            .concat()
        }),
        says("no streams allowed", |_| {
            frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 0])
        }),
        says("compression that is none", |id| {
            frame(HEADERS, END_HEADERS | END_STREAM, id, &[0xff; 100])
        }),
        says("HTTP/1.1", |_| {
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()
        }),
    ]
}
