//! The headers that mirror a request's body since 2026-07-28.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{Ask, Http, Setup, Upstream, Way};

const LISTING: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"query","inputSchema":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}}]}}"#;

fn modern(method: &str, mut params: Value) -> String {
    params["_meta"] = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28" });
    json!({ "jsonrpc": "2.0", "id": 4, "method": method, "params": params }).to_string()
}

fn call() -> String {
    modern(
        "tools/call",
        json!({ "name": "query", "arguments": { "region": "eu" } }),
    )
}

#[tokio::test]
async fn headers_and_body_that_disagree_never_reach_the_upstream() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    for (name, value) in [
        ("mcp-method", "tools/list"),
        ("mcp-name", "other"),
        ("mcp-protocol-version", "2027-01-01"),
    ] {
        let answer = daemon
            .ask(Ask::post("/mcp", call()).header(name, value))
            .await;
        answer.assert_refused(400, "header_mismatch");
        assert_eq!(answer.json()["id"], 4);
        assert_eq!(answer.json()["error"]["code"], -32020);
    }
    assert_eq!(upstream.count(), 0);
    let agreeing = Ask::post("/mcp", call())
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/call")
        .header("mcp-name", "query");
    assert_eq!(daemon.ask(agreeing).await.status, 200);
    assert_eq!(upstream.only().header("mcp-name"), Some("query"));
}

#[tokio::test]
async fn a_parameters_header_is_compared_once_its_tool_was_listed() {
    let upstream = Upstream::https();
    upstream.says(
        "/list",
        200,
        &[("content-type", "application/json")],
        LISTING,
    );
    let daemon = Setup::before(&upstream).start().await;
    let ask = || Ask::post("/mcp", call()).header("mcp-param-region", "us");
    assert_eq!(daemon.ask(ask()).await.status, 200);
    let listing = daemon.post("/list", &modern("tools/list", json!({}))).await;
    assert_eq!(listing.text(), LISTING);
    daemon
        .ask(ask())
        .await
        .assert_refused(400, "header_mismatch");
    // What is learned belongs to the upstream, and a reload does not change that.
    daemon.reload().await;
    daemon
        .ask(ask())
        .await
        .assert_refused(400, "header_mismatch");
}

#[tokio::test]
async fn missing_headers_are_filled_in_where_the_operator_asks_for_it() {
    let upstream = Upstream::https();
    upstream.says(
        "/list",
        200,
        &[("content-type", "application/json")],
        LISTING,
    );
    let daemon = Setup::before(&upstream)
        .upstream("mirror_headers = true")
        .start()
        .await;
    daemon.post("/list", &modern("tools/list", json!({}))).await;
    daemon.post("/mcp", &call()).await;
    let seen = upstream.last();
    for (name, value) in [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "query"),
        ("mcp-param-region", "eu"),
    ] {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
    daemon
        .post("/mcp", r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#)
        .await;
    assert_eq!(upstream.last().header("mcp-method"), None);
}

#[tokio::test]
async fn without_being_asked_the_proxy_adds_none_of_them() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    daemon.post("/mcp", &call()).await;
    assert_eq!(upstream.only().header("mcp-method"), None);
}

#[tokio::test]
async fn a_listing_that_comes_in_drops_is_passed_on_before_it_is_complete() {
    let upstream = Upstream::https();
    let pipes = upstream.streams_of("application/json", "/mcp");
    let setup = Setup::before(&upstream).upstream("request_timeout = \"1s\"");
    let daemon = setup.start().await;
    let mut client = daemon.client(Way::Tcp(Http::One)).await;
    let ask = Ask::post("/mcp", modern("tools/list", json!({})))
        .header("mcp-protocol-version", "2026-07-28");
    let opening = client.open(ask);
    let dropping = async {
        let pipe = pipes.find_after(0, "the answer", |_| true).await;
        for _ in 0..100 {
            pipe.send(" ").await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        _ = opening => {}
        () = dropping => panic!("the answer is held for as long as it takes"),
    }
}
