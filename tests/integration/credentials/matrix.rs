//! Every scheme, over both protocols, in every way a request can go.

use std::sync::Arc;

use super::scheme::{self, Scheme};
use super::{CALL, start};
use crate::common::upstream::json;
use crate::common::{Ask, Setup, Upstream, Way, body, until};

/// Runs one scheme after the other; a daemon each.
async fn verify_all(make: fn() -> Upstream) {
    let count = scheme::all(&Setup::at("https://localhost:1")).len();
    for index in 0..count {
        let upstream = make();
        let setup = Setup::before(&upstream);
        let scheme = scheme::all(&setup).swap_remove(index);
        exercise(&upstream, setup, &scheme).await;
        let seen = upstream.seen();
        assert_eq!(seen.len(), 8, "{}", scheme.name);
        for seen in seen {
            if let Err(error) = (scheme.check)(&seen) {
                panic!("{}: {} {}: {error}", scheme.name, seen.method, seen.target);
            }
        }
    }
}

/// Eight requests.
async fn exercise(upstream: &Upstream, setup: Setup, scheme: &Scheme) {
    let daemon = start(upstream, setup, &scheme.toml).await;
    for way in Way::ALL {
        let answer = daemon.ask_by(way, Ask::post("/mcp", CALL)).await;
        assert_eq!(answer.status, 200, "{}: {answer:?}", scheme.name);
    }
    // One MiB, to the byte, which is as much as is kept.
    let large = format!("\"{}\"", "x".repeat((1 << 20) - 2));
    let answer = daemon.post("/large", &large).await;
    assert_eq!(
        (answer.status.as_u16(), answer.body.len()),
        (200, 1 << 20),
        "{}",
        scheme.name
    );

    // In pieces, and not JSON.
    let (pipe, streamed) = body::piped();
    let ask = Ask::new("POST", "/streamed")
        .header("content-type", "text/plain")
        .body(streamed);
    let asking = daemon.ask(ask);
    let sending = async {
        for piece in ["one ", "two ", "three"] {
            pipe.send(piece).await;
        }
        pipe.end().await;
    };
    let (answer, ()) = tokio::join!(asking, sending);
    assert_eq!(answer.text(), "one two three", "{}", scheme.name);

    // A reload while the upstream works on it, and a request after that.
    let release = Arc::new(tokio::sync::Notify::new());
    let held = Arc::clone(&release);
    upstream.at("/held", move |mut call| {
        let held = Arc::clone(&held);
        async move {
            let body = call.read().await?;
            held.notified().await;
            Ok(json(body))
        }
    });
    let asking = daemon.post("/held", CALL);
    let reloading = async {
        upstream.arrival("/held").await;
        daemon.reload().await;
        release.notify_one();
    };
    let (answer, ()) = tokio::join!(asking, reloading);
    assert_eq!(answer.status, 200, "{}", scheme.name);
    let answer = daemon.get("/after?a=1&b=%20").await;
    assert_eq!(answer.status, 200, "{}", scheme.name);
}

#[tokio::test]
async fn every_signature_verifies_over_http2() {
    verify_all(Upstream::https).await;
}

#[tokio::test]
async fn every_signature_verifies_over_http1() {
    verify_all(Upstream::https_h1).await;
}

#[tokio::test]
async fn each_connection_that_a_request_is_tried_on_has_a_signature_of_its_own() {
    for index in [0, 4, 5] {
        let upstream = Upstream::https_h1();
        let setup = Setup::before(&upstream);
        let scheme = scheme::all(&setup).swap_remove(index);
        upstream.at("/last", |mut call| async move {
            call.read().await?;
            Ok(http::Response::builder()
                .header("connection", "close")
                .body(body::empty())
                .unwrap())
        });
        let daemon = start(&upstream, setup, &scheme.toml).await;
        for _ in 0..3 {
            assert_eq!(daemon.post("/last", CALL).await.status, 200);
            assert_eq!(daemon.post("/mcp", CALL).await.status, 200);
        }
        for seen in upstream.seen() {
            (scheme.check)(&seen).unwrap_or_else(|error| panic!("{}: {error}", scheme.name));
        }
    }
}

#[tokio::test]
async fn a_body_that_has_to_be_signed_and_is_too_large_is_refused_clearly() {
    for index in 0..scheme::all(&Setup::at("https://localhost:1")).len() {
        let upstream = Upstream::https();
        let setup = Setup::before(&upstream);
        let scheme = scheme::all(&setup).swap_remove(index);
        let daemon = start(&upstream, setup, &scheme.toml).await;
        let large = "x".repeat((1 << 20) + 1);
        let answer = daemon.ask(Ask::post("/mcp", large)).await;
        if scheme.covers_body {
            answer.assert_refused(413, "body_too_large");
            assert!(answer.text().contains("limits.replay_buffer"), "{answer:?}");
            assert_eq!(upstream.count(), 0, "{}", scheme.name);
        } else {
            assert_eq!(answer.status, 200, "{}", scheme.name);
        }
    }
}

#[tokio::test]
async fn what_a_client_sends_under_a_credentials_names_is_replaced() {
    for index in 0..scheme::all(&Setup::at("https://localhost:1")).len() {
        let upstream = Upstream::https();
        let setup = Setup::before(&upstream);
        let scheme = scheme::all(&setup).swap_remove(index);
        let daemon = start(&upstream, setup, &scheme.toml).await;
        let names = [
            "x-mac",
            "x-nonce",
            "x-digest",
            "x-token",
            "x-tenant",
            "authorization",
            "signature",
            "signature-input",
            "x-amz-date",
            "x-amz-content-sha256",
            "x-amz-security-token",
        ];
        let mut ask = Ask::post("/mcp", CALL);
        for name in names {
            ask = ask.header(name, "hush-forged").header(name, "hush-again");
        }
        assert_eq!(daemon.ask(ask).await.status, 200);
        let seen = upstream.only();
        (scheme.check)(&seen).unwrap_or_else(|error| panic!("{}: {error}", scheme.name));
        let is_gone = |name: &str| {
            !seen
                .headers
                .get_all(name)
                .iter()
                .any(|it| it == "hush-forged")
        };
        assert!(is_gone("x-amz-security-token") && is_gone("authorization"));
    }
}

#[tokio::test]
async fn a_credential_that_a_refusal_echoes_is_taken_out() {
    for index in 0..scheme::all(&Setup::at("https://localhost:1")).len() {
        let upstream = Upstream::https();
        upstream.expects_refusals();
        let setup = Setup::before(&upstream);
        let scheme = scheme::all(&setup).swap_remove(index);
        upstream.at("/echo", |mut call| async move {
            call.read().await?;
            let names = [
                "authorization",
                "signature",
                "x-signature",
                "x-mac",
                "x-token",
            ];
            let headers = names.iter().filter_map(|name| call.seen.header(name));
            let words: Vec<_> = headers.collect();
            Ok(crate::common::upstream::unauthorized(words.join(" and ")))
        });
        let daemon = start(&upstream, setup, &scheme.toml).await;
        let answer = daemon.post("/echo", CALL).await;
        // Its text is searched for secrets and signatures, and so is the log.
        answer.assert_refused(503, "upstream_rejected_credential");
        assert!(
            answer.text().contains("[credential]"),
            "{}: {answer:?}",
            scheme.name
        );
        let sent = upstream.only();
        for name in ["authorization", "signature"] {
            let Some(value) = sent.header(name) else {
                continue;
            };
            for part in value
                .split([' ', ':', '=', ','])
                .filter(|part| part.len() > 20)
            {
                assert!(!answer.text().contains(part), "{}: {answer:?}", scheme.name);
            }
        }
        until("the refusal shows in status", || {
            daemon.status()["upstreams"][0]["credential"]["refused"].is_string()
        })
        .await;
    }
}
