//! Request bodies: passed on whole, as they come, within their limits.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::common::body::{self, Pipe};
use crate::common::{Ask, Daemon, Http, Setup, Upstream, Way, raw};

const LIMITS: &str = "[limits]\nmax_body = \"100KiB\"\nreplay_buffer = \"10KiB\"";

async fn limited(upstream: &Upstream) -> Daemon {
    Setup::before(upstream).more(LIMITS).start().await
}

fn of(length: u64) -> body::Body {
    body::long(length, &Arc::new(AtomicU64::new(0)))
}

/// A body that comes by a pipe has no length to announce.
async fn piped(length: usize) -> (body::Body, tokio::task::JoinHandle<()>) {
    let (pipe, body) = body::piped();
    let writing = tokio::spawn(async move {
        for _ in 0..length / 1000 {
            if !pipe.send(vec![b'y'; 1000]).await {
                return;
            }
        }
    });
    (body, writing)
}

#[tokio::test]
async fn bodies_of_any_size_and_kind_arrive_as_they_were_sent() {
    for upstream in [Upstream::https(), Upstream::https_h1(), Upstream::unix()] {
        let daemon = limited(&upstream).await;
        for way in Way::ALL {
            for media_type in ["application/json", "application/octet-stream"] {
                for length in [0, 1, 9_000, 10_240, 11_000, 100_000, 102_400] {
                    let ask = Ask::new("POST", "/up").header("content-type", media_type);
                    let sent = bytes::Bytes::from(vec![b'z'; length]);
                    let answer = daemon.ask_by(way, ask.body(body::full(sent.clone()))).await;
                    assert_eq!(answer.status, 200, "{way:?} {media_type} {length}");
                    assert!(answer.body == sent && upstream.last().body() == sent);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_length_that_is_known_is_told_upstream() {
    let upstream = Upstream::https_h1();
    let daemon = limited(&upstream).await;
    for length in [0, 5, 50_000] {
        let ask = Ask::new("PUT", "/up").body(body::full(vec![b'z'; length]));
        daemon.ask(ask).await;
        let told = upstream.last().header("content-length").map(str::to_owned);
        assert_eq!(told.unwrap_or("0".into()), length.to_string());
        assert_eq!(upstream.last().header("transfer-encoding"), None);
    }
    let (unknown, writing) = piped(50_000).await;
    daemon.ask(Ask::new("PUT", "/up").body(unknown)).await;
    writing.await.unwrap();
    assert_eq!(upstream.last().header("transfer-encoding"), Some("chunked"));
}

#[tokio::test]
async fn an_announced_length_over_the_limit_is_refused_before_a_byte_is_read() {
    let upstream = Upstream::https();
    let daemon = limited(&upstream).await;
    for media_type in ["application/json", "text/plain"] {
        // No byte of the body is ever sent: whoever waited for one would wait for ever.
        let request = format!(
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\nContent-Length: 102401\r\n\r\n"
        );
        let answer = raw::exchange(daemon.address(), request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(
            answer.contains("x-mcp-auth-proxy-error: body_too_large"),
            "{answer}"
        );
        assert!(answer.contains("connection: close"), "{answer}");
        let is_json_rpc = answer.contains(r#"{"jsonrpc":"2.0","id":null,"error":"#);
        assert_eq!(is_json_rpc, media_type == "application/json", "{answer}");
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_body_that_turns_out_too_large_is_refused_when_it_does() {
    let upstream = Upstream::https();
    let daemon = limited(&upstream).await;
    for way in Way::ALL {
        for media_type in ["application/json", "text/plain"] {
            let (body, writing) = piped(300_000).await;
            let ask = Ask::new("POST", "/mcp")
                .header("content-type", media_type)
                .body(body);
            daemon
                .ask_by(way, ask)
                .await
                .assert_refused(413, "body_too_large");
            writing.await.unwrap();
        }
    }
    // What had begun upstream broke off: nothing was taken for a whole body.
    upstream.idle().await;
    assert!(
        upstream
            .seen()
            .iter()
            .all(|seen| seen.body.lock().unwrap().is_none())
    );
}

#[tokio::test]
async fn too_large_a_body_that_was_announced_over_http2_is_refused_too() {
    let upstream = Upstream::https();
    let daemon = limited(&upstream).await;
    for way in [Way::Tcp(Http::Two), Way::Unix(Http::Two)] {
        let ask = Ask::post("/mcp", vec![b' '; 102_401]);
        daemon
            .ask_by(way, ask)
            .await
            .assert_refused(413, "body_too_large");
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_body_streams_upstream_while_the_client_still_sends() {
    for upstream in [Upstream::https(), Upstream::https_h1()] {
        let pieces = Arc::new(crate::common::journal::Journal::default());
        let of_handler = Arc::clone(&pieces);
        upstream.at("/up", move |mut call| {
            let pieces = Arc::clone(&of_handler);
            async move {
                while let Some(frame) = http_body_util::BodyExt::frame(&mut call.body).await {
                    pieces.push(frame.map_err(|_| body::Cut)?.into_data().unwrap());
                }
                Ok(crate::common::upstream::json("{}"))
            }
        });
        let daemon = Setup::before(&upstream).start().await;
        for way in Way::ALL {
            let (pipe, body) = body::piped();
            let before = pieces.len();
            let writing = async {
                for text in ["one", "two", "three"] {
                    pipe.send(text).await;
                    pieces
                        .find_after(before, text, |piece: &bytes::Bytes| {
                            piece == text.as_bytes()
                        })
                        .await;
                }
                drop(pipe);
            };
            let mut client = daemon.client(way).await;
            let ask = Ask::new("POST", "/up").body(body);
            let (answer, ()) = tokio::join!(client.ask(ask), writing);
            assert_eq!(answer.status, 200, "{way:?}");
        }
    }
}

#[tokio::test]
async fn a_client_that_breaks_its_body_off_is_not_taken_for_done() {
    for upstream in [Upstream::https(), Upstream::https_h1()] {
        let daemon = limited(&upstream).await;
        for way in Way::ALL {
            for media_type in ["application/json", "text/plain"] {
                let (pipe, body) = body::piped();
                let mut client = daemon.client(way).await;
                let ask = Ask::new("POST", "/cut")
                    .header("content-type", media_type)
                    .body(body);
                let cutting = async {
                    pipe.send(vec![b'a'; 20_000]).await;
                    upstream.arrival("/cut").await;
                    Pipe::cut(pipe).await;
                };
                let (answer, ()) = tokio::join!(client.try_ask(ask), cutting);
                // Over HTTP/2 the client has reset its own stream; over HTTP/1.1 it may yet read the 400.
                assert!(answer.is_err() || answer.unwrap().status == 400, "{way:?}");
                upstream.idle().await;
            }
        }
        assert!(
            upstream
                .seen()
                .iter()
                .all(|seen| seen.body.lock().unwrap().is_none())
        );
    }
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up_after_the_read_timeout() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream).more("[server]\nread_timeout = \"300ms\"");
    let daemon = setup.start().await;
    for media_type in ["application/json", "text/plain"] {
        let (pipe, body) = body::piped();
        pipe.send("{").await;
        let ask = Ask::new("POST", "/mcp")
            .header("content-type", media_type)
            .body(body);
        let answer = daemon.ask(ask).await;
        assert_eq!(answer.code(), Some("body_timeout"), "{answer:?}");
        drop(pipe);
    }
    upstream.idle().await;
}

#[tokio::test]
async fn a_body_that_makes_progress_may_take_longer_than_the_read_and_request_timeouts() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream)
        .upstream("request_timeout = \"400ms\"")
        .more("[server]\nread_timeout = \"400ms\"");
    let daemon = setup.start().await;
    for media_type in ["application/json", "text/plain"] {
        let (pipe, body) = body::piped();
        let ask = Ask::new("POST", "/slow-up")
            .header("content-type", media_type)
            .body(body);
        let writing = async {
            for _ in 0..8 {
                pipe.send("1234567890").await;
                tokio::time::sleep(Duration::from_millis(120)).await;
            }
            drop(pipe);
        };
        let mut client = daemon.client(Way::Tcp(Http::One)).await;
        let (answer, ()) = tokio::join!(client.ask(ask), writing);
        assert_eq!(
            (answer.status.as_u16(), answer.body.len()),
            (200, 80),
            "{media_type} {answer:?}"
        );
    }
}

#[tokio::test]
async fn expect_continue_is_answered_and_the_body_comes_then() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    let mut stream = tokio::net::TcpStream::connect(daemon.address())
        .await
        .unwrap();
    let head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes())
        .await
        .unwrap();
    raw::read_until(&mut stream, "HTTP/1.1 100 Continue\r\n\r\n").await;
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"body")
        .await
        .unwrap();
    let answer = raw::read_to_end(&mut stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("body"),
        "{answer}"
    );
    assert_eq!(upstream.only().header("expect"), None);
}

#[tokio::test]
async fn who_does_not_wait_for_a_continue_keeps_the_connection() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    let mut stream = tokio::net::TcpStream::connect(daemon.address())
        .await
        .unwrap();
    let request = |headers: &str| {
        format!("POST /mcp HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: 4\r\n\r\nbody")
    };
    let both = request("Expect: 100-continue\r\n") + &request("Connection: close\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut stream, both.as_bytes())
        .await
        .unwrap();
    let answers = raw::read_to_end(&mut stream).await;
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 2, "{answers}");
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test]
async fn a_refused_body_that_was_only_announced_is_never_asked_for() {
    let upstream = Upstream::https();
    let daemon = limited(&upstream).await;
    let head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 999999\r\n\r\n";
    let answer = raw::exchange(daemon.address(), head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_gigantic_chunked_json_body_is_refused_without_being_kept() {
    let upstream = Upstream::https();
    let daemon = limited(&upstream).await;
    let before = daemon.proc_status("VmHWM");
    let ask = Ask::new("POST", "/mcp")
        .header("content-type", "application/json")
        .body(of(50 * 1024 * 1024));
    let mut client = daemon.client(Way::Tcp(Http::One)).await;
    client.ask(ask).await.assert_refused(413, "body_too_large");
    let grown = daemon.proc_status("VmHWM") - before;
    assert!(grown < 4 * 1024, "it grew by {grown} KiB");
}
