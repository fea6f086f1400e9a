//! Exactly which headers go in, and exactly which come out.

use std::collections::BTreeSet;

use http::Response;

use crate::common::raw::RawUpstream;
use crate::common::{Ask, Http, Seen, Setup, Upstream, Way, body};

/// What every request has upstream, beside what the client sent.
const ADDED: [&str; 7] = [
    "traceparent",
    "x-api-key-id",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
    "x-signature",
    "x-timestamp",
];

fn names(seen: &Seen) -> BTreeSet<String> {
    seen.headers.keys().map(|name| name.to_string()).collect()
}

/// The names expected upstream.
fn expected(way: Way, upstream: &Upstream, passed: &[&str]) -> BTreeSet<String> {
    let over_tcp = matches!(way, Way::Tcp(_)).then_some("x-forwarded-for");
    // HTTP/2 has :authority for it.
    let host = (!upstream.is_tls()).then_some("host");
    let all = ADDED.iter().chain(passed).copied();
    all.chain(over_tcp).chain(host).map(str::to_owned).collect()
}

#[tokio::test]
async fn what_goes_in_is_what_the_client_sent_and_what_is_promised() {
    for upstream in [Upstream::https(), Upstream::http()] {
        let daemon = Setup::before(&upstream).start().await;
        for way in Way::ALL {
            let ask = Ask::get("/in")
                .header("accept", "application/json, text/event-stream")
                .header("user-agent", "an agent")
                .header("x-custom", "kept");
            assert_eq!(daemon.ask_by(way, ask).await.status, 200);
            let seen = upstream.last();
            let passed = ["accept", "user-agent", "x-custom"];
            assert_eq!(names(&seen), expected(way, &upstream, &passed), "{way:?}");
        }
    }
}

#[tokio::test]
async fn what_comes_out_is_what_the_upstream_sent_and_a_request_id() {
    let upstream = Upstream::https();
    upstream.says(
        "/out",
        200,
        &[("content-type", "text/plain"), ("x-upstream-one", "1")],
        "out",
    );
    let daemon = Setup::before(&upstream).start().await;
    for way in Way::ALL {
        let answer = daemon.ask_by(way, Ask::get("/out")).await;
        let names: BTreeSet<_> = answer.headers.keys().map(|name| name.as_str()).collect();
        let expected = [
            "content-length",
            "content-type",
            "date",
            "x-request-id",
            "x-upstream-one",
        ];
        assert_eq!(names, BTreeSet::from(expected), "{way:?}");
    }
}

#[tokio::test]
async fn hop_by_hop_headers_and_those_that_connection_names_go_no_further() {
    let upstream = Upstream::http();
    let daemon = Setup::before(&upstream).start().await;
    for way in [Way::Tcp(Http::One), Way::Unix(Http::One)] {
        let ask = Ask::get("/hop")
            .header("connection", "keep-alive, X-Named")
            .header("connection", "x-named-too, Upgrade")
            .header("x-named", "1")
            .header("X-Named-Too", "1")
            .header("keep-alive", "timeout=5")
            .header("proxy-connection", "keep-alive")
            .header("te", "trailers, deflate")
            .header("trailer", "x-late")
            .header("upgrade", "h2c")
            .header("proxy-authorization", "Basic hush")
            .header("proxy-authenticate", "Basic")
            .header("x-end", "kept");
        assert_eq!(daemon.ask_by(way, ask).await.status, 200);
        assert_eq!(
            names(&upstream.last()),
            expected(way, &upstream, &["x-end"])
        );
    }
}

#[tokio::test]
async fn hop_by_hop_headers_of_the_upstream_go_no_further() {
    let upstream = RawUpstream::answering(
        "HTTP/1.1 200 OK\r\nConnection: close, X-Upstream-Named\r\nConnection: x-upstream-too\r\nX-Upstream-Named: 1\r\nX-Upstream-Too: 1\r\nKeep-Alive: 5\r\nProxy-Authenticate: Basic\r\nTE: x\r\nTrailer: x-late\r\nUpgrade: h2c\r\nProxy-Connection: close\r\nX-Upstream-End: kept\r\nContent-Length: 2\r\n\r\nok",
    );
    let daemon = Setup::at(&upstream.url()).start().await;
    for way in Way::ALL {
        let answer = daemon.ask_by(way, Ask::get("/")).await;
        let names: BTreeSet<_> = answer.headers.keys().map(|name| name.as_str()).collect();
        let expected = ["content-length", "date", "x-request-id", "x-upstream-end"];
        assert_eq!(names, BTreeSet::from(expected), "{way:?}");
    }
}

#[tokio::test]
async fn the_clients_own_credentials_go_no_further() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    for way in Way::ALL {
        let ask = Ask::get("/mine")
            .header("authorization", "Bearer hush")
            .header("proxy-authorization", "Basic hush")
            .header("cookie", "session=hush")
            .header("cookie", "more=hush")
            .header("signature", "sig1=:hush:")
            .header("signature-input", "sig1=()")
            .header("x-amz-date", "hush")
            .header("x-amz-security-token", "hush")
            .header("x-amz-content-sha256", "hush");
        assert_eq!(daemon.ask_by(way, ask).await.status, 200);
        assert_eq!(
            names(&upstream.last()),
            expected(way, &upstream, &[]),
            "{way:?}"
        );
    }
}

#[tokio::test]
async fn authorization_and_cookies_pass_where_that_was_asked_for() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream).upstream("forward_authorization = true");
    let daemon = setup.start().await;
    for way in Way::ALL {
        let ask = Ask::get("/mine")
            .header("authorization", "Bearer hush")
            .header("cookie", "session=hush")
            .header("x-signature", "hush");
        assert_eq!(daemon.ask_by(way, ask).await.status, 200);
        let seen = upstream.last();
        assert_eq!(seen.header("authorization"), Some("Bearer hush"));
        assert_eq!(seen.header("cookie"), Some("session=hush"));
    }
}

#[tokio::test]
async fn the_headers_of_mcp_pass_untouched_both_ways() {
    let upstream = Upstream::https();
    upstream.at("/mcp", |_| async {
        let response = Response::builder()
            .header("content-type", "application/json")
            .header("mcp-session-id", "from-upstream");
        Ok(response.body(body::full("{}")).unwrap())
    });
    let daemon = Setup::before(&upstream).start().await;
    let sent = [
        ("mcp-session-id", "1868a90c-0000-4aaa"),
        ("mcp-protocol-version", "2025-11-25"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "=?base64?w6k=?="),
        ("mcp-param-region", "eu west"),
        ("last-event-id", "stream-1/42"),
    ];
    for way in Way::ALL {
        let mut ask = Ask::post("/mcp", r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
        for (name, value) in sent {
            ask = ask.header(name, value);
        }
        let answer = daemon.ask_by(way, ask).await;
        assert_eq!(answer.header("mcp-session-id"), Some("from-upstream"));
        let seen = upstream.last();
        for (name, value) in sent {
            assert_eq!(seen.header(name), Some(value));
        }
    }
}

#[tokio::test]
async fn header_values_of_any_bytes_pass_as_they_are() {
    let upstream = RawUpstream::answering(
        "HTTP/1.1 200 OK\r\nX-Upstream-Odd: \u{e9}\t\"\r\nContent-Length: 0\r\n\r\n",
    );
    let daemon = Setup::at(&upstream.url()).start().await;
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\nX-Odd:  caf\u{e9} \t x  \r\nX-Empty:\r\nX-Twice: 1\r\nX-Twice: 2\r\nConnection: close\r\n\r\n";
    let answer = crate::common::raw::exchange(daemon.address(), request.as_bytes()).await;
    assert!(
        answer.contains("x-upstream-odd: \u{e9}\t\"\r\n"),
        "{answer}"
    );
    let head = upstream.heads.all().remove(0);
    for line in [
        "x-odd: caf\u{e9} \t x\r\n",
        "x-empty: \r\n",
        "x-twice: 1\r\nx-twice: 2\r\n",
    ] {
        assert!(head.contains(line), "{line:?} is not in {head}");
    }
}

#[tokio::test]
async fn forwarded_headers_tell_the_truth_and_not_what_the_client_claims() {
    let upstream = Upstream::http();
    let daemon = Setup::before(&upstream).start().await;
    for way in Way::ALL {
        let ask = Ask::get("/fwd")
            .host("localhost:4321")
            .header("x-forwarded-for", "203.0.113.7, 10.0.0.1")
            .header("x-forwarded-for", "again")
            .header("x-forwarded-proto", "https")
            .header("x-forwarded-host", "bank.example");
        assert_eq!(daemon.ask_by(way, ask).await.status, 200);
        let seen = upstream.last();
        let client = matches!(way, Way::Tcp(_)).then_some("127.0.0.1");
        assert_eq!(seen.header("x-forwarded-for"), client, "{way:?}");
        assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
        assert_eq!(seen.header("x-forwarded-host"), Some("localhost:4321"));
        // The upstream is called by its own name.
        assert_eq!(seen.authority, upstream.url().trim_start_matches("http://"));
    }
}

#[tokio::test]
async fn a_sane_request_id_is_kept_and_any_other_replaced() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    for way in Way::ALL {
        let ask = Ask::get("/id").header("x-request-id", "abc-123_x.y:z");
        let answer = daemon.ask_by(way, ask).await;
        assert_eq!(answer.header("x-request-id"), Some("abc-123_x.y:z"));
        assert_eq!(
            upstream.last().header("x-request-id"),
            Some("abc-123_x.y:z")
        );

        let mut made = BTreeSet::new();
        for odd in ["", "two words", "\"quoted\"", "{json}", &"a".repeat(200)] {
            let answer = daemon
                .ask_by(way, Ask::get("/id").header("x-request-id", odd))
                .await;
            let id = answer.header("x-request-id").unwrap();
            assert!(id != odd && id.len() == 32, "{id}");
            assert_eq!(upstream.last().header("x-request-id"), Some(id));
            made.insert(id.to_owned());
        }
        assert_eq!(made.len(), 5, "each request has its own");
    }
    let twice = Ask::get("/id")
        .header("x-request-id", "one")
        .header("x-request-id", "two");
    daemon.ask(twice).await;
    assert!(upstream.last().header("x-request-id").is_some());
}

#[tokio::test]
async fn a_request_id_of_the_upstreams_own_does_not_hide_ours() {
    let upstream = Upstream::https();
    upstream.says("/id", 200, &[("x-request-id", "theirs")], "");
    let daemon = Setup::before(&upstream).start().await;
    let answer = daemon
        .ask(Ask::get("/id").header("x-request-id", "ours"))
        .await;
    // One of the two, and not both.
    assert!(["ours", "theirs"].contains(&answer.header("x-request-id").unwrap()));
    daemon.logged_request("ours").await;
}

#[tokio::test]
async fn a_good_trace_is_continued_and_otherwise_one_begins() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let ask = Ask::get("/t")
        .header("traceparent", good)
        .header("tracestate", "vendor=1");
    daemon.ask(ask).await;
    let seen = upstream.last();
    let trace = seen.header("traceparent").unwrap();
    assert_eq!(&trace[..35], &good[..35], "the trace's id is kept");
    assert_eq!(seen.header("tracestate"), Some("vendor=1"));
    for bad in [
        "nonsense",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
    ] {
        daemon.ask(Ask::get("/t").header("traceparent", bad)).await;
        let made = upstream.last().header("traceparent").unwrap().to_owned();
        assert!(
            made != bad && made.len() == 55 && made.starts_with("00-"),
            "{made}"
        );
    }
}

#[tokio::test]
async fn the_fixed_session_header_is_added_and_the_clients_own_replaced() {
    let upstream = Upstream::https();
    let echo = [("x-upstream-echo", "it was hush-session-value")];
    upstream.says("/s", 200, &echo, "ok");
    for (table, name) in [
        (
            "session = { value = { file = \"DIR/session\" } }",
            "x-session-id",
        ),
        (
            "session = { header = \"X-Tenant\", value = { file = \"DIR/session\" } }",
            "x-tenant",
        ),
    ] {
        let setup = Setup::before(&upstream);
        let table = table.replace("DIR", setup.dir().to_str().unwrap());
        setup.file("session", "hush-session-value\n");
        let daemon = setup.upstream(&table).start().await;
        for way in Way::ALL {
            let ask = Ask::get("/s").header(name, "claimed").header(name, "twice");
            let answer = daemon.ask_by(way, ask).await;
            assert_eq!(answer.status, 200);
            // The upstream repeats it, and no client gets to see it.
            assert_eq!(answer.header("x-upstream-echo"), None);
            assert_eq!(upstream.last().header(name), Some("hush-session-value"));
        }
    }
}

#[tokio::test]
async fn no_page_is_ever_told_that_it_may_read_us() {
    let upstream = Upstream::https();
    upstream.says(
        "/cors",
        200,
        &[
            ("access-control-allow-origin", "*"),
            ("access-control-allow-credentials", "true"),
            ("Access-Control-Expose-Headers", "mcp-session-id"),
            ("access-control-max-age", "600"),
            ("access-control-allow-private-network", "true"),
        ],
        "ok",
    );
    let setup =
        Setup::before(&upstream).tcp_listener("allowed_origins = [\"https://app.example\"]");
    let daemon = setup.start().await;
    for ask in [
        Ask::get("/cors"),
        Ask::get("/cors").header("origin", "https://app.example"),
    ] {
        // The client's list of headers has none of them.
        assert_eq!(daemon.ask(ask).await.status, 200);
    }
}

#[tokio::test]
async fn a_location_at_the_upstream_leads_back_to_the_proxy_and_is_never_followed() {
    let upstream = Upstream::https();
    let origin = upstream.url();
    let daemon = Setup::at(&format!("{origin}/base")).start().await;
    for (sent, passed) in [
        (
            format!("{origin}/base/next?a=1#f"),
            "/next?a=1#f".to_owned(),
        ),
        ("/base/next".to_owned(), "/next".to_owned()),
        ("next".to_owned(), "next".to_owned()),
        (
            "https://elsewhere.example/x".to_owned(),
            "https://elsewhere.example/x".to_owned(),
        ),
        (
            "//elsewhere.example/x".to_owned(),
            "//elsewhere.example/x".to_owned(),
        ),
        (
            "http://127.0.0.1/x".to_owned(),
            "http://127.0.0.1/x".to_owned(),
        ),
    ] {
        for status in [301, 302, 303, 307, 308, 201] {
            let location = sent.clone();
            upstream.at("/base/moved", move |_| {
                let response = Response::builder()
                    .status(status)
                    .header("location", &location);
                std::future::ready(Ok(response.body(body::empty()).unwrap()))
            });
            let before = upstream.count();
            let answer = daemon.get("/moved").await;
            assert_eq!(answer.status, status);
            assert_eq!(answer.header("location"), Some(&*passed), "{sent}");
            assert_eq!(upstream.count(), before + 1, "it was followed");
        }
    }
}

#[tokio::test]
async fn a_location_gets_the_routes_prefix_back() {
    let upstream = Upstream::http();
    let origin = upstream.url();
    let setup = Setup::before(&upstream)
        .more("[[route]]\npath = \"/acme\"\nstrip_prefix = true\nupstream = \"up\"");
    let daemon = setup.start().await;
    for location in [format!("{origin}/next"), "/next".to_owned()] {
        upstream.at("/moved", move |_| {
            let response = Response::builder()
                .status(307)
                .header("location", &location);
            std::future::ready(Ok(response.body(body::empty()).unwrap()))
        });
        let answer = daemon.get("/acme/moved").await;
        assert_eq!(answer.header("location"), Some("/acme/next"));
    }
}

#[tokio::test]
async fn content_encodings_pass_untouched() {
    let upstream = Upstream::https();
    upstream.says(
        "/gzip",
        200,
        &[("content-encoding", "gzip")],
        "not really gzip",
    );
    let daemon = Setup::before(&upstream).start().await;
    let answer = daemon
        .ask(Ask::get("/gzip").header("accept-encoding", "gzip, br"))
        .await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert_eq!(answer.text(), "not really gzip");
    assert_eq!(upstream.only().header("accept-encoding"), Some("gzip, br"));
}
