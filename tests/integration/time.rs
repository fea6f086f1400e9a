//! How long things may take, and what time it is: deadlines, silence, old connections, clocks that differ.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use http::Response;

use crate::common::raw::RawUpstream;
use crate::common::{Ask, Http, Setup, Upstream, Way, body};

const CALL: &str = r#"{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"name":"t"}}"#;
const PATIENCE: &str = "x-mcp-auth-proxy-timeout";
/// What a test may take that waits for no default of many seconds.
const SOON: Duration = Duration::from_secs(8);

fn never(upstream: &Upstream) {
    upstream.at("/never", |_| std::future::pending());
}

fn slow(upstream: &Upstream) {
    upstream.at("/slow", |_| async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(Response::new(body::full("{}")))
    });
}

#[tokio::test]
async fn a_client_that_gives_its_request_less_time_is_answered_in_it() {
    for upstream in [Upstream::https(), Upstream::https_h1()] {
        never(&upstream);
        let daemon = Setup::before(&upstream).start().await;
        for way in Way::ALL {
            let begun = Instant::now();
            let ask = Ask::post("/never", CALL).header(PATIENCE, "150ms");
            let answer = daemon.ask_by(way, ask).await;
            answer.assert_refused(504, "upstream_timeout");
            assert!(answer.text().contains("150ms"), "{answer:?}");
            assert_eq!(answer.json()["id"], "c");
            assert!(begun.elapsed() < SOON, "{way:?}");
        }
    }
}

#[tokio::test]
async fn a_clients_time_lengthens_nothing_and_is_between_it_and_the_proxy() {
    let upstream = Upstream::https();
    never(&upstream);
    let setup = Setup::before(&upstream).upstream("request_timeout = \"150ms\"");
    let daemon = setup.start().await;
    let begun = Instant::now();
    let ask = Ask::post("/never", CALL).header(PATIENCE, "1h");
    let answer = daemon.ask(ask).await;
    answer.assert_refused(504, "upstream_timeout");
    assert!(begun.elapsed() < SOON);

    let ask = Ask::get("/echo")
        .header(PATIENCE, "5s")
        .header("x_mcp_auth_proxy_timeout", "5s");
    assert_eq!(daemon.ask(ask).await.status, 200);
    let seen = upstream.seen().pop().unwrap();
    let passed = seen
        .headers
        .keys()
        .find(|name| name.as_str().ends_with("timeout"));
    assert_eq!(passed, None);

    for nonsense in ["5", "soon", "0s"] {
        let ask = Ask::post("/never", CALL).header(PATIENCE, nonsense);
        daemon.ask(ask).await.assert_refused(400, "bad_request");
    }
}

#[tokio::test]
async fn what_hasty_clients_give_up_says_nothing_of_the_upstreams_health() {
    let upstream = Upstream::https();
    never(&upstream);
    let setup = Setup::before(&upstream)
        .upstream("breaker = { failures = 1, patience = \"1ms\", probe_interval = \"1h\" }");
    let daemon = setup.start().await;
    for _ in 0..3 {
        let ask = Ask::post("/never", CALL).header(PATIENCE, "50ms");
        daemon
            .ask(ask)
            .await
            .assert_refused(504, "upstream_timeout");
    }
    assert_eq!(daemon.status()["upstreams"][0]["requests"], "passing");
    assert_eq!(daemon.get("/").await.status, 200);
}

#[tokio::test]
async fn what_its_client_has_given_up_is_not_sent() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    let mut client = daemon.client(Way::Unix(Http::One)).await;
    let (pipe, upload) = body::piped();
    let (begun, rest) = CALL.split_at(20);
    let ask = Ask::post("/x", "").header(PATIENCE, "50ms").body(upload);
    let sending = async {
        pipe.send(begun).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        pipe.send(rest).await;
        pipe.end().await;
    };
    let (answer, ()) = tokio::join!(client.ask(ask), sending);
    answer.assert_refused(504, "upstream_timeout");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_route_has_a_time_of_its_own() {
    let upstream = Upstream::https();
    never(&upstream);
    slow(&upstream);
    let daemon = Setup::before(&upstream)
        .upstream("request_timeout = \"250ms\"")
        .more(
            "[[route]]\npath = \"/\"\nupstream = \"up\"\n\
             [[route]]\npath = \"/slow\"\nupstream = \"up\"\nrequest_timeout = \"20s\"",
        )
        .start()
        .await;
    assert_eq!(daemon.post("/slow", CALL).await.status, 200);
    let refused = daemon.post("/never", CALL).await;
    refused.assert_refused(504, "upstream_timeout");
    assert!(refused.text().contains("250ms"), "{refused:?}");
}

#[tokio::test]
async fn an_answer_that_falls_silent_is_broken_off_and_a_stream_of_events_is_not() {
    for upstream in [Upstream::https(), Upstream::https_h1()] {
        let files = upstream.streams_of("text/plain", "/file");
        let events = upstream.streams_at("/events");
        let setup = Setup::before(&upstream).upstream("response_idle_timeout = \"400ms\"");
        let daemon = setup.start().await;
        let mut listener = daemon.open(Ask::events("/events")).await;
        let event = events.find("a stream", |_| true).await;

        let ask = Ask::get("/file").header("x-request-id", "silent");
        let mut reader = daemon.open(ask).await;
        let file = files.find("a file", |_| true).await;
        // Each piece gives it as long again.
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(150)).await;
            file.send("piece").await;
            reader.until("piece").await;
        }
        let begun = Instant::now();
        assert!(reader.end().await.1.is_err());
        assert!(begun.elapsed() < SOON);
        file.closed().await;
        let line = daemon.logged_request("silent").await;
        assert_eq!(line["outcome"], "upstream_cut");

        event.send("data: at last\n\n").await;
        listener.until("at last").await;
    }
}

#[tokio::test]
async fn a_connection_that_is_too_old_takes_no_further_request() {
    for upstream in [Upstream::https(), Upstream::https_h1()] {
        for (age, connections) in [("1h", 1), ("1ms", 3)] {
            let setup = Setup::before(&upstream)
                .upstream(&format!("max_connection_age = \"{age}\""))
                .more("[server]\nworkers = 1");
            let daemon = setup.start().await;
            let events = upstream.streams_at("/events");
            let mut client = daemon.open(Ask::events("/events")).await;
            let event = events.find("a stream", |_| true).await;
            let before = upstream.count();
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_millis(10)).await;
                assert_eq!(daemon.get("/").await.status, 200);
            }
            let used: HashSet<_> = upstream.seen()[before..]
                .iter()
                .map(|seen| seen.connection)
                .collect();
            assert_eq!(used.len(), connections, "{age}");
            // What was in use when it came of age goes on.
            event.send("data: still here\n\n").await;
            client.until("still here").await;
        }
    }
}

/// Refuses its first request with a 401 and answers all others, its clock 1000 s ahead.
fn ahead() -> RawUpstream {
    let requests = AtomicUsize::new(0);
    RawUpstream::start(move |stream| {
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(1000));
        let status = match requests.fetch_add(1, Ordering::Relaxed) {
            0 => "401 Unauthorized",
            _ => "200 OK",
        };
        let head = format!(
            "HTTP/1.1 {status}\r\ndate: {date}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    })
}

/// By how many seconds each request was signed for another time than now.
fn signed_ahead(upstream: &RawUpstream) -> Vec<u64> {
    let ahead = |head: String| {
        let line = head.lines().find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("x-timestamp: ")
                .map(str::to_owned)
        });
        let at = humantime::parse_rfc3339(line.unwrap().to_ascii_uppercase().trim()).unwrap();
        at.duration_since(SystemTime::now())
            .unwrap_or_default()
            .as_secs()
    };
    upstream.heads.all().into_iter().map(ahead).collect()
}

#[tokio::test]
async fn a_clock_that_differs_is_warned_of_once_and_shown() {
    let upstream = ahead();
    let daemon = Setup::at(&upstream.url()).start().await;
    let refused = daemon.post("/x", CALL).await;
    refused.assert_refused(503, "upstream_rejected_credential");
    let line = daemon
        .logged("of the clock", |line| !line["clock_skew_seconds"].is_null())
        .await;
    assert_eq!(
        (&line["level"], &line["upstream"]),
        (&"warning".into(), &"up".into())
    );
    assert_eq!(daemon.post("/x", CALL).await.status, 200);
    assert!(signed_ahead(&upstream).iter().all(|ahead| *ahead == 0));

    let is_it = |skew: i64| (995..=1001).contains(&skew);
    assert!(
        is_it(line["clock_skew_seconds"].as_i64().unwrap()),
        "{line}"
    );
    let status = daemon.status();
    assert!(is_it(
        status["upstreams"][0]["clock_skew_seconds"]
            .as_i64()
            .unwrap()
    ));
    let gauge = daemon.metric("mcp_auth_proxy_clock_skew_seconds{upstream=\"up\"}");
    assert!(is_it(gauge as i64), "{gauge}");
    let warned = daemon.text().matches("far from this machine's").count();
    assert_eq!(warned, 1);
}

#[tokio::test]
async fn with_the_upstreams_clock_the_request_that_learns_of_it_succeeds_too() {
    let upstream = ahead();
    let setup = Setup::at(&upstream.url()).upstream("clock = \"upstream\"");
    let daemon = setup.start().await;
    let answer = daemon.post("/x", CALL).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-mcp-auth-proxy-attempts"), Some("2"));
    let ahead = signed_ahead(&upstream);
    assert!(matches!(ahead[..], [0, 980..=1001]), "{ahead:?}");
    let status = daemon.status();
    assert!(
        status["upstreams"][0]["credential"]["refused"].is_null(),
        "{status}"
    );
}
