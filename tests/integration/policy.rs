//! `[[route.policy]]`: what a peer may call, and what it is shown.

use serde_json::{Value, json};

use crate::common::{Ask, Daemon, Http, Setup, Upstream, Way, body};

const READERS: &str = r#"
[[route]]
path = "/"
upstream = "up"
[[route.policy]]
tools = { allow = ["read_*", "echo"], deny = ["*_secret"] }
prompts = { deny = ["admin*"] }
resources = { allow = ["file:///srv/*"] }
"#;

const LISTING: &str = r#"{"jsonrpc":"2.0","id":5,"result":{"tools":[{"name":"read_file"},{"name":"delete_file"},{"name":"read_secret"},{"name":"echo"}]}}"#;

async fn start(upstream: &Upstream, more: &str) -> Daemon {
    Setup::before(upstream).more(more).start().await
}

fn call(method: &str, params: Value) -> String {
    json!({ "jsonrpc": "2.0", "id": 5, "method": method, "params": params }).to_string()
}

fn names(listing: &Value) -> Vec<&str> {
    let tools = listing["result"]["tools"].as_array().unwrap();
    tools
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn what_is_permitted_passes_and_what_is_not_never_reaches_the_upstream() {
    let upstream = Upstream::https();
    let daemon = start(&upstream, READERS).await;
    for (method, params) in [
        (
            "tools/call",
            json!({ "name": "read_file", "arguments": { "name": "delete_file" } }),
        ),
        ("tools/call", json!({ "name": "echo" })),
        ("prompts/get", json!({ "name": "greet" })),
        ("resources/read", json!({ "uri": "file:///srv/a%20b" })),
        (
            "completion/complete",
            json!({ "ref": { "type": "ref/prompt", "name": "greet" } }),
        ),
        ("tools/list", json!({})),
        ("logging/setLevel", json!({ "level": "info" })),
    ] {
        let answer = daemon.post("/mcp", &call(method, params)).await;
        assert_eq!(answer.status, 200, "{method}: {answer:?}");
    }
    let passed = upstream.count();
    for (method, params) in [
        ("tools/call", json!({ "name": "delete_file" })),
        ("tools/call", json!({ "name": "read_secret" })),
        ("tools/call", json!({ "name": "READ_file" })),
        ("prompts/get", json!({ "name": "Administer" })),
        ("resources/read", json!({ "uri": "file:///etc/passwd" })),
        (
            "resources/read",
            json!({ "uri": "file:///srv/../etc/passwd" }),
        ),
        (
            "resources/read",
            json!({ "uri": "file:///srv/%2e%2e/etc/passwd" }),
        ),
        (
            "resources/read",
            json!({ "uri": "file:///srv/%252e%252e/x" }),
        ),
        (
            "resources/subscribe",
            json!({ "uri": "file:///etc/passwd" }),
        ),
        (
            "completion/complete",
            json!({ "ref": { "type": "ref/prompt", "name": "admin" } }),
        ),
        (
            "completion/complete",
            json!({ "ref": { "type": "ref/resource", "uri": "file:///etc/{x}" } }),
        ),
    ] {
        for way in Way::ALL {
            let ask = Ask::post("/mcp", call(method, params.clone()));
            let answer = daemon.ask_by(way, ask).await;
            answer.assert_refused(403, "policy_forbidden");
            assert_eq!(answer.json()["id"], 5, "{answer:?}");
        }
    }
    assert_eq!(upstream.count(), passed);
}

#[tokio::test]
async fn what_could_be_read_in_two_ways_is_refused_before_it_is_signed() {
    let upstream = Upstream::https();
    let daemon = start(&upstream, READERS).await;
    let json = |body: &'static str| Ask::post("/mcp", body);
    let harmless = r#"{"jsonrpc":"2.0","id":5,"method":"ping"}"#;
    let asks = [
        json(r#"{"id":5,"method":"ping","method":"tools/call","params":{"name":"delete_file"}}"#),
        json(r#"{"id":5,"method":"tools/call","params":{"name":"echo","Name":"delete_file"}}"#),
        json(
            r#"{"id":5,"method":"tools/call","params":{"name":"echo"},"Params":{"name":"delete_file"}}"#,
        ),
        json(r#"{"id":5,"method":"Tools/Call","params":{"name":"delete_file"}}"#),
        json(r#"{"id":5,"method":"tools/call\u0000","params":{"name":"delete_file"}}"#),
        json(r#"{"id":5,"method":"tools/call","params":["delete_file"]}"#),
        json(r#"{"id":5,"method":"tools/call"}"#),
        json(r#"{"id":5,"method":"tools/call","params":{"name":"delete_file"},}"#),
        json("\u{feff}{\"id\":5,\"method\":\"ping\"}"),
        json(harmless).header("content-encoding", "gzip"),
        json(harmless).header("content-type", "application/json; charset=utf-7"),
        Ask::new("POST", "/mcp")
            .header("content-type", "text/plain")
            .body(body::full(harmless)),
        Ask::new("POST", "/mcp").body(body::full(harmless)),
        Ask::new("PUT", "/mcp")
            .header("content-type", "application/json")
            .body(body::full(harmless)),
    ];
    for ask in asks {
        let answer = daemon.ask(ask).await;
        answer.assert_refused(400, "ambiguous_request");
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn one_denied_call_refuses_its_whole_batch_and_each_request_hears_of_it() {
    let upstream = Upstream::https();
    let daemon = start(&upstream, READERS).await;
    let batch = format!(
        "[{},{}]",
        call("ping", json!({})),
        call("tools/call", json!({ "name": "delete_file" }))
    );
    let answer = daemon.post("/mcp", &batch).await;
    answer.assert_refused(403, "policy_forbidden");
    assert_eq!(answer.json().as_array().unwrap().len(), 2);
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_body_too_large_to_be_judged_is_refused() {
    let upstream = Upstream::https();
    let daemon = start(
        &upstream,
        &format!("{READERS}\n[limits]\nreplay_buffer = \"1KiB\"\n"),
    )
    .await;
    let long = call(
        "tools/call",
        json!({ "name": "echo", "arguments": { "x": "y".repeat(4096) } }),
    );
    let answer = daemon.post("/mcp", &long).await;
    answer.assert_refused(413, "body_too_large");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn denied_tools_vanish_from_listings_of_json_and_of_events() {
    for upstream in [Upstream::https(), Upstream::https_h1()] {
        let daemon = start(&upstream, READERS).await;
        upstream.says(
            "/json",
            200,
            &[("content-type", "application/json")],
            LISTING,
        );
        let answer = daemon.post("/json", &call("tools/list", json!({}))).await;
        assert_eq!(names(&answer.json()), ["read_file", "echo"]);

        let streams = upstream.streams_at("/events");
        let mut opened = daemon
            .open(Ask::post("/events", call("tools/list", json!({}))))
            .await;
        let pipe = streams.find("a stream", |_| true).await;
        let (begin, end) = LISTING.split_at(70);
        pipe.send(format!("id: 1\ndata: {begin}")).await;
        pipe.send(format!("{end}\n\n: note\n\ndata: tail\n\n"))
            .await;
        let text = opened.until("data: tail\n\n").await;
        assert!(text.starts_with("id: 1\ndata: {"), "{text}");
        assert!(
            text.contains("read_file") && text.contains("echo"),
            "{text}"
        );
        assert!(
            !text.contains("delete_file") && !text.contains("read_secret"),
            "{text}"
        );
        assert!(text.contains("\n\n: note\n\ndata: tail\n\n"), "{text}");
    }
}

#[tokio::test]
async fn a_listing_on_a_resumed_stream_is_filtered_too() {
    let upstream = Upstream::https();
    let daemon = start(&upstream, READERS).await;
    let streams = upstream.streams_at("/mcp");
    let mut opened = daemon
        .open(Ask::events("/mcp").header("last-event-id", "1"))
        .await;
    streams
        .find("a stream", |_| true)
        .await
        .send(format!("data: {LISTING}\n\ndata: tail\n\n"))
        .await;
    let text = opened.until("data: tail\n\n").await;
    assert!(!text.contains("delete_file"), "{text}");
}

#[tokio::test]
async fn an_answer_that_cannot_be_filtered_does_not_pass() {
    let upstream = Upstream::https();
    let daemon = start(
        &upstream,
        &format!("{READERS}\n[limits]\nreplay_buffer = \"64B\"\n"),
    )
    .await;
    upstream.says(
        "/large",
        200,
        &[("content-type", "application/json")],
        LISTING,
    );
    let answer = daemon
        .post("/large", r#"{"id":1,"method":"tools/list"}"#)
        .await;
    answer.assert_refused(502, "upstream_bad_response");
    upstream.says(
        "/packed",
        200,
        &[
            ("content-type", "application/json"),
            ("content-encoding", "gzip"),
        ],
        "x",
    );
    let answer = daemon
        .post("/packed", r#"{"id":1,"method":"tools/list"}"#)
        .await;
    answer.assert_refused(502, "upstream_bad_response");
    assert_eq!(upstream.last().header("accept-encoding"), Some("identity"));

    for fixed in [("content-encoding", "gzip"), ("content-length", "9")] {
        let headers = [("content-type", "text/event-stream"), fixed];
        upstream.says("/fixed", 200, &headers, "data: 1\n\n");
        let answer = daemon.ask(Ask::events("/fixed")).await;
        answer.assert_refused(502, "upstream_bad_response");
    }

    let streams = upstream.streams_at("/events");
    let opened = daemon.open(Ask::events("/events")).await;
    streams
        .find("a stream", |_| true)
        .await
        // Longer than what is held to see whether it is an `endpoint` event.
        .send(format!("data: {LISTING}{}", " ".repeat(17 * 1024)))
        .await;
    let (bytes, end) = opened.end().await;
    assert_eq!(bytes, 0);
    assert!(end.is_err(), "the client must see that the stream broke");
}

#[tokio::test]
async fn the_first_policy_for_a_peer_applies_and_a_peer_without_one_is_refused() {
    let upstream = Upstream::https();
    let uid = nix::unistd::getuid();
    let policies = format!(
        r#"
[[route]]
path = "/mine/"
upstream = "up"
[[route.policy]]
users = ["{uid}"]
tools = {{ allow = ["mine"] }}
[[route.policy]]
tools = {{ allow = ["anybodys"] }}
[[route]]
path = "/others/"
upstream = "up"
[[route.policy]]
users = ["4294967294"]
[[route]]
path = "/group/"
upstream = "up"
[[route.policy]]
groups = ["{}"]
tools = {{ allow = ["groups"] }}
"#,
        nix::unistd::getgid()
    );
    let daemon = start(&upstream, &policies).await;
    let ask = |path: &str, tool: &str| Ask::post(path, call("tools/call", json!({ "name": tool })));
    let (unix, tcp) = (Way::Unix(Http::One), Way::Tcp(Http::One));
    // The kernel tells Linux whose the other end of a loopback connection is.
    let known = cfg!(target_os = "linux");
    let if_known = |status, otherwise| if known { status } else { otherwise };
    for (way, path, tool, status) in [
        (unix, "/mine/", "mine", 200),
        (unix, "/mine/", "anybodys", 403),
        (tcp, "/mine/", "anybodys", if_known(403, 200)),
        (tcp, "/mine/", "mine", if_known(200, 403)),
        (unix, "/others/", "any", 403),
        (tcp, "/others/", "any", 403),
        (unix, "/group/", "groups", 200),
        (tcp, "/group/", "groups", if_known(200, 403)),
    ] {
        let answer = daemon.ask_by(way, ask(path, tool)).await;
        assert_eq!(answer.status, status, "{path} {tool}: {answer:?}");
    }
}

#[tokio::test]
async fn a_dry_run_refuses_nothing_and_says_what_it_would() {
    let upstream = Upstream::https();
    let daemon = start(
        &upstream,
        &READERS.replace("tools =", "dry_run = true\ntools ="),
    )
    .await;
    upstream.says(
        "/json",
        200,
        &[("content-type", "application/json")],
        LISTING,
    );
    let answer = daemon
        .post(
            "/json",
            &call("tools/call", json!({ "name": "delete_file" })),
        )
        .await;
    assert_eq!(names(&answer.json()).len(), 4);
    let line = daemon
        .logged("a dry run", |line| {
            line["msg"] == "the policy's dry run would refuse this"
        })
        .await;
    assert!(
        line["policy"].as_str().unwrap().contains("config.toml:"),
        "{line}"
    );
}

#[tokio::test]
async fn the_log_says_which_policy_refused() {
    let upstream = Upstream::https();
    let daemon = start(&upstream, READERS).await;
    let ask = Ask::post("/mcp", call("tools/call", json!({ "name": "delete_file" })));
    daemon.ask(ask.header("x-request-id", "who")).await;
    let line = daemon.logged_request("who").await;
    assert_eq!(line["error_code"], "policy_forbidden");
    assert!(
        line["cause"].as_str().unwrap().contains("config.toml:"),
        "{line}"
    );
    assert_eq!(line["mcp_name"], "delete_file");
}
