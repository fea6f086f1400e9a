//! What is no HTTP, or HTTP that could be read in two ways: refused, closed, nothing upstream.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::common::{Ask, Daemon, Http, Setup, Upstream, Way, raw};

async fn start(upstream: &Upstream) -> Daemon {
    Setup::before(upstream).start().await
}

fn status(answer: &str) -> u16 {
    let status = answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    status.and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// Sends it, and asserts that the one answer has this status and that the connection is closed.
async fn assert_refused(daemon: &Daemon, request: &str, expected: u16) -> String {
    // `exchange` returns only once the connection is closed.
    let answer = raw::exchange(daemon.address(), request.as_bytes()).await;
    assert_eq!(status(&answer), expected, "{request:?}\n{answer}");
    assert_eq!(
        answer.matches("HTTP/1.1 ").count(),
        1,
        "{request:?}\n{answer}"
    );
    answer
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let upstream = Upstream::https();
    let daemon = start(&upstream).await;
    for request in [
        "nonsense\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03\r\n\r\n",
        "GET\r\n\r\n",
        "GET /mcp\r\n\r\n",
        "GET /mcp HTTP/3.0\r\nHost: localhost\r\n\r\n",
        "GET /mcp HTTX/1.1\r\nHost: localhost\r\n\r\n",
        "GE(T /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /m cp HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /mcp HTTP/1.1\r\nHost localhost\r\n\r\n",
        "GET /mcp HTTP/1.1\r\n: empty\r\nHost: localhost\r\n\r\n",
        "GET /mcp HTTP/1.1\r\nHost: localhost\r\nA b: c\r\n\r\n",
        "GET /mcp HTTP/1.1\r\nHost: localhost\r\nA: b\0c\r\n\r\n",
    ] {
        assert_refused(&daemon, request, 400).await;
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_request_without_a_host_or_with_two_is_malformed() {
    let upstream = Upstream::https();
    let daemon = start(&upstream).await;
    for request in [
        "GET /mcp HTTP/1.1\r\n\r\n",
        "GET /mcp HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        "GET /mcp HTTP/1.1\r\nHost: localhost\r\nhost: evil.example\r\n\r\n",
    ] {
        let answer = assert_refused(&daemon, request, 400).await;
        assert!(
            answer.contains("x-mcp-auth-proxy-error: bad_request"),
            "{answer}"
        );
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_target_for_another_host_is_refused_whatever_the_host_header_says() {
    let upstream = Upstream::https();
    let daemon = start(&upstream).await;
    for request in [
        "GET http://evil.example/mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET http://localhost/mcp HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
    ] {
        assert_refused(&daemon, request, 403).await;
    }
    let connect = "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n";
    assert_refused(&daemon, connect, 400).await;
    let asterisk = "OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_refused(&daemon, asterisk, 400).await;
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn conflicting_lengths_are_refused() {
    let upstream = Upstream::https();
    let daemon = start(&upstream).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for lengths in [
        // CL.CL
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: 0\r\nContent-Length: 46",
        // CL.TE and TE.CL
        "Content-Length: 46\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 46",
        "transfer-ENCODING: chunked\r\ncontent-LENGTH: 0",
        "Content-Length: 0\r\nTransfer-Encoding: identity",
        // No number, or one with a sign.
        "Content-Length: -1",
        "Content-Length: +5",
        "Content-Length: 0x10",
        "Content-Length: 5 5",
        "Content-Length: 99999999999999999999999",
        "Content-Length:",
    ] {
        let request = format!(
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\n{lengths}\r\n\r\n0\r\n\r\n{smuggled}"
        );
        assert_refused(&daemon, &request, 400).await;
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn transfer_codings_that_others_may_read_differently_are_refused() {
    let upstream = Upstream::https();
    let daemon = start(&upstream).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for coding in [
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\r\n : chunked",
    ] {
        let request =
            format!("POST /mcp HTTP/1.1\r\nHost: localhost\r\n{coding}\r\n\r\n0\r\n\r\n{smuggled}");
        assert_refused(&daemon, &request, 400).await;
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_folded_header_is_refused() {
    let upstream = Upstream::https();
    let daemon = start(&upstream).await;
    let request = "GET /mcp HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n c\r\n\r\n";
    assert_refused(&daemon, request, 400).await;
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_broken_chunk_ends_the_request_and_the_connection() {
    let upstream = Upstream::https();
    let daemon = start(&upstream).await;
    for body in [
        "zz\r\nabc\r\n0\r\n\r\n",
        "5\r\nabcdefgh\r\n0\r\n\r\n",
        "-1\r\n\r\n",
        "ffffffffffffffffff\r\n",
    ] {
        for media_type in ["application/json", "text/plain"] {
            let request = format!(
                "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
            );
            let answer = assert_refused(&daemon, &request, 400).await;
            assert!(
                answer.contains("x-mcp-auth-proxy-error: body_cut"),
                "{answer}"
            );
        }
    }
    // What streams may have begun; none of it was ever whole.
    upstream.idle().await;
    assert!(
        upstream
            .seen()
            .iter()
            .all(|seen| seen.body.lock().unwrap().is_none())
    );
}

#[tokio::test]
async fn header_bombs_get_a_431() {
    let upstream = Upstream::https();
    let daemon = start(&upstream).await;
    let one_huge = format!(
        "GET /mcp HTTP/1.1\r\nHost: localhost\r\nX-Huge: {}\r\n\r\n",
        "a".repeat(128 * 1024)
    );
    let many: String = (0..5000).map(|i| format!("X-{i}: b\r\n")).collect();
    let many = format!("GET /mcp HTTP/1.1\r\nHost: localhost\r\n{many}\r\n");
    for request in [one_huge, many] {
        assert_refused(&daemon, &request, 431).await;
    }
    let target = format!(
        "GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "a".repeat(128 * 1024)
    );
    let answer = raw::exchange(daemon.address(), target.as_bytes()).await;
    assert!([414, 431].contains(&status(&answer)), "{answer}");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn header_bombs_over_http2_go_nowhere() {
    let upstream = Upstream::https();
    let daemon = start(&upstream).await;
    let mut client = daemon.client(Way::Tcp(Http::Two)).await;
    let bomb = Ask::get("/mcp").header("x-huge", &"a".repeat(128 * 1024));
    // A 431 or a reset stream: either says no.
    if let Ok(answer) = client.try_ask(bomb).await {
        assert_eq!(answer.status, 431);
    }
    assert_eq!(upstream.count(), 0);
    assert_eq!(daemon.get("/after").await.status, 200);
}

#[tokio::test]
async fn a_good_request_after_a_refused_one_on_the_same_connection_is_never_read() {
    let upstream = Upstream::https();
    let daemon = start(&upstream).await;
    let refused = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let good = "GET /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_refused(&daemon, &format!("{refused}{good}"), 400).await;
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::https();
    let daemon = start(&upstream).await;
    let requests: String = (0..5)
        .map(|i| format!("POST /mcp HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: id-{i}\r\nContent-Length: 3\r\n\r\n<{i}>"))
        .collect();
    let last = "GET /end HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = raw::exchange(daemon.address(), format!("{requests}{last}").as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 6, "{answer}");
    let places: Vec<_> = (0..5)
        .map(|i| answer.find(&format!("<{i}>")).unwrap())
        .collect();
    assert!(places.is_sorted(), "{answer}");
}

#[tokio::test]
async fn a_malformed_connection_is_noted_and_others_go_on() {
    let upstream = Upstream::https();
    let daemon = start(&upstream).await;
    let mut other = daemon.client(Way::Tcp(Http::One)).await;
    assert_eq!(other.ask(Ask::get("/before")).await.status, 200);
    assert_refused(&daemon, "nonsense\r\n\r\n", 400).await;
    let line = daemon
        .logged("the malformed request", |line| {
            line["msg"] == "connection closed: not valid HTTP"
        })
        .await;
    assert!(
        line["peer"].as_str().unwrap().starts_with("127.0.0.1:"),
        "{line}"
    );
    assert_eq!(other.ask(Ask::get("/after")).await.status, 200);
}

#[tokio::test]
async fn slow_headers_are_closed_after_the_header_timeout() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream).more("[server]\nread_timeout = \"400ms\"");
    let daemon = setup.start().await;
    let mut stream = TcpStream::connect(daemon.address()).await.unwrap();
    let begun = std::time::Instant::now();
    let (mut reading, mut writing) = stream.split();
    let dripping = async {
        for byte in "GET /mcp HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
            .bytes()
            .chain(std::iter::repeat(b'a'))
        {
            if writing.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let mut answer = Vec::new();
    let closed = async {
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut reading, &mut answer).await;
    };
    tokio::select! {
        () = dripping => {}
        () = crate::common::within("the slow connection was closed", closed) => {}
    }
    let lasted = begun.elapsed();
    assert!(
        lasted >= std::time::Duration::from_millis(380),
        "{lasted:?}"
    );
    assert!(lasted < std::time::Duration::from_secs(5), "{lasted:?}");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_connection_that_never_says_a_word_is_closed_after_the_idle_timeout() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream).more("[server]\nidle_timeout = \"300ms\"");
    let daemon = setup.start().await;
    let mut silent = TcpStream::connect(daemon.address()).await.unwrap();
    assert_eq!(raw::read_to_end(&mut silent).await, "");
    for way in Way::ALL {
        let mut client = daemon.client(way).await;
        assert_eq!(client.ask(Ask::get("/once")).await.status, 200);
        client.closed().await;
    }
}

#[tokio::test]
async fn conflicting_lengths_are_seen_in_a_pipelined_request_too() {
    let upstream = Upstream::https();
    let daemon = start(&upstream).await;
    for first in [
        "GET /first HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /first HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
        "POST /first HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ] {
        let second = "POST /second HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        let third = "GET /third HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let requests = format!("{first}{second}{third}");
        let answer = raw::exchange(daemon.address(), requests.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 400 ").count(), 1, "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 2, "{answer}");
    }
    assert!(upstream.seen().iter().all(|seen| seen.target == "/first"));
}

#[tokio::test]
async fn a_head_in_the_smallest_pieces_is_read_as_one() {
    let upstream = Upstream::https();
    let daemon = start(&upstream).await;
    let good = "POST /drops HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    let bad = "POST /drops HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    for (request, expected) in [(good, 200), (bad, 400)] {
        let mut stream = TcpStream::connect(daemon.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for byte in request.bytes() {
            if stream.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let answer = raw::read_to_end(&mut stream).await;
        assert_eq!(status(&answer), expected, "{answer}");
    }
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_client_of_http_1_0_is_served_in_its_own_terms() {
    let upstream = Upstream::https();
    let daemon = start(&upstream).await;
    let pipes = upstream.streams_of("text/plain", "/unknown-length");
    let request = "GET /unknown-length HTTP/1.0\r\nHost: localhost\r\n\r\n";
    let asking = raw::exchange(daemon.address(), request.as_bytes());
    let answering = async {
        let pipe = pipes.find_after(0, "the request upstream", |_| true).await;
        pipe.send("all of it").await;
        pipe.end().await;
    };
    let (answer, ()) = tokio::join!(asking, answering);
    assert_eq!(status(&answer.replacen("1.0", "1.1", 1)), 200, "{answer}");
    // It knows no chunks: the end of the connection is the end of the answer.
    assert!(!answer.contains("transfer-encoding"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nall of it"), "{answer}");
}

#[tokio::test]
async fn the_admin_socket_refuses_what_is_malformed_in_the_same_way() {
    use crate::common::admin;
    let daemon = Setup::at("http://127.0.0.1:1").start().await;
    let socket = daemon.admin_socket();
    for (method, headers) in [
        ("GET", ""),
        ("GET", "host: localhost\r\nhost: localhost\r\n"),
        (
            "POST",
            "host: localhost\r\ncontent-length: 0\r\ncontent-length: 1\r\n",
        ),
        (
            "POST",
            "host: localhost\r\ncontent-length: 0\r\ntransfer-encoding: chunked\r\n",
        ),
        ("G(T", "host: localhost\r\n"),
    ] {
        let (status, page) = admin::ask_with(&socket, method, "/-/reload", headers).unwrap();
        assert_eq!(status, 400, "{method} {headers:?} {page}");
    }
    let (status, page) = admin::ask_with(&socket, "GET", "/none", "host: localhost\r\n").unwrap();
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    assert_eq!((status, page["code"].is_string()), (404, true), "{page}");
    assert!(daemon.status()["last_reload"].is_null());
}
