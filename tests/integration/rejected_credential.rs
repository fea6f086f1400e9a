//! A 401 to the proxy's own credential: never the client's to solve.

use http::Response;

use crate::common::upstream::unauthorized;
use crate::common::{Ask, Daemon, KEY_ID, Setup, Upstream, Way, body};

const CALL: &str = r#"{"jsonrpc":"2.0","id":3,"method":"tools/list"}"#;

async fn start(upstream: &Upstream) -> Daemon {
    upstream.expects_refusals();
    Setup::before(upstream).start().await
}

#[tokio::test]
async fn a_401_becomes_a_503_with_the_gateways_words_and_no_challenge() {
    for upstream in [Upstream::https(), Upstream::https_h1()] {
        let daemon = start(&upstream).await;
        for words in [
            "Invalid Api Key",
            "Api Key is 42 days expired",
            "Invalid Signature",
            "user not available",
            "User bob is disabled until tomorrow",
        ] {
            upstream.at("/mcp", move |_| async move { Ok(unauthorized(words)) });
            for way in Way::ALL {
                // The client's header list would let WWW-Authenticate through; `assert_refused` does not.
                let answer = daemon.ask_by(way, Ask::post("/mcp", CALL)).await;
                answer.assert_refused(503, "upstream_rejected_credential");
                assert_eq!(answer.json()["id"], 3);
                assert!(answer.text().contains(words), "{answer:?}");
                let answer = daemon.ask_by(way, Ask::get("/mcp")).await;
                answer.assert_refused(503, "upstream_rejected_credential");
            }
        }
    }
}

#[tokio::test]
async fn an_unknown_key_or_a_wrong_secret_shows_everywhere_an_operator_looks() {
    let upstream = Upstream::https();
    upstream.accept_only(&[(KEY_ID, "hush-another")]);
    let daemon = start(&upstream).await;
    let ask = Ask::post("/mcp", CALL).header("x-request-id", "refused");
    let answer = daemon.ask(ask).await;
    answer.assert_refused(503, "upstream_rejected_credential");
    assert!(answer.text().contains("Invalid Signature"));

    let lines = daemon.requests_logged("refused").await;
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["error_code"], "upstream_rejected_credential");
    let status = daemon.status();
    assert_eq!(
        status["upstreams"][0]["credential"]["refused"],
        "Invalid Signature"
    );
    let ready = daemon.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert_eq!(
        ready.json()["upstreams"]["up"]["credential"]["error"],
        "Invalid Signature"
    );

    // And it goes away once the gateway takes it again.
    upstream.accept_only(&[(KEY_ID, crate::common::SECRET)]);
    assert_eq!(daemon.post("/mcp", CALL).await.status, 200);
    assert!(daemon.status()["upstreams"][0]["credential"]["refused"].is_null());
    assert_eq!(daemon.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_signature_that_the_refusal_echoes_is_taken_out() {
    let upstream = Upstream::https();
    upstream.at("/echo", |call| async move {
        let signature = call.seen.header("x-signature").unwrap().to_owned();
        let upper = signature.to_uppercase();
        Ok(unauthorized(format!(
            "bad X-Signature: {signature} or {upper}; {signature}{signature}"
        )))
    });
    let daemon = start(&upstream).await;
    for way in Way::ALL {
        // Answers of the proxy's own are searched for signatures, and so is its log.
        let answer = daemon.ask_by(way, Ask::post("/echo", CALL)).await;
        answer.assert_refused(503, "upstream_rejected_credential");
        assert!(answer.text().contains("bad X-Signature: "), "{answer:?}");
    }
}

#[tokio::test]
async fn no_part_of_an_echoed_signature_is_left_where_the_quote_is_cut() {
    let upstream = Upstream::https();
    let daemon = start(&upstream).await;
    // Wherever the quote ends, the signature stands across that place once.
    for before in [300, 420, 440, 448, 460, 480, 500, 511, 512, 1000, 4000] {
        upstream.at("/echo", move |call| async move {
            let signature = call.seen.header("x-signature").unwrap();
            Ok(unauthorized(format!(
                "{}{signature} and more",
                "w ".repeat(before / 2)
            )))
        });
        let answer = daemon.post("/echo", CALL).await;
        answer.assert_refused(503, "upstream_rejected_credential");
        let signature = upstream.last().header("x-signature").unwrap().to_owned();
        for start in 0..signature.len() - 8 {
            let part = &signature[start..start + 8];
            assert!(
                !answer.text().contains(part),
                "{before}: {part} of {signature} in {answer:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_refusal_that_never_ends_or_says_nothing_or_no_text_is_still_a_503() {
    let upstream = Upstream::https();
    upstream.at("/silent", |_| async { Ok(unauthorized("")) });
    upstream.at("/binary", |_| async {
        Ok(unauthorized(&b"\xff\xfe\x00\x1b[31m\r\nx: y"[..]))
    });
    upstream.at("/endless", |_| async {
        let (pipe, body) = body::piped();
        tokio::spawn(async move { while pipe.send("words without end ").await {} });
        Ok(Response::builder().status(401).body(body).unwrap())
    });
    upstream.at("/hanging", |_| async {
        let (pipe, body) = body::piped();
        tokio::spawn(async move {
            pipe.send("half a ").await;
            pipe.closed().await;
        });
        Ok(Response::builder().status(401).body(body).unwrap())
    });
    let daemon = start(&upstream).await;
    for path in ["/silent", "/binary", "/endless", "/hanging"] {
        let answer = daemon.post(path, CALL).await;
        answer.assert_refused(503, "upstream_rejected_credential");
        assert!(answer.body.len() < 4096, "{path}: {}", answer.body.len());
        assert!(!answer.text().contains('\u{1b}'), "{answer:?}");
    }
    upstream.idle().await;
}

#[tokio::test]
async fn a_401_passes_as_it_is_where_that_was_asked_for() {
    let upstream = Upstream::https();
    upstream.at("/mcp", |_| async { Ok(unauthorized("Invalid Api Key")) });
    let setup = Setup::before(&upstream).upstream("upstream_401 = \"pass\"");
    let daemon = setup.start().await;
    for way in Way::ALL {
        let answer = daemon.ask_by(way, Ask::post("/mcp", CALL)).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text()),
            (401, "Invalid Api Key")
        );
        assert_eq!(answer.code(), None);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
}

#[tokio::test]
async fn a_401_to_a_request_that_we_did_not_sign_is_the_clients_own() {
    let upstream = Upstream::https();
    upstream.takes_unsigned();
    upstream.at("/mcp", |_| async { Ok(unauthorized("who are you")) });
    let setup = Setup::before(&upstream);
    let config = setup.config().replace("credential = \"key\"\n", "");
    let daemon = setup.written(&config).start().await;
    assert_eq!(daemon.get("/mcp").await.status, 401);
}

#[tokio::test]
async fn other_refusals_of_the_gateway_pass_as_they_are() {
    let upstream = Upstream::https();
    upstream.says("/limited", 429, &[("retry-after", "3")], "slow down");
    upstream.says("/forbidden", 403, &[], "not yours");
    let daemon = Setup::before(&upstream).start().await;
    let answer = daemon.post("/limited", CALL).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (429, "slow down"));
    assert_eq!(answer.header("retry-after"), Some("3"));
    assert_eq!(daemon.post("/forbidden", CALL).await.text(), "not yours");
}
