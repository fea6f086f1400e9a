//! Sessions that an upstream forgets: opened again for clients that need not know.

pub mod server;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use self::server::{Server, VERSION, initialize, notification, open, request, within};
use crate::common::secrets::{KEY_ID, NEXT_SECRET};
use crate::common::{Ask, Daemon, Http, Setup, Upstream, Way, body, until};

const REPLAY: &str = "session_recovery = \"replay\"";

async fn before(upstream: &Upstream) -> Daemon {
    Setup::before(upstream).upstream(REPLAY).start().await
}

fn recoveries(daemon: &Daemon, outcome: &str) -> f64 {
    let labels = format!("{{upstream=\"up\",outcome=\"{outcome}\"}}");
    daemon.metric(&format!("mcp_auth_proxy_session_recoveries_total{labels}"))
}

#[tokio::test]
async fn a_forgotten_session_is_opened_again_and_its_client_keeps_its_id() {
    for upstream in [Upstream::https(), Upstream::https_h1()] {
        for in_events in [false, true] {
            let server = Server::at(&upstream, "/mcp");
            if in_events {
                server.answers_in_events();
            }
            let daemon = before(&upstream).await;
            assert_eq!(open(&daemon, "/mcp").await, "s1");
            assert_eq!(daemon.metric("mcp_auth_proxy_sessions_known"), 1.0);
            for round in [2, 3] {
                server.forget();
                let ask = request("/mcp", "s1", 7, "tools/list").header("x-request-id", "again");
                let answer = daemon.ask(ask).await;
                assert_eq!(answer.status, 200, "{answer:?}");
                assert_eq!(answer.json()["id"], 7);
                let now = format!("s{round}");
                assert_eq!(answer.json()["result"]["in"], now);
                assert_eq!(answer.header("mcp-session-id"), Some("s1"));
                let all = ["notifications/initialized", "tools/list"];
                assert_eq!(server.asked_in(&now), all);
                assert_eq!(server.count("initialize"), round);
            }
            // From now on without a detour.
            let next = daemon.ask(request("/mcp", "s1", 8, "ping")).await;
            assert_eq!(next.json()["result"]["in"], "s3");
            assert_eq!(recoveries(&daemon, "recovered"), 2.0);
            let line = daemon.logged_request("again").await;
            assert_eq!(
                (&line["session"], &line["retries"]),
                (&json!("recovered"), &json!(1))
            );
        }
    }
}

#[tokio::test]
async fn what_is_sent_again_is_what_the_client_sent() {
    let upstream = Upstream::https();
    let server = Server::at(&upstream, "/mcp");
    let daemon = before(&upstream).await;
    open(&daemon, "/mcp").await;
    server.forget();
    let seen = upstream.count();
    let ask = request("/mcp", "s1", 1, "ping").header("x-tenant", "seven");
    assert_eq!(daemon.ask(ask).await.status, 200);
    let seen = upstream.seen().split_off(seen);
    assert_eq!(
        seen.len(),
        4,
        "404, initialize, initialized, the request again"
    );
    let original = upstream.seen()[upstream.count() - 6].body();
    assert_eq!(seen[1].body(), original, "initialize as it was captured");
    for (seen, version) in seen
        .iter()
        .zip([Some(VERSION), None, Some(VERSION), Some(VERSION)])
    {
        assert_eq!(seen.header("x-tenant"), Some("seven"));
        assert_eq!(seen.header("mcp-protocol-version"), version);
        assert_eq!(seen.header("content-type"), Some("application/json"));
    }
    let signatures: Vec<_> = seen.iter().map(|seen| seen.header("x-signature")).collect();
    assert!(signatures.iter().all(Option::is_some));
    let ids: Vec<_> = seen
        .iter()
        .map(|seen| seen.header("mcp-session-id"))
        .collect();
    assert_eq!(ids, [Some("s1"), None, Some("s2"), Some("s2")]);
}

#[tokio::test]
async fn fifty_that_find_it_gone_at_once_open_it_once() {
    for upstream in [Upstream::https(), Upstream::https_h1()] {
        let server = Server::at(&upstream, "/mcp");
        let setup = Setup::before(&upstream).upstream(REPLAY);
        let daemon = setup.more("[server]\nworkers = 2").start().await;
        open(&daemon, "/mcp").await;
        // Connections of their own: they are spread over the workers.
        let mut clients = join_all((0..50).map(|_| daemon.client(Way::Tcp(Http::One)))).await;
        server.forget();
        let asking = clients.iter_mut().zip(0..);
        let asking = asking.map(|(client, id)| client.ask(request("/mcp", "s1", id, "tools/call")));
        for (answer, id) in join_all(asking).await.into_iter().zip(0..) {
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.json()["id"], id);
            assert_eq!(answer.json()["result"]["in"], "s2");
        }
        assert_eq!(server.count("initialize"), 2);
        assert_eq!(server.count("notifications/initialized"), 2);
        assert_eq!(server.count("tools/call"), 50);
        assert_eq!(recoveries(&daemon, "recovered"), 1.0);
    }
}

#[tokio::test]
async fn a_client_that_leaves_does_not_take_the_recovery_with_it() {
    let upstream = Upstream::https();
    let server = Server::at(&upstream, "/mcp");
    let daemon = before(&upstream).await;
    open(&daemon, "/mcp").await;
    server.forget();
    let mut client = daemon.client(Way::Tcp(Http::One)).await;
    tokio::select! {
        biased;
        _ = client.try_open(request("/mcp", "s1", 1, "ping")) => {}
        () = crate::common::until("it is being opened", || server.count("initialize") == 2) => {}
    }
    client.leave();
    let answer = daemon.ask(request("/mcp", "s1", 2, "ping")).await;
    assert_eq!(answer.json()["result"]["in"], "s2");
    assert_eq!(server.count("initialize"), 2);
}

#[tokio::test]
async fn streams_and_deletes_go_to_the_session_that_is_open_now() {
    let upstream = Upstream::https();
    let server = Server::at(&upstream, "/mcp");
    let daemon = before(&upstream).await;
    open(&daemon, "/mcp").await;
    server.forget();
    let mut client = daemon.client(Way::Tcp(Http::One)).await;
    let mut stream = client.open(within(Ask::events("/mcp"), "s1")).await;
    assert_eq!(stream.status, 200);
    let pipe = server.pipes().find("the stream", |_| true).await;
    pipe.send("data: 1\n\n").await;
    assert_eq!(stream.until("\n\n").await, "data: 1\n\n");
    assert_eq!(server.asked_in("s2"), ["notifications/initialized", "GET"]);

    let delete = || within(Ask::new("DELETE", "/mcp"), "s1");
    assert_eq!(daemon.ask(delete()).await.status, 200);
    assert_eq!(server.asked_in("s2").last().unwrap(), "DELETE");
    assert_eq!(daemon.metric("mcp_auth_proxy_sessions_known"), 0.0);
    // It is over: nobody opens it again.
    for ask in [request("/mcp", "s1", 1, "ping"), delete()] {
        let answer = daemon.ask(ask).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text()),
            (404, "Session not found")
        );
    }
    assert_eq!(server.count("initialize"), 2);
}

#[tokio::test]
async fn a_delete_of_a_forgotten_session_opens_none() {
    let upstream = Upstream::https();
    let server = Server::at(&upstream, "/mcp");
    let daemon = before(&upstream).await;
    open(&daemon, "/mcp").await;
    server.forget();
    let answer = daemon.ask(within(Ask::new("DELETE", "/mcp"), "s1")).await;
    assert_eq!(answer.status, 404);
    assert_eq!(server.count("initialize"), 1);
    assert_eq!(daemon.metric("mcp_auth_proxy_sessions_known"), 0.0);
}

#[tokio::test]
async fn what_must_not_be_sent_again_gets_the_404() {
    let upstream = Upstream::https();
    let server = Server::at(&upstream, "/mcp");
    let setup = Setup::before(&upstream).upstream(REPLAY);
    let daemon = setup.more("[limits]\nreplay_buffer = 4096").start().await;
    open(&daemon, "/mcp").await;
    server.forget();
    let post = |text: String| within(Ask::post("/mcp", text), "s1");
    let large = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"a":"{}"}}}}"#,
        "x".repeat(8000)
    );
    for ask in [
        // An answer: the new session may have asked something else under this id.
        post(r#"{"jsonrpc":"2.0","id":0,"result":{}}"#.to_owned()),
        post(r#"{"jsonrpc":"2.0","id":0,"error":{"code":1,"message":"no"}}"#.to_owned()),
        // Two readers could differ on what it asks.
        post(r#"{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}"#.to_owned()),
        // It was streamed.
        post(large),
        // The new session knows nothing of the stream.
        within(Ask::events("/mcp"), "s1").header("last-event-id", "5"),
    ] {
        let answer = daemon.ask(ask).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text()),
            (404, "Session not found")
        );
    }
    assert_eq!(server.count("initialize"), 1);
    assert_eq!(
        daemon.ask(request("/mcp", "s1", 1, "ping")).await.status,
        200
    );
}

#[tokio::test]
async fn a_server_that_has_changed_ends_the_session() {
    let upstream = Upstream::https();
    let server = Server::at(&upstream, "/mcp");
    let daemon = before(&upstream).await;
    open(&daemon, "/mcp").await;
    server.is_capable_of(json!({ "tools": {}, "prompts": {} }));
    server.forget();
    for _ in 0..2 {
        let answer = daemon.ask(request("/mcp", "s1", 1, "ping")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text()),
            (404, "Session not found")
        );
    }
    // The session that nobody wants was closed, and no other was opened.
    assert_eq!(server.count("initialize"), 2);
    assert_eq!(server.asked_in("s2"), ["DELETE"]);
    assert_eq!(recoveries(&daemon, "changed"), 1.0);
    // The client opens its own, as the 404 tells it to.
    let id = open(&daemon, "/mcp").await;
    assert_eq!(
        daemon.ask(request("/mcp", &id, 1, "ping")).await.status,
        200
    );
}

#[tokio::test]
async fn a_server_without_sessions_any_more_ends_the_session() {
    let upstream = Upstream::https();
    let server = Server::at(&upstream, "/mcp");
    let daemon = before(&upstream).await;
    open(&daemon, "/mcp").await;
    server.names_no_session();
    server.forget();
    assert_eq!(
        daemon.ask(request("/mcp", "s1", 1, "ping")).await.status,
        404
    );
    assert_eq!(recoveries(&daemon, "changed"), 1.0);
}

#[tokio::test]
async fn an_initialize_that_fails_lets_the_404_through_and_may_succeed_later() {
    let upstream = Upstream::https();
    let server = Server::at(&upstream, "/mcp");
    let daemon = before(&upstream).await;
    open(&daemon, "/mcp").await;
    server.forget();
    server.initialize_fails(Some(503));
    let ask = || request("/mcp", "s1", 1, "ping");
    assert_eq!(daemon.ask(ask()).await.status, 404);
    assert_eq!(recoveries(&daemon, "failed"), 1.0);
    server.initialize_fails(None);
    assert_eq!(daemon.ask(ask()).await.status, 200);

    server.forget();
    server.initialize_fails(Some(403));
    assert_eq!(daemon.ask(ask()).await.status, 404);
    assert_eq!(recoveries(&daemon, "refused"), 1.0);
    assert_eq!(daemon.metric("mcp_auth_proxy_sessions_known"), 0.0);
}

#[tokio::test]
async fn nobody_but_its_owner_gets_a_session_back() {
    let upstream = Upstream::https();
    let (server, other) = (
        Server::at(&upstream, "/mcp"),
        Server::named(&upstream, "/other", "t"),
    );
    let daemon = before(&upstream).await;
    // Opened over TCP, so by another peer than whoever comes by the Unix socket.
    let id = open(&daemon, "/mcp").await;
    server.forget();
    let stolen = daemon
        .ask_by(Way::Unix(Http::One), request("/mcp", &id, 1, "ping"))
        .await;
    assert_eq!(
        (stolen.status.as_u16(), stolen.text()),
        (404, "Session not found")
    );
    let elsewhere = daemon.ask(request("/other", &id, 1, "ping")).await;
    assert_eq!(elsewhere.status, 404);
    assert_eq!(
        (server.count("initialize"), other.count("initialize")),
        (1, 0)
    );
    // Nor once it is open again.
    assert_eq!(
        daemon.ask(request("/mcp", &id, 1, "ping")).await.status,
        200
    );
    let stolen = daemon
        .ask_by(Way::Unix(Http::One), request("/mcp", &id, 1, "ping"))
        .await;
    assert_eq!(stolen.status, 404);
}

#[tokio::test]
async fn sessions_outlive_a_reload_but_not_their_credential() {
    let upstream = Upstream::https();
    let server = Server::at(&upstream, "/mcp");
    let mut daemon = before(&upstream).await;
    let id = open(&daemon, "/mcp").await;
    server.forget();
    daemon.reload().await;
    let answer = daemon.ask(request("/mcp", &id, 1, "ping")).await;
    assert_eq!(answer.json()["result"]["in"], "s2");
    daemon.reload().await;
    let answer = daemon.ask(request("/mcp", &id, 1, "ping")).await;
    assert_eq!(answer.json()["result"]["in"], "s2");

    daemon
        .reload_with(|setup| setup.credential(KEY_ID, NEXT_SECRET))
        .await;
    let answer = daemon.ask(request("/mcp", &id, 1, "ping")).await;
    assert_eq!(
        answer.status, 404,
        "the id is the client's, which the upstream never knew"
    );
    assert_eq!(server.count("initialize"), 2);
}

#[tokio::test]
async fn without_the_key_and_for_modern_clients_sessions_are_the_clients_own_business() {
    let upstream = Upstream::https();
    let server = Server::at(&upstream, "/mcp");
    let daemon = Setup::before(&upstream).start().await;
    let ask = initialize("/mcp");
    // Left alone, its encoding included.
    upstream.at("/plain", crate::common::upstream::echo);
    daemon.ask(initialize("/plain")).await;
    assert_eq!(upstream.last().header("accept-encoding"), Some("gzip"));
    drop(ask);
    server.forget();
    assert_eq!(
        daemon.ask(request("/mcp", "s1", 1, "ping")).await.status,
        404
    );
    assert_eq!(server.count("initialize"), 0);
    assert_eq!(daemon.metric("mcp_auth_proxy_sessions_known"), 0.0);

    let daemon = before(&upstream).await;
    open(&daemon, "/mcp").await;
    server.forget();
    let modern = Ask::post("/mcp", r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#)
        .header("mcp-session-id", "s1")
        .header("mcp-protocol-version", "2026-07-28");
    assert_eq!(daemon.ask(modern).await.status, 404);
    assert_eq!(server.count("initialize"), 1);
    // A notification is as good as a request.
    let ask = notification("/mcp", "s1", "notifications/cancelled");
    assert_eq!(daemon.ask(ask).await.status, 202);
    assert_eq!(
        server.asked_in("s2"),
        ["notifications/initialized", "notifications/cancelled"]
    );
}

/// A server that has forgotten its session, and leaves `initialize` without an answer.
async fn forgotten_by_one_that_hangs(setup: Setup, upstream: &Upstream) -> Daemon {
    let server = Server::at(upstream, "/mcp");
    let daemon = setup.upstream(REPLAY).start().await;
    open(&daemon, "/mcp").await;
    server.forget();
    upstream.at("/mcp", |mut call| async move {
        let body = call.read().await?;
        if String::from_utf8_lossy(&body).contains("\"initialize\"") {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        let gone = http::Response::builder().status(404);
        Ok(gone.body(body::full("Session not found")).unwrap())
    });
    daemon
}

#[tokio::test]
async fn a_recovery_takes_no_more_time_than_its_request_has() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream).upstream("request_timeout = \"4s\"");
    let daemon = forgotten_by_one_that_hangs(setup, &upstream).await;
    let begun = Instant::now();
    let answer = daemon.ask(request("/mcp", "s1", 7, "tools/list")).await;
    assert_eq!(answer.status, 404, "{answer:?}");
    // With a time of its own it would take 7.
    assert!(
        begun.elapsed() < Duration::from_millis(6500),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_recovery_is_one_of_the_requests_that_an_upstream_takes_at_a_time() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream)
        .upstream("concurrency = { requests = 1, queue = 0 }\nrequest_timeout = \"40s\"");
    let daemon = forgotten_by_one_that_hangs(setup, &upstream).await;
    let (one, other) = (daemon.ask(request("/mcp", "s1", 7, "tools/list")), async {
        // The handshake, the request, and what is to open the session again.
        until("initialize came again", || upstream.count() == 4).await;
        daemon
            .get("/other")
            .await
            .assert_refused(503, "upstream_busy");
    });
    tokio::select! {
        answer = one => panic!("{answer:?}"),
        () = other => {}
    }
}

#[tokio::test]
async fn sessions_by_a_credential_that_the_client_chose_outlive_a_reload_too() {
    let upstream = Upstream::https();
    let server = Server::at(&upstream, "/mcp");
    let setup = Setup::before(&upstream).upstream(REPLAY);
    let secret = setup.path("secret");
    let daemon = setup
        .more(&format!(
            "[credential.second.auth-gateway]\nkey_id = {KEY_ID:?}\nsecret = {{ file = {secret:?} }}\n\
             [[route]]\npath = \"/\"\nupstream = \"up\"\ncredentials = [\"second\"]"
        ))
        .start()
        .await;
    let chosen = |ask: Ask| ask.header("x-mcp-auth-credential", "second");
    assert_eq!(daemon.ask(chosen(initialize("/mcp"))).await.status, 200);
    daemon.reload().await;
    server.forget();
    let again = daemon.ask(chosen(request("/mcp", "s1", 7, "ping"))).await;
    assert_eq!(again.status, 200, "{again:?}");
}

#[tokio::test]
async fn named_clients_behind_one_address_do_not_share_sessions() {
    let upstream = Upstream::https();
    let server = Server::at(&upstream, "/mcp");
    let setup = Setup::before(&upstream).upstream(REPLAY);
    let [ci, desk] =
        ["ci", "desk"].map(|name| setup.file(name, &format!("the-very-own-token-of-{name}")));
    let tokens = format!("tokens = {{ ci = {{ file = {ci:?} }}, desk = {{ file = {desk:?} }} }}");
    let daemon = setup.tcp_listener(&tokens).start().await;
    let by = |name: &str, ask: Ask| {
        ask.header(
            "authorization",
            &format!("Bearer the-very-own-token-of-{name}"),
        )
    };
    assert_eq!(daemon.ask(by("ci", initialize("/mcp"))).await.status, 200);
    server.forget();
    let ping = || request("/mcp", "s1", 7, "ping");
    assert_eq!(daemon.ask(by("desk", ping())).await.status, 404);
    assert_eq!(daemon.ask(by("ci", ping())).await.status, 200);
}
