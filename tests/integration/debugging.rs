//! Closer looks at a running daemon: `/debug` on the admin socket.

use http::Response;
use serde_json::Value;

use crate::common::{Ask, Setup, Upstream, body, until};

fn json(answer: (u16, String)) -> Value {
    assert_eq!(answer.0, 200, "{}", answer.1);
    serde_json::from_str(&answer.1).unwrap()
}

#[tokio::test]
async fn the_log_level_is_changed_for_a_while_and_goes_back() {
    let daemon = Setup::at("http://127.0.0.1:1").start().await;
    let before = json(daemon.admin("GET", "/debug/log-level"))["level"].clone();
    let now = json(daemon.admin_put("/debug/log-level", "trace for=300ms"));
    assert_eq!(now["level"], "trace");
    assert_eq!(daemon.status()["log_level"], "trace");
    until("the level is back", || {
        daemon.status()["log_level"] == before
    })
    .await;
    assert_eq!(
        json(daemon.admin_put("/debug/log-level", "warning"))["level"],
        "warning"
    );
}

#[tokio::test]
async fn an_order_that_is_not_understood_says_what_would_be() {
    let daemon = Setup::at("http://127.0.0.1:1").start().await;
    for (order, says) in [
        ("loud", "no level"),
        ("debug for=ever", "for=10m"),
        (&"x".repeat(5000), "too long"),
    ] {
        let (status, page) = daemon.admin_put("/debug/log-level", order);
        assert_eq!(status, 400, "{page}");
        assert!(page.contains(says), "{page}");
    }
    assert_eq!(daemon.admin("DELETE", "/debug/log-level").0, 405);
}

#[tokio::test]
async fn one_route_is_logged_at_debug_with_the_upstreams_error_but_not_our_signature() {
    let upstream = Upstream::https();
    upstream.at("/seen/mcp", |request| async move {
        let signature = request.seen.header("x-signature").unwrap();
        let text = format!("no such thing; you sent {signature} {}", "x".repeat(2000));
        Ok(Response::builder()
            .status(404)
            .body(body::full(text))
            .unwrap())
    });
    upstream.at("/unseen/mcp", |_| async move {
        Ok(Response::builder()
            .status(404)
            .body(body::full("hidden words"))
            .unwrap())
    });
    let daemon = Setup::before(&upstream).log_level("info").start().await;
    json(daemon.admin_put("/debug/log-level", "debug for=1m route=/seen"));
    daemon
        .ask(Ask::get("/unseen/mcp").header("x-request-id", "other"))
        .await;
    daemon.logged_request("other").await;
    daemon
        .ask(Ask::get("/seen/mcp").header("x-request-id", "watched"))
        .await;
    daemon.logged_request("watched").await;
    let line = daemon
        .logged("the error's text", |line| {
            line["msg"] == "upstream says of its error"
        })
        .await;
    let text = line["text"].as_str().unwrap();
    assert!(text.starts_with("no such thing; you sent "), "{text}");
    assert!(text.len() <= 512, "{}", text.len());
    let signature = upstream.last().header("x-signature").unwrap().to_owned();
    assert!(!text.contains(&signature), "{text}");
    assert!(
        daemon
            .log
            .all()
            .iter()
            .all(|line| !line.contains("hidden words"))
    );
}

#[tokio::test]
async fn the_last_requests_are_shown_without_header_query_or_body() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"a":"private"}}}"#;
    let ask = Ask::post("/mcp?token=private", call)
        .header("x-request-id", "kept")
        .header("x-note", "private");
    daemon.ask(ask).await;
    daemon.logged_request("kept").await;
    until("it is there", || {
        daemon.admin("GET", "/debug/requests").1.contains("kept")
    })
    .await;
    let page = json(daemon.admin("GET", "/debug/requests"));
    let entry = page
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["request_id"] == "kept")
        .unwrap();
    assert_eq!(
        (
            &entry["path"],
            &entry["mcp_method"],
            &entry["mcp_name"],
            &entry["status"]
        ),
        (
            &"/mcp".into(),
            &"tools/call".into(),
            &"echo".into(),
            &200.into()
        )
    );
    assert_eq!(
        (&entry["route"], &entry["upstream"]),
        (&"/".into(), &"up".into())
    );
    assert_eq!(entry["outcome"], "complete");
    assert!(!page.to_string().contains("private"), "{page}");
}
