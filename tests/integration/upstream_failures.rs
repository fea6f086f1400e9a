//! An upstream that fails: the client is told what happened, or sees that the answer broke off.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::raw::RawUpstream;
use crate::common::tls::{Authority, Tls, authority};
use crate::common::{Ask, Daemon, Setup, Upstream, Way, body};

const CALL: &str = r#"{"jsonrpc":"2.0","id":"c-1","method":"tools/call","params":{"name":"t"}}"#;

/// Each request is sent once, whatever became of those before it.
fn once(setup: Setup) -> Setup {
    setup.upstream("retry = \"off\"\nbreaker = \"off\"")
}

/// Asserts what every kind of client gets: the code, by its own id if it sent a request.
async fn assert_fails(daemon: &Daemon, status: u16, code: &str) {
    for way in Way::ALL {
        let answer = daemon.ask_by(way, Ask::get("/fails")).await;
        answer.assert_refused(status, code);
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );

        let answer = daemon.ask_by(way, Ask::post("/fails", CALL)).await;
        answer.assert_refused(status, code);
        assert_eq!(answer.json()["id"], "c-1", "{way:?} {answer:?}");
    }
    let ask = Ask::post("/fails", CALL).header("x-request-id", "logged-once");
    daemon.ask(ask).await.assert_refused(status, code);
    let lines = daemon.requests_logged("logged-once").await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(
        (&lines[0]["error_code"], &lines[0]["level"]),
        (&code.into(), &"warning".into())
    );
    assert_eq!(lines[0]["upstream"], "up");
    assert_eq!(lines[0]["mcp_method"], "tools/call");
}

/// An address where nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn an_upstream_that_refuses_connections_is_unreachable() {
    let daemon = once(Setup::at(&format!("https://{}", nobody())))
        .start()
        .await;
    assert_fails(&daemon, 502, "upstream_unreachable").await;
}

#[tokio::test]
async fn a_unix_upstream_that_is_not_there_is_unreachable() {
    let daemon = once(Setup::at("unix:/nowhere/at/all.sock")).start().await;
    assert_fails(&daemon, 502, "upstream_unreachable").await;
}

#[tokio::test]
async fn a_host_that_does_not_resolve_is_called_that() {
    // No resolver asks anybody for a label of more than 63 letters.
    let url = format!("http://{}.example/", "z".repeat(64));
    let daemon = once(Setup::at(&url)).start().await;
    assert_fails(&daemon, 502, "upstream_dns").await;
}

#[tokio::test]
async fn an_upstream_that_closes_before_it_answers_was_reset() {
    let upstream = RawUpstream::start(|_| {});
    let daemon = once(Setup::at(&upstream.url())).start().await;
    assert_fails(&daemon, 502, "upstream_reset").await;
    // It may have acted on the request: nothing is sent twice.
    assert_eq!(upstream.heads.len(), 9);
}

#[tokio::test]
async fn an_upstream_that_resets_the_connection_was_reset() {
    let upstream = RawUpstream::start(|stream| {
        // With a linger of zero, closing sends an RST.
        socket_linger_zero(stream);
    });
    let daemon = once(Setup::at(&upstream.url())).start().await;
    assert_fails(&daemon, 502, "upstream_reset").await;
    assert_eq!(upstream.heads.len(), 9);
}

fn socket_linger_zero(stream: &TcpStream) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    nix::sys::socket::setsockopt(stream, nix::sys::socket::sockopt::Linger, &linger).unwrap();
}

#[tokio::test]
async fn an_upstream_that_ends_within_its_head_was_reset() {
    let upstream = RawUpstream::answering("HTTP/1.1 200 OK\r\nContent-Le");
    let daemon = once(Setup::at(&upstream.url())).start().await;
    assert_fails(&daemon, 502, "upstream_reset").await;
}

#[tokio::test]
async fn a_stream_that_http2_resets_before_it_answers_was_reset() {
    let upstream = Upstream::https();
    upstream.at("/fails", |_| async { Err(body::Cut) });
    let daemon = once(Setup::before(&upstream)).start().await;
    assert_fails(&daemon, 502, "upstream_reset").await;
    assert_eq!(upstream.count(), 9);
}

#[tokio::test]
async fn an_upstream_that_hangs_times_out_and_is_left() {
    for upstream in [Upstream::https(), Upstream::https_h1()] {
        upstream.at("/fails", |_| std::future::pending());
        let setup = once(Setup::before(&upstream)).upstream("request_timeout = \"200ms\"");
        let daemon = setup.start().await;
        let begun = Instant::now();
        assert_fails(&daemon, 504, "upstream_timeout").await;
        let each = begun.elapsed() / 9;
        assert!(
            each > Duration::from_millis(195) && each < Duration::from_secs(2),
            "{each:?}"
        );
        // The requests upstream end with it.
        upstream.idle().await;
    }
}

#[tokio::test]
async fn an_upstream_that_hangs_in_the_handshake_is_given_up_after_the_connect_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let setup = once(Setup::at(&url)).upstream("connect_timeout = \"200ms\"");
    let daemon = setup.start().await;
    assert_fails(&daemon, 504, "upstream_connect_timeout").await;
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused() {
    let unknown = Authority::new("nobody's");
    let upstream = Upstream::tls(Tls {
        identity: unknown.issue(&["127.0.0.1"]),
        ..Tls::default()
    });
    let daemon = once(Setup::before(&upstream)).start().await;
    assert_fails(&daemon, 502, "upstream_tls").await;
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_certificate_of_another_name_is_refused() {
    let upstream = Upstream::tls(Tls {
        identity: authority().issue(&["other.example"]),
        ..Tls::default()
    });
    let daemon = once(Setup::before(&upstream)).start().await;
    assert_fails(&daemon, 502, "upstream_tls").await;
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn an_upstream_that_speaks_no_tls_at_all_is_refused() {
    let upstream = Upstream::http();
    let url = upstream.url().replace("http:", "https:");
    let daemon = once(Setup::at(&url)).start().await;
    assert_fails(&daemon, 502, "upstream_tls").await;
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn what_is_no_http_is_a_bad_response() {
    for nonsense in [
        "nonsense\r\n\r\n".to_owned(),
        "HTTP/1.1 abc OK\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: a\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".to_owned(),
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n".to_owned(),
        format!(
            "HTTP/1.1 200 OK\r\nX-Huge: {}\r\n\r\n",
            "a".repeat(1024 * 1024)
        ),
        "SSH-2.0-OpenSSH_9.2\r\n".to_owned(),
    ] {
        let shown = nonsense.chars().take(40).collect::<String>();
        let upstream = RawUpstream::answering(nonsense);
        let daemon = Setup::at(&upstream.url()).start().await;
        let answer = daemon.post("/fails", CALL).await;
        assert_eq!(answer.code(), Some("upstream_bad_response"), "{shown}");
        answer.assert_refused(502, "upstream_bad_response");
        assert_eq!(answer.json()["id"], "c-1");
    }
}

/// Asserts that what had come arrives, and that the end is a break for every kind of client.
async fn assert_cut(daemon: &Daemon, target: &str) {
    for way in Way::ALL {
        let id = format!("cut-{way:?}").replace(['(', ')'], "-");
        let mut client = daemon.client(way).await;
        let ask = Ask::get(target).header("x-request-id", &id);
        let mut opened = client.open(ask).await;
        assert_eq!(opened.status, 200);
        opened.until("first part").await;
        let (_, end) = opened.end().await;
        assert!(end.is_err(), "{way:?}: the break was hidden");
        let line = daemon.logged_request(&id).await;
        assert_eq!(line["outcome"], "upstream_cut", "{line}");
        assert_eq!(line["level"], "warning", "{line}");
    }
}

#[tokio::test]
async fn a_body_cut_short_of_its_length_is_visibly_broken() {
    let upstream = RawUpstream::answering(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\n\r\nfirst part",
    );
    let daemon = Setup::at(&upstream.url()).start().await;
    assert_cut(&daemon, "/cut").await;
}

#[tokio::test]
async fn a_chunked_body_without_its_last_chunk_is_visibly_broken() {
    for rest in ["", "5\r\nab", "zz\r\n", "0\r\n"] {
        let upstream = RawUpstream::answering(format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nfirst part\r\n{rest}"
        ));
        let daemon = Setup::at(&upstream.url()).start().await;
        assert_cut(&daemon, "/cut").await;
    }
}

#[tokio::test]
async fn an_event_stream_that_breaks_is_visibly_broken() {
    let upstream = RawUpstream::answering(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n12\r\ndata: first part\n\n\r\n",
    );
    let daemon = Setup::at(&upstream.url()).start().await;
    assert_cut(&daemon, "/cut").await;
}

#[tokio::test]
async fn a_stream_that_is_reset_in_its_body_is_visibly_broken() {
    for upstream in [Upstream::https(), Upstream::https_h1(), Upstream::unix()] {
        let daemon = Setup::before(&upstream).start().await;
        for media_type in ["text/plain", "text/event-stream"] {
            let pipes = upstream.streams_of(media_type, "/cut");
            for way in Way::ALL {
                let mut client = daemon.client(way).await;
                let mut opened = client.open(Ask::get("/cut")).await;
                let pipe = pipes
                    .find_after(pipes.len() - 1, "the stream", |_| true)
                    .await;
                pipe.send("data: first part\n\n").await;
                opened.until("first part").await;
                pipe.cut().await;
                let (_, end) = opened.end().await;
                assert!(end.is_err(), "{way:?} {media_type}: the break was hidden");
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_ends_with_its_connection_ends_cleanly() {
    // HTTP/1.0 has no other way to say it.
    let upstream =
        RawUpstream::answering("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nall of it");
    let daemon = Setup::at(&upstream.url()).start().await;
    for way in Way::ALL {
        assert_eq!(daemon.ask_by(way, Ask::get("/")).await.text(), "all of it");
    }
}

#[tokio::test]
async fn informational_answers_do_not_take_the_place_of_the_real_one() {
    let upstream = RawUpstream::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nreal",
    );
    let daemon = Setup::at(&upstream.url()).start().await;
    for way in Way::ALL {
        let answer = daemon.ask_by(way, Ask::get("/")).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "real"));
    }
}

#[tokio::test]
async fn an_unasked_for_answer_on_an_idle_connection_reaches_nobody() {
    let upstream = RawUpstream::start(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfineHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        let _ = stream.read(&mut [0]);
    });
    let daemon = Setup::at(&upstream.url()).start().await;
    for _ in 0..10 {
        assert_eq!(daemon.get("/").await.text(), "fine");
    }
}

#[tokio::test]
async fn a_switch_of_protocols_is_not_passed_on() {
    let upstream = RawUpstream::start(|stream| {
        let _ = stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        );
        let _ = stream.shutdown(Shutdown::Write);
    });
    let daemon = Setup::at(&upstream.url()).start().await;
    let ask = Ask::get("/ws")
        .header("connection", "upgrade")
        .header("upgrade", "websocket");
    let answer = daemon.ask(ask).await;
    assert_eq!(answer.status, 502, "{answer:?}");
    let head = upstream.heads.all().remove(0).to_lowercase();
    assert!(!head.contains("upgrade"), "{head}");
}

#[tokio::test]
async fn an_upstreams_own_errors_pass_byte_for_byte() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    for status in [
        400, 402, 403, 404, 405, 408, 409, 410, 413, 418, 422, 429, 451, 500, 501, 502, 503, 504,
        599,
    ] {
        upstream.says(
            "/error",
            status,
            &[
                ("content-type", "application/json; charset=utf-8"),
                ("retry-after", "7"),
                ("x-upstream-detail", "as it is"),
            ],
            "{\"error\":  \"odd \\u00e9 spacing\"}\r\n",
        );
        for way in Way::ALL {
            let answer = daemon.ask_by(way, Ask::post("/error", CALL)).await;
            assert_eq!(answer.status, status);
            assert_eq!(answer.code(), None);
            assert_eq!(answer.text(), "{\"error\":  \"odd \\u00e9 spacing\"}\r\n");
            assert_eq!(
                answer.header("content-type"),
                Some("application/json; charset=utf-8")
            );
            assert_eq!(answer.header("retry-after"), Some("7"));
            assert_eq!(answer.header("x-upstream-detail"), Some("as it is"));
        }
    }
}

#[tokio::test]
async fn bodiless_answers_stay_bodiless() {
    let upstream = Upstream::https();
    upstream.says("/none", 204, &[], "");
    upstream.says("/same", 304, &[("x-upstream-tag", "1")], "");
    upstream.says("/accepted", 202, &[], "");
    upstream.says(
        "/long",
        200,
        &[("content-type", "text/plain")],
        "0123456789",
    );
    let daemon = Setup::before(&upstream).start().await;
    for way in Way::ALL {
        for (path, status) in [("/none", 204), ("/same", 304), ("/accepted", 202)] {
            let answer = daemon.ask_by(way, Ask::get(path)).await;
            assert_eq!((answer.status.as_u16(), answer.text()), (status, ""));
        }
        let answer = daemon.ask_by(way, Ask::new("HEAD", "/long")).await;
        assert_eq!(answer.header("content-length"), Some("10"), "{way:?}");
        assert_eq!(answer.text(), "");
    }
}

#[tokio::test]
async fn an_error_is_not_taken_from_what_the_upstream_claims_to_be_ours() {
    let upstream = Upstream::https();
    upstream.says(
        "/claims",
        502,
        &[("x-mcp-auth-proxy-error", "upstream_reset")],
        "mine",
    );
    let daemon = Setup::before(&upstream).start().await;
    let answer = daemon.get("/claims").await;
    assert_eq!((answer.code(), answer.text()), (None, "mine"));
}

#[tokio::test]
async fn a_request_id_too_long_to_keep_in_memory_is_answered_with_null() {
    let daemon = once(Setup::at(&format!("http://{}", nobody())))
        .more("[limits]\nreplay_buffer = \"1KiB\"")
        .start()
        .await;
    let padding = "x".repeat(2000);
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{{"p":"{padding}"}}}}"#);
    let answer = daemon.ask(Ask::post("/fails", body)).await;
    answer.assert_refused(502, "upstream_unreachable");
    assert!(answer.json()["id"].is_null(), "{answer:?}");
    assert_eq!(answer.json()["jsonrpc"], "2.0");
}

#[tokio::test]
async fn a_failing_upstream_is_used_again_as_soon_as_it_is_back() {
    let address = nobody();
    let daemon = once(Setup::at(&format!("http://{address}"))).start().await;
    daemon
        .get("/")
        .await
        .assert_refused(502, "upstream_unreachable");
    let listener = Arc::new(TcpListener::bind(&address).unwrap());
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nback");
    });
    assert_eq!(daemon.get("/").await.text(), "back");
    answering.join().unwrap();
}

#[tokio::test]
async fn a_request_that_reached_a_pooled_connection_is_never_sent_twice() {
    // Answers the first request of each connection, takes the second, and closes.
    let seconds = Arc::new(crate::common::journal::Journal::default());
    let of_upstream = Arc::clone(&seconds);
    let upstream = RawUpstream::start(move |stream| {
        let _ = stream.read_exact(&mut [0; CALL.len()]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine");
        let mut second = [0; 4096];
        if let Ok(n @ 1..) = stream.read(&mut second) {
            let head = String::from_utf8_lossy(&second[..n]).into_owned();
            of_upstream.push(head.lines().next().unwrap_or_default().to_owned());
        }
    });
    let daemon = Setup::at(&upstream.url()).start().await;
    let mut client = daemon.client(Way::Tcp(crate::common::Http::One)).await;
    let mut failed = 0;
    for i in 0..20 {
        let target = format!("/once-{i}");
        let answer = client.ask(Ask::post(&target, CALL)).await;
        if answer.status != 200 {
            answer.assert_refused(502, "upstream_reset");
            failed += 1;
        }
        let firsts = upstream.heads.all();
        let times = |line: &String| line.contains(&format!("{target} "));
        let sent = firsts.iter().filter(|line| times(line)).count()
            + seconds.all().iter().filter(|line| times(line)).count();
        assert_eq!(sent, 1, "{target} was sent {sent} times");
    }
    assert!(failed > 0, "no connection was used again");
}

#[tokio::test]
async fn an_upstream_that_allows_few_streams_at_a_time_gets_no_more() {
    let upstream = Upstream::https_with_streams(5);
    let open = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let daemon = Setup::before(&upstream).start().await;
    upstream.at("/slow", move |call| {
        let open = Arc::clone(&open);
        async move {
            use std::sync::atomic::Ordering;
            open.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
            open.fetch_sub(1, Ordering::Relaxed);
            crate::common::upstream::echo(call).await
        }
    });
    let mut asking = Vec::new();
    for i in 0..40 {
        let mut client = daemon.client(Way::ALL[i % 4]).await;
        asking.push(tokio::spawn(async move {
            client.ask(Ask::post("/slow", CALL)).await
        }));
    }
    for asking in asking {
        assert_eq!(asking.await.unwrap().status, 200);
    }
    assert_eq!(upstream.count(), 40);
}
