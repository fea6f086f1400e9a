//! Tokens: fetched once, shared, fetched anew, and given up for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::{CALL, start};
use crate::common::upstream::{self, unauthorized};
use crate::common::{Ask, Daemon, Http, Setup, Upstream, Way, until};

/// An issuer whose n-th token is `hush-token-n`, valid for so long.
fn issuer(lifetime: u64) -> (Upstream, Arc<AtomicUsize>) {
    let issuer = Upstream::https();
    issuer.takes_unsigned();
    let fetched = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&fetched);
    issuer.at("/token", move |mut call| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        async move {
            call.read().await?;
            let token = json!({
                "access_token": format!("hush-token-{number}"),
                "token_type": "Bearer",
                "expires_in": lifetime,
            });
            Ok(upstream::json(token.to_string()))
        }
    });
    (issuer, fetched)
}

fn by_token_url(issuer: &Upstream) -> String {
    format!(
        "[credential.key.oauth-client-credentials]\ntoken_url = \"{}/token\"\nclient_id = \"me\"\n\
         client_secret = {{ file = \"DIR/secret\" }}\nscope = \"mcp:read mcp:write\"\n\
         resource = \"https://mcp.example.com/\"\nca_file = \"DIR/ca.pem\"",
        issuer.url().trim_end_matches('/')
    )
}

async fn daemon_with(issuer: &Upstream, upstream: &Upstream) -> Daemon {
    start(upstream, Setup::before(upstream), &by_token_url(issuer)).await
}

/// The token that each request came with.
fn tokens(upstream: &Upstream) -> Vec<String> {
    let seen = upstream.seen();
    seen.iter()
        .map(|seen| seen.header("authorization").unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_token_is_fetched_once_and_serves_every_request() {
    let (issuer, fetched) = issuer(3600);
    for upstream in [Upstream::https(), Upstream::https_h1()] {
        fetched.store(0, Ordering::SeqCst);
        let daemon = daemon_with(&issuer, &upstream).await;
        for way in Way::ALL {
            assert_eq!(
                daemon.ask_by(way, Ask::post("/mcp", CALL)).await.status,
                200
            );
        }
        daemon.reload().await;
        assert_eq!(daemon.post("/mcp", CALL).await.status, 200);
        assert_eq!(fetched.load(Ordering::SeqCst), 1);
        assert!(
            tokens(&upstream)
                .iter()
                .all(|it| it == "Bearer hush-token-1")
        );
        let form = String::from_utf8(issuer.last().body().to_vec()).unwrap();
        assert_eq!(
            form,
            "grant_type=client_credentials&scope=mcp%3Aread+mcp%3Awrite\
             &resource=https%3A%2F%2Fmcp.example.com%2F"
        );
        assert!(
            issuer
                .last()
                .header("authorization")
                .unwrap()
                .starts_with("Basic bWU6")
        );
        let credential = daemon.status()["upstreams"][0]["credential"].clone();
        assert_eq!(credential["scheme"], "oauth-client-credentials");
        assert!(credential["token_expires_in_seconds"].as_u64().unwrap() > 3500);
        let name = credential["name"].as_str().unwrap();
        let metric = format!(
            r#"mcp_auth_proxy_credential_expiry_timestamp_seconds{{upstream="up",credential="{name}"}}"#
        );
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let left = daemon.metric(&metric) - now.as_secs_f64();
        assert!((3500.0..3601.0).contains(&left), "{left}");
    }
}

#[tokio::test]
async fn ten_thousand_requests_that_find_a_token_expired_have_one_fetched() {
    // As many as the proxy takes at a time on one connection.
    const EACH: usize = 1000;
    const CONNECTIONS: usize = 10;
    let (issuer, fetched) = issuer(2);
    let upstream = Upstream::https();
    upstream.takes_unsigned();
    // Those that come first wait for the last as well.
    let config = super::config(&upstream, &by_token_url(&issuer))
        .replace("[upstream.up]", "[upstream.up]\nrequest_timeout = \"60s\"")
        .replace("level = \"debug\"", "level = \"info\"");
    let daemon = Setup::before(&upstream).written(&config).start().await;
    until("the first token came", || {
        fetched.load(Ordering::SeqCst) == 1
    })
    .await;
    // Held until all of them wait.
    let release = Arc::new(tokio::sync::Notify::new());
    let (held, count) = (Arc::clone(&release), Arc::clone(&fetched));
    issuer.at("/token", move |_| {
        let held = Arc::clone(&held);
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            held.notified().await;
            let token = r#"{"access_token":"hush-token-2","expires_in":3600}"#;
            Ok(upstream::json(token))
        }
    });
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let mut asking = Vec::new();
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let connection = daemon.client(Way::Tcp(Http::Two)).await;
        asking.extend((0..EACH).map(|_| {
            let mut client = connection.beside();
            tokio::spawn(async move {
                assert_eq!(client.ask(Ask::post("/mcp", CALL)).await.status, 200);
            })
        }));
        connections.push(connection);
    }
    until("they wait", || {
        daemon.status()["requests_in_flight"].as_u64() == Some((EACH * CONNECTIONS) as u64)
    })
    .await;
    release.notify_one();
    for asked in asking {
        asked.await.unwrap();
    }
    assert_eq!(fetched.load(Ordering::SeqCst), 2);
    let tokens = tokens(&upstream);
    assert_eq!(tokens.len(), EACH * CONNECTIONS);
    assert!(tokens.iter().all(|it| it == "Bearer hush-token-2"));
}

#[tokio::test]
async fn a_token_that_the_upstream_refuses_is_fetched_anew_once_and_the_request_sent_again() {
    let (issuer, fetched) = issuer(3600);
    let upstream = Upstream::https();
    upstream.expects_refusals();
    upstream.at("/mcp", |mut call| async move {
        let body = call.read().await?;
        match call.seen.header("authorization") {
            Some("Bearer hush-token-1") => Ok(unauthorized("expired")),
            _ => Ok(upstream::json(body)),
        }
    });
    let daemon = daemon_with(&issuer, &upstream).await;
    // A token refused as soon as it was fetched is not given up.
    let answer = daemon.post("/mcp", CALL).await;
    answer.assert_refused(503, "upstream_rejected_credential");
    tokio::time::sleep(Duration::from_millis(5100)).await;
    assert_eq!(daemon.post("/mcp", CALL).await.status, 200);
    assert_eq!(fetched.load(Ordering::SeqCst), 2);
    assert_eq!(
        tokens(&upstream),
        [
            "Bearer hush-token-1",
            "Bearer hush-token-1",
            "Bearer hush-token-2"
        ]
    );
}

#[tokio::test]
async fn an_issuer_that_refuses_is_named_and_not_hammered() {
    let (issuer, fetched) = issuer(3600);
    let count = Arc::clone(&fetched);
    issuer.at("/token", move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        async {
            Ok(http::Response::builder()
                .status(401)
                .body(crate::common::body::full(
                    r#"{"error":"invalid_client","error_description":"who is me? hush-aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789"}"#,
                ))
                .unwrap())
        }
    });
    let upstream = Upstream::https();
    let daemon = daemon_with(&issuer, &upstream).await;
    for _ in 0..20 {
        let answer = daemon.post("/mcp", CALL).await;
        answer.assert_refused(503, "credential_unavailable");
        assert!(
            answer
                .text()
                .contains("invalid_client: who is me? [credential]"),
            "{answer:?}"
        );
    }
    assert!(fetched.load(Ordering::SeqCst) <= 3, "{fetched:?}");
    assert_eq!(upstream.count(), 0);
    let ready = daemon.get("/readyz").await;
    assert_eq!(ready.status, 503);
    let credential = &ready.json()["upstreams"]["up"]["credential"];
    assert!(
        credential["error"]
            .as_str()
            .unwrap()
            .contains("invalid_client")
    );
    let failed = "mcp_auth_proxy_credential_fetches_total{credential=\"key\",outcome=\"failure\"}";
    assert!(daemon.metric(failed) >= 1.0);
}

#[tokio::test]
async fn the_token_endpoint_is_found_by_the_issuers_name() {
    let (issuer, fetched) = issuer(3600);
    let url = issuer.url().trim_end_matches('/').to_owned();
    let metadata =
        json!({ "issuer": format!("{url}/tenant"), "token_endpoint": format!("{url}/token") });
    issuer.at(
        "/.well-known/oauth-authorization-server/tenant",
        |_| async {
            Ok(http::Response::builder()
                .status(404)
                .body(crate::common::body::empty())
                .unwrap())
        },
    );
    issuer.at("/tenant/.well-known/openid-configuration", move |_| {
        let metadata = metadata.to_string();
        async move { Ok(upstream::json(metadata)) }
    });
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    setup.file(
        "client.pem",
        &rcgen::KeyPair::generate().unwrap().serialize_pem(),
    );
    let credential = format!(
        "[credential.key.oauth-client-credentials]\nissuer = \"{url}/tenant\"\nclient_id = \"me\"\n\
         private_key = {{ file = \"DIR/client.pem\" }}\nca_file = \"DIR/ca.pem\""
    );
    let daemon = start(&upstream, setup, &credential).await;
    assert_eq!(daemon.post("/mcp", CALL).await.status, 200);
    assert_eq!(fetched.load(Ordering::SeqCst), 1);
    let form = String::from_utf8(issuer.last().body().to_vec()).unwrap();
    assert!(form.contains(
        "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"
    ));
    assert!(issuer.last().header("authorization").is_none());
}
