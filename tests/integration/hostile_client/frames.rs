//! Floods and abuse over HTTP/2.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::others_go_on;
use crate::common::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, block, frame,
};
use crate::common::{Setup, Upstream};

type Attack = (&'static str, Box<dyn Fn(&mut UnixStream) + Send + Sync>);

const LASTS: Duration = Duration::from_secs(2);
const FLOOD: usize = 32 * 1024 * 1024;

/// Repeats what `make` makes, reading nothing, until the daemon or the test has had enough.
fn flood(stream: &mut UnixStream, mut make: impl FnMut() -> Vec<u8>) {
    let (began, mut sent) = (Instant::now(), 0);
    while began.elapsed() < LASTS && sent < FLOOD {
        let mut piece = Vec::new();
        while piece.len() < 64 * 1024 {
            piece.extend(make());
        }
        sent += piece.len();
        if stream.write_all(&piece).is_err() {
            return;
        }
    }
}

fn request(id: u32, flags: u8) -> Vec<u8> {
    let fields: [(&[u8], &[u8]); 4] = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/flood"),
        (b":authority", b"localhost"),
    ];
    frame(HEADERS, END_HEADERS | flags, id, &block(&fields))
}

fn floods(name: &'static str, bytes: Vec<u8>) -> Attack {
    (
        name,
        Box::new(move |stream| flood(stream, || bytes.clone())),
    )
}

fn attacks() -> Vec<Attack> {
    vec![
        floods("PING", frame(PING, 0, 0, &[0; 8])),
        floods("SETTINGS", frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])),
        floods("PRIORITY", frame(2, 0, 1, &[0, 0, 0, 0, 1])),
        floods("unknown frames", frame(0xfe, 0, 1, &[0; 64])),
        floods("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        (
            "rapid reset",
            Box::new(|stream| {
                let mut ids = (1..).step_by(2);
                flood(stream, || {
                    let id = ids.next().unwrap();
                    [
                        request(id, END_STREAM),
                        frame(RST_STREAM, 0, id, &[0, 0, 0, 8]),
                    ]
                    .concat()
                });
            }),
        ),
        (
            "streams that are malformed at once",
            Box::new(|stream| {
                let mut ids = (1..).step_by(2);
                flood(stream, || {
                    let id = ids.next().unwrap();
                    [request(id, 0), frame(WINDOW_UPDATE, 0, id, &[0; 4])].concat()
                });
            }),
        ),
        (
            "more streams than allowed",
            Box::new(|stream| {
                let mut ids = (1..).step_by(2);
                flood(stream, || request(ids.next().unwrap(), 0));
            }),
        ),
        (
            "CONTINUATION",
            Box::new(|stream| {
                let _ = stream.write_all(&frame(HEADERS, 0, 1, &block(&[(b":method", b"GET")])));
                flood(stream, || {
                    frame(CONTINUATION, 0, 1, &block(&[(b"x-a", &[b'a'; 1000])]))
                });
            }),
        ),
        (
            "empty CONTINUATION",
            Box::new(|stream| {
                let _ = stream.write_all(&frame(HEADERS, 0, 1, &block(&[(b":method", b"GET")])));
                flood(stream, || frame(CONTINUATION, 0, 1, &[]));
            }),
        ),
        (
            "empty DATA",
            Box::new(|stream| {
                let _ = stream.write_all(&request(1, 0));
                flood(stream, || frame(DATA, 0, 1, &[]));
            }),
        ),
        (
            "DATA beyond the window",
            Box::new(|stream| {
                let _ = stream.write_all(&request(1, 0));
                flood(stream, || frame(DATA, 0, 1, &[b'a'; 16 * 1024]));
            }),
        ),
        (
            "a header list of 64 MiB",
            Box::new(|stream| {
                let mut fields = block(&[
                    (b":method", b"GET"),
                    (b":path", b"/"),
                    (b":scheme", b"http"),
                ]);
                fields.extend([0x40, 3, b'x', b'-', b'a', 127, 0xa1, 0x1e]);
                fields.extend([b'a'; 4000]);
                fields.extend([0xbe; 12_000]);
                let _ = stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields));
            }),
        ),
        (
            "answers that nobody reads",
            Box::new(|stream| {
                // No window at all, and as many requests as there may be.
                let _ = stream.write_all(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
                for id in (1..2000).step_by(2) {
                    if stream.write_all(&request(id, END_STREAM)).is_err() {
                        return;
                    }
                }
            }),
        ),
    ]
}

fn connect(socket: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_write_timeout(Some(LASTS)).unwrap();
    stream.set_read_timeout(Some(LASTS)).unwrap();
    let settings = [frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, ACK, 0, &[])].concat();
    stream.write_all(&[PREFACE, &settings].concat()).unwrap();
    stream
}

#[tokio::test]
async fn floods_over_http2_are_bounded_and_cost_their_client_alone() {
    let upstream = Upstream::http();
    let daemon = Setup::before(&upstream).log_level("warn").start().await;
    others_go_on(&daemon).await;
    let before = daemon.proc_status("VmRSS");
    let mut threads = Vec::new();
    for (name, attack) in attacks() {
        let socket = daemon.socket();
        threads.push((
            name,
            std::thread::spawn(move || {
                let mut stream = connect(&socket);
                attack(&mut stream);
                // Whatever it has to say, until it closes or falls silent.
                let _ = stream.read_to_end(&mut Vec::new());
            }),
        ));
    }
    others_go_on(&daemon).await;
    for (name, thread) in threads {
        tokio::task::spawn_blocking(move || thread.join())
            .await
            .unwrap()
            .expect(name);
    }
    let grown = daemon.proc_status("VmHWM").saturating_sub(before);
    eprintln!("floods over HTTP/2: {grown} KiB at the peak above {before} KiB");
    // A connection may have a thousand requests with a window of 256 KiB each, all in all 1 MiB.
    assert!(grown < 64 * 1024, "{grown} KiB");
    others_go_on(&daemon).await;
    crate::common::until("they are gone", || daemon.status()["connections"] == 0).await;
}
