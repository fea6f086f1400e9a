use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::Mcp;
use super::version::{META_CAPABILITIES, META_VERSION, MODERN};
use crate::demo::reply::Reply;

fn ask(mcp: &Mcp, method: Method, headers: &[(&str, &str)], body: &Value) -> Reply {
    let mut request = Request::builder().method(method);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    mcp.answer(&head, body.to_string().as_bytes())
}

async fn error_of(reply: Reply) -> (StatusCode, i64) {
    let status = reply.status();
    let body = reply.into_body().collect().await.unwrap().to_bytes();
    let message: Value = serde_json::from_slice(&body).unwrap();
    (status, message["error"]["code"].as_i64().unwrap_or(0))
}

fn modern_call(name: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": name, "arguments": {"text": "hello"},
        "_meta": {META_VERSION: MODERN, META_CAPABILITIES: {}},
    }})
}

#[tokio::test]
async fn a_modern_request_mirrors_in_headers_what_its_body_asks_for() {
    let mcp = Mcp::default();
    let version = ("mcp-protocol-version", MODERN);
    let good = [version, ("mcp-method", "tools/call"), ("mcp-name", "echo")];
    for (headers, body, due) in [
        (&good[..], modern_call("echo"), (StatusCode::OK, 0)),
        (
            &good[..],
            modern_call("count"),
            (StatusCode::BAD_REQUEST, -32020),
        ),
        (
            &good[..2],
            modern_call("echo"),
            (StatusCode::BAD_REQUEST, -32020),
        ),
        (
            &[version, ("mcp-method", "ping")],
            json!({"id": 1, "method": "ping"}),
            (StatusCode::BAD_REQUEST, -32602),
        ),
    ] {
        let reply = ask(&mcp, Method::POST, headers, &body);
        assert_eq!(error_of(reply).await, due, "{headers:?} {body}");
    }
}

#[tokio::test]
async fn an_unknown_version_is_told_which_are_known() {
    let headers = [("mcp-protocol-version", "1999-01-01")];
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    let reply = ask(&Mcp::default(), Method::POST, &headers, &body);
    assert_eq!(error_of(reply).await, (StatusCode::BAD_REQUEST, -32022));
}

#[tokio::test]
async fn an_ended_session_takes_its_stream_along_and_is_not_found_again() {
    let mcp = Mcp::default();
    let open = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize"});
    let reply = ask(&mcp, Method::POST, &[], &open);
    let session = reply.headers()["mcp-session-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let headers = [("mcp-session-id", session.as_str())];
    let stream = ask(&mcp, Method::GET, &headers, &Value::Null);
    assert_eq!(stream.status(), StatusCode::OK);
    let ended = ask(&mcp, Method::DELETE, &headers, &Value::Null);
    assert_eq!(ended.status(), StatusCode::NO_CONTENT);
    stream.into_body().collect().await.unwrap();
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let late = ask(&mcp, Method::POST, &headers, &body);
    assert_eq!(late.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn forgotten_sessions_make_room_for_new_ones() {
    let mcp = Mcp::default();
    let open = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize"});
    for _ in 0..=super::MAX_SESSIONS {
        ask(&mcp, Method::POST, &[], &open);
    }
    assert_eq!(mcp.sessions().len(), super::MAX_SESSIONS);
}
