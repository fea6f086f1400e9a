//! Every request is signed: byte for byte, freshly, exactly once.

use std::time::Duration;

use serde_json::Value;

use crate::common::secrets::NEXT_SECRET;
use crate::common::upstream::echo;
use crate::common::{Ask, KEY_ID, SECRET, Setup, Upstream, Way, verify};

const VECTORS: &str = include_str!("../../src/auth/gateway/vectors.json");

fn vectors() -> Vec<Value> {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    vectors["cases"].as_array().unwrap().clone()
}

/// What the daemon refuses although it could be signed: two paths would share a signature.
fn is_refused(target: &str) -> bool {
    target.contains("/../") || target.contains("%2F")
}

#[test]
fn the_tests_own_verifier_agrees_with_the_published_vectors() {
    let vectors = vectors();
    assert!(vectors.len() >= 16);
    for case in vectors {
        let text = |name: &str| case[name].as_str().unwrap();
        let path = text("request_target").split('?').next().unwrap();
        let signature = verify::sign(text("secret"), text("method"), path, text("timestamp"));
        assert_eq!(signature, text("signature"), "{}", case["name"]);
    }
}

#[tokio::test]
async fn every_published_vector_goes_through_signed_and_as_written() {
    let upstream = Upstream::https();
    for case in vectors() {
        let text = |name: &str| case[name].as_str().unwrap();
        let (key_id, secret) = (text("key_id"), text("secret"));
        upstream.accept_only(&[(key_id, secret)]);
        let setup = Setup::before(&upstream).credential(key_id, secret);
        let daemon = setup.start().await;
        let (method, target) = (text("method"), text("request_target"));
        for way in Way::ALL {
            let before = upstream.count();
            let answer = daemon.ask_by(way, Ask::new(method, target)).await;
            if is_refused(target) {
                answer.assert_refused(400, "path_refused");
                assert_eq!(upstream.count(), before, "{target}");
                continue;
            }
            assert_eq!(answer.status, 200, "{way:?} {case}");
            let seen = upstream.last();
            assert_eq!((&*seen.method, &*seen.target), (method, target), "{way:?}");
        }
    }
}

#[tokio::test]
async fn whatever_the_client_sent_under_our_names_is_replaced_by_one_of_each() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    for way in Way::ALL {
        let forged = Ask::get("/forged")
            .header("X-API-Key-Id", "hush-forged")
            .header("x-api-key-id", "hush-forged-again")
            .header("X-TIMESTAMP", "2020-01-01T00:00:00Z")
            .header("x-Signature", "hush-forged")
            .header("x-signature", &"0".repeat(64));
        // The upstream refuses more than one of each, and any that is not the daemon's.
        assert_eq!(daemon.ask_by(way, forged).await.status, 200, "{way:?}");
    }
}

#[tokio::test]
async fn our_headers_survive_being_named_in_connection() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    let ask = Ask::get("/named")
        .header("connection", "close, X-Signature, x-api-key-id")
        .header("connection", "x-timestamp")
        .header("x-signature", "hush-forged");
    assert_eq!(daemon.ask(ask).await.status, 200);
    assert_eq!(upstream.only().header("connection"), None);
}

#[tokio::test]
async fn each_request_has_a_timestamp_of_its_own_time() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    daemon.get("/first").await;
    // A whole second later the timestamp must be another one.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    daemon.get("/second").await;
    let stamps: Vec<_> = upstream
        .seen()
        .iter()
        .map(|seen| seen.header("x-timestamp").unwrap().to_owned())
        .collect();
    assert!(stamps[0] < stamps[1], "{stamps:?}");
}

#[tokio::test]
async fn every_method_is_signed_as_it_was_sent() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    for way in Way::ALL {
        for method in [
            "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PURGE",
        ] {
            let answer = daemon.ask_by(way, Ask::new(method, "/any")).await;
            assert_eq!(answer.status, 200, "{way:?} {method}");
            assert_eq!(upstream.last().method, method);
        }
    }
}

#[tokio::test]
async fn odd_paths_stay_as_they_were_written() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    for target in [
        "//",
        "///a",
        "/a//",
        "/a/?",
        "/a?b?c",
        "/a?x=%2F%zz&y=../..",
        "/%41%2d%7E",
        "/a%25",
        "/%c3%28",
        "/...",
        "/.well-known/other",
        "/a|b{c}\"",
        "/healthz/",
        "/HEALTHZ",
        "/metrics",
        "/status",
    ] {
        let answer = daemon.ask(Ask::get(target)).await;
        assert_eq!(answer.status, 200, "{target}: {answer:?}");
        assert_eq!(upstream.last().target, target);
    }
}

#[tokio::test]
async fn the_query_is_passed_on_untouched_and_not_signed() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    let target = "/q?a=b&c=%20+%2B&d=%00&e[]=%E4%B8%96&&=";
    assert_eq!(daemon.get(target).await.status, 200);
    assert_eq!(upstream.only().target, target);
}

#[tokio::test]
async fn encoded_delimiters_are_refused_unless_the_upstream_allows_them() {
    let upstream = Upstream::https();
    let strict = Setup::before(&upstream).start().await;
    let targets = ["/a%2Fb", "/a%2fb", "/a%5Cb", "/a%3Fb", "/a%23b"];
    for target in targets {
        strict.get(target).await.assert_refused(400, "path_refused");
    }
    assert_eq!(upstream.count(), 0);

    let setup = Setup::before(&upstream).upstream("allow_encoded_slash = true");
    let generous = setup.start().await;
    for target in targets {
        // Signed decoded, written encoded.
        assert_eq!(generous.get(target).await.status, 200, "{target}");
        assert_eq!(upstream.last().target, target);
    }
}

#[tokio::test]
async fn paths_that_could_be_read_in_two_ways_are_refused() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream).upstream("allow_encoded_slash = true");
    let daemon = setup.start().await;
    for target in [
        "/a%",
        "/a%2",
        "/%zz",
        "/%+1",
        "/a%00b",
        "/a%0Ab",
        "/a%0d%0aX:y",
        "/a%1fb",
        "/a%7Fb",
        "/..",
        "/../a",
        "/a/..",
        "/a/../b",
        "/a/./b",
        "/.",
        "/%2e%2e/a",
        "/.%2E/a",
        "/%2e",
        "/a%2f..%2fb",
        "/a%5c..%5cb",
        "/a/..%2f",
    ] {
        for way in Way::ALL {
            let answer = daemon.ask_by(way, Ask::get(target)).await;
            answer.assert_refused(400, "path_refused");
        }
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_connection_that_died_in_the_pool_costs_no_request() {
    let upstream = Upstream::https_h1();
    // Answers, and closes the connection right after.
    upstream.at("/last", |call| async move {
        let mut response = echo(call).await?;
        response
            .headers_mut()
            .insert("connection", "close".parse().unwrap());
        Ok(response)
    });
    let daemon = Setup::before(&upstream).start().await;
    for _ in 0..20 {
        assert_eq!(daemon.get("/last").await.status, 200);
        assert_eq!(daemon.get("/next").await.status, 200);
    }
    assert_eq!(upstream.count(), 40);
}

#[tokio::test]
async fn a_rotated_secret_is_used_from_the_reload_on() {
    let upstream = Upstream::https();
    upstream.accept_only(&[(KEY_ID, SECRET)]);
    let daemon = Setup::before(&upstream).start().await;
    assert_eq!(daemon.get("/").await.status, 200);
    upstream.accept_only(&[(KEY_ID, NEXT_SECRET)]);
    daemon.setup.file("secret", NEXT_SECRET);
    daemon.reload().await;
    assert_eq!(daemon.get("/").await.status, 200);
}

#[tokio::test]
async fn secrets_are_taken_without_their_trailing_newline_and_otherwise_as_they_are() {
    let upstream = Upstream::https();
    for (written, meant) in [
        ("hush-a\n", "hush-a"),
        ("hush-b\r\n", "hush-b"),
        ("hush-c\n\n", "hush-c\n"),
        (" hush-d ", " hush-d "),
        ("hush-grün-世", "hush-grün-世"),
    ] {
        upstream.accept_only(&[(KEY_ID, meant)]);
        let setup = Setup::before(&upstream).credential(KEY_ID, written);
        let daemon = setup.start().await;
        assert_eq!(daemon.get("/").await.status, 200, "{written:?}");
    }
}

#[tokio::test]
async fn an_upstream_without_a_credential_gets_nothing_of_the_kind() {
    let upstream = Upstream::http();
    upstream.takes_unsigned();
    let setup = Setup::before(&upstream);
    let config = setup.config().replace("credential = \"key\"\n", "");
    let daemon = setup.written(&config).start().await;
    let ask = Ask::get("/plain").header("x-signature", "hush-of-the-client");
    assert_eq!(daemon.ask(ask).await.status, 200);
    let seen = upstream.only();
    for name in ["x-api-key-id", "x-timestamp", "x-signature"] {
        assert_eq!(seen.header(name), None);
    }
}
