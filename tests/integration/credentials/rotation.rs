//! A new key that the gateway does not know yet, beside the one that it knows.

use std::time::{Duration, SystemTime};

use super::CALL;
use crate::common::secrets::NEXT_SECRET;
use crate::common::{Ask, Daemon, KEY_ID, SECRET, Setup, Upstream, body, until};

const ROTATING: &str = "[credential.key.auth-gateway]\nkey_id = \"550e8400-e29b-41d4-a716-446655440000\"\n\
    secret = { file = \"DIR/next\" }\nprevious = { secret = { file = \"DIR/secret\" } }";

/// A gateway that verifies, and a daemon with a key that is new to it.
async fn rotating(upstream: &Upstream) -> Daemon {
    rotating_by(upstream, ROTATING).await
}

async fn rotating_by(upstream: &Upstream, credential: &str) -> Daemon {
    let setup = Setup::before(upstream);
    setup.file("next", NEXT_SECRET);
    upstream.expects_refusals();
    upstream.accept_only(&[(KEY_ID, SECRET)]);
    let config = super::config(upstream, credential);
    setup.written(&config).start().await
}

/// As `ROTATING`, with an end.
fn rotating_until(end: SystemTime) -> String {
    let end = humantime::format_rfc3339_seconds(end);
    ROTATING.replace(
        "DIR/secret\" } }",
        &format!("DIR/secret\" }}, until = \"{end}\" }}"),
    )
}

#[tokio::test]
async fn a_refused_key_gives_way_to_the_previous_one_once_and_is_remembered() {
    let upstream = Upstream::https();
    let daemon = rotating(&upstream).await;
    for _ in 0..3 {
        assert_eq!(daemon.post("/mcp", CALL).await.status, 200);
    }
    // The first cost two; the others did not.
    assert_eq!(upstream.count(), 4);
    let credential = daemon.status()["upstreams"][0]["credential"].clone();
    assert_eq!(credential["previous_in_use"], true);
    assert_eq!(credential["previous_until"], "removed");
    daemon
        .logged("the change", |line| {
            line["msg"]
                .as_str()
                .is_some_and(|it| it.contains("still takes the previous one"))
                && line["credential"] == "key"
        })
        .await;
    let used = daemon.metric("mcp_auth_proxy_credential_previous_total{credential=\"key\"}");
    assert!((used - 3.0).abs() < 0.1, "{used}");
}

#[tokio::test]
async fn the_new_key_is_taken_back_when_the_gateway_no_longer_takes_the_old_one() {
    let upstream = Upstream::https();
    let daemon = rotating(&upstream).await;
    assert_eq!(daemon.post("/mcp", CALL).await.status, 200);
    upstream.accept_only(&[(KEY_ID, NEXT_SECRET)]);
    // Within seconds of the refusal the new key has no second chance; after that it has.
    tokio::time::sleep(std::time::Duration::from_millis(5100)).await;
    assert_eq!(daemon.post("/mcp", CALL).await.status, 200);
    assert_eq!(upstream.count(), 4);
    assert_eq!(daemon.post("/mcp", CALL).await.status, 200);
    assert_eq!(upstream.count(), 5);
    assert!(daemon.status()["upstreams"][0]["credential"]["previous_in_use"].is_null());
}

#[tokio::test]
async fn a_body_that_streams_is_not_sent_a_second_time() {
    let upstream = Upstream::https();
    let daemon = rotating(&upstream).await;
    let (pipe, streamed) = body::piped();
    let ask = Ask::new("POST", "/streamed").body(streamed);
    let sending = async {
        pipe.send("one").await;
        pipe.end().await;
    };
    let (answer, ()) = tokio::join!(daemon.ask(ask), sending);
    answer.assert_refused(503, "upstream_rejected_credential");
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_gateway_that_takes_neither_says_why_and_is_not_asked_without_end() {
    let upstream = Upstream::https();
    let daemon = rotating(&upstream).await;
    upstream.accept_only(&[]);
    for _ in 0..4 {
        let answer = daemon.post("/mcp", CALL).await;
        answer.assert_refused(503, "upstream_rejected_credential");
    }
    assert_eq!(upstream.count(), 5);
}

#[tokio::test]
async fn previous_needs_no_second_gateway_when_the_first_key_works() {
    let upstream = Upstream::https();
    let daemon = rotating(&upstream).await;
    upstream.accept_only(&[(KEY_ID, NEXT_SECRET)]);
    assert_eq!(daemon.post("/mcp", CALL).await.status, 200);
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_previous_key_with_an_end_is_used_until_then_and_not_after() {
    let upstream = Upstream::https();
    let end = SystemTime::now() + Duration::from_secs(6);
    let daemon = rotating_by(&upstream, &rotating_until(end)).await;
    assert_eq!(daemon.post("/mcp", CALL).await.status, 200);
    let said = humantime::format_rfc3339_seconds(end).to_string();
    let credential = daemon.status()["upstreams"][0]["credential"].clone();
    assert_eq!(credential["previous_until"], said, "{credential}");
    let page = daemon.setup.run(&["status"]).stdout;
    assert!(
        page.contains(&format!("its previous key is kept until {said}")),
        "{page}"
    );
    until("it is over", || {
        daemon.status()["upstreams"][0]["credential"]["previous_until"].is_null()
    })
    .await;
    let before = upstream.count();
    let answer = daemon.post("/mcp", CALL).await;
    answer.assert_refused(503, "upstream_rejected_credential");
    // Not even tried.
    assert_eq!(upstream.count(), before + 1);
}

#[tokio::test]
async fn a_previous_key_that_is_over_is_not_read_and_may_be_gone() {
    let upstream = Upstream::https();
    let credential = rotating_until(SystemTime::UNIX_EPOCH);
    let setup = Setup::before(&upstream);
    setup.file("next", NEXT_SECRET);
    upstream.accept_only(&[(KEY_ID, NEXT_SECRET)]);
    std::fs::remove_file(setup.path("secret")).unwrap();
    let daemon = setup
        .written(&super::config(&upstream, &credential))
        .start()
        .await;
    assert_eq!(daemon.post("/mcp", CALL).await.status, 200);
    let checked = daemon.setup.run(&["check"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(
        checked
            .output()
            .contains("the previous key is not used any more"),
        "{checked:?}"
    );
    assert!(daemon.status()["upstreams"][0]["credential"]["previous_until"].is_null());
}
