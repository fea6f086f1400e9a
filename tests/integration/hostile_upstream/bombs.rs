//! Little that unpacks to a lot: passed on packed, or refused, and never unpacked.

use bytes::Bytes;
use http::Response;

use crate::common::{Ask, Setup, Upstream, Way, body};

/// What the daemon may take for any of it; unpacked, each is many times as much.
const LITTLE: u64 = 32 * 1024;

/// Zstandard (RFC 8878): a frame of blocks that each repeat one byte 128 KiB times. 8 GiB unpacked.
fn zstd() -> Vec<u8> {
    let repeated = |is_last: u32| {
        let head = is_last | 1 << 1 | (128 * 1024) << 3;
        [&head.to_le_bytes()[..3], b" "].concat()
    };
    // A window of 128 KiB, no length, no checksum.
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3];
    bomb.extend(repeated(0).repeat(64 * 1024 - 1));
    bomb.extend(repeated(1));
    bomb
}

/// gzip (RFC 1951, 1952): a blank, then "258 bytes from one byte ago" over and over, with the fixed
/// codes. 160 MiB unpacked.
fn gzip() -> Vec<u8> {
    let mut bits = Bits::default();
    // The last block, with fixed codes, then the literal 0x20.
    bits.push(0b1, 1);
    bits.push(0b01, 2);
    bits.push_code(0x30 + 0x20, 8);
    for _ in 0..650_000 {
        bits.push_code(0b1100_0101, 8);
        bits.push_code(0, 5);
    }
    bits.push_code(0, 7);
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    // Nobody comes as far as the checksum.
    [&head[..], &bits.bytes, &[0; 8]].concat()
}

/// From the lowest bit of each byte on.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    count: usize,
}

impl Bits {
    fn push(&mut self, value: u32, count: u32) {
        for at in 0..count {
            if self.count.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let bit = u8::from(value >> at & 1 == 1);
            *self.bytes.last_mut().unwrap() |= bit << (self.count % 8);
            self.count += 1;
        }
    }

    /// Huffman codes have their highest bit first.
    fn push_code(&mut self, code: u32, count: u32) {
        self.push(code.reverse_bits() >> (32 - count), count);
    }
}

/// At `/CODING/json`, `/CODING/events` and `/CODING/refused`.
fn throw(upstream: &Upstream, coding: &'static str, bomb: &Bytes) {
    for (path, status, kind) in [
        ("json", 200, "application/json"),
        ("events", 200, "text/event-stream"),
        ("refused", 401, "application/json"),
    ] {
        let bomb = bomb.clone();
        upstream.at(&format!("/{coding}/{path}"), move |mut call| {
            let response = Response::builder()
                .status(status)
                .header("content-type", kind)
                .header("content-encoding", coding)
                .body(body::full(bomb.clone()));
            async move {
                call.read().await?;
                Ok(response.unwrap())
            }
        });
    }
}

const ROUTES: &str = r#"
[[route]]
path = "/"
upstream = "up"
[[route]]
path = "/filtered/"
strip_prefix = true
upstream = "up"
[[route.policy]]
tools = { allow = ["echo"] }
"#;

#[tokio::test]
async fn a_compressed_bomb_is_passed_on_packed_or_refused_and_never_unpacked() {
    let bombs = [("gzip", Bytes::from(gzip())), ("zstd", zstd().into())];
    for upstream in [Upstream::https(), Upstream::https_h1()] {
        for (coding, bomb) in &bombs {
            throw(&upstream, coding, bomb);
        }
        let daemon = Setup::before(&upstream).more(ROUTES).start().await;
        let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
        assert_eq!(daemon.get("/").await.status, 200);
        let before = daemon.proc_status("VmRSS");
        for (coding, bomb) in &bombs {
            for way in Way::ALL {
                for path in ["json", "events"] {
                    let path = format!("/{coding}/{path}");
                    let answer = daemon.ask_by(way, Ask::post(&path, list)).await;
                    assert_eq!(answer.status, 200);
                    assert_eq!(answer.header("content-encoding"), Some(*coding));
                    assert!(answer.body == bomb, "{path}: not as the upstream sent it");
                    // Where it would have to be read it is not, and goes no further.
                    let path = format!("/filtered{path}");
                    let answer = daemon.ask_by(way, Ask::post(&path, list)).await;
                    answer.assert_refused(502, "upstream_bad_response");
                }
                let path = format!("/{coding}/refused");
                let answer = daemon.ask_by(way, Ask::post(&path, list)).await;
                answer.assert_refused(503, "upstream_rejected_credential");
            }
        }
        let grown = daemon.proc_status("VmHWM").saturating_sub(before);
        eprintln!("compressed bombs: {grown} KiB at the peak above {before} KiB");
        assert!(grown < LITTLE, "{grown} KiB");
    }
}
