//! GET streams that go on for their client when the upstream's end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use http::Response;

use crate::common::journal::Journal;
use crate::common::upstream::event_stream;
use crate::common::{Ask, Daemon, Http, Opened, Pipe, Setup, Upstream, Way, body, within};
use crate::sessions::server::{self, Server};

const RECOVERY: &str = "stream_recovery = true";

async fn before(upstream: &Upstream) -> Daemon {
    Setup::before(upstream).upstream(RECOVERY).start().await
}

async fn opened(daemon: &Daemon, way: Way, ask: Ask) -> Opened {
    daemon.client(way).await.open(ask).await
}

async fn next(pipes: &Journal<Pipe>, before: usize) -> Pipe {
    let pipe = pipes.find_after(before, "the stream upstream", |_| true);
    pipe.await
}

fn recoveries(daemon: &Daemon, outcome: &str) -> f64 {
    let labels = format!("{{upstream=\"up\",outcome=\"{outcome}\"}}");
    daemon.metric(&format!("mcp_auth_proxy_stream_recoveries_total{labels}"))
}

/// Streams at `path`, or this status instead while it is not 200.
fn streams_or(upstream: &Upstream, path: &str) -> (Arc<AtomicU16>, Arc<Journal<Pipe>>) {
    let status = Arc::new(AtomicU16::new(200));
    let pipes = Arc::new(Journal::default());
    let (of_handler, into) = (Arc::clone(&status), Arc::clone(&pipes));
    upstream.at(path, move |_| {
        let status = of_handler.load(Ordering::Relaxed);
        let response = if status == 200 {
            let (pipe, response) = event_stream();
            into.push(pipe);
            response
        } else {
            let builder = Response::builder().status(status);
            builder.body(body::full("no")).unwrap()
        };
        std::future::ready(Ok(response))
    });
    (status, pipes)
}

#[tokio::test]
async fn a_stream_goes_on_behind_the_last_event_however_the_upstream_ends_it() {
    for upstream in [Upstream::https(), Upstream::https_h1(), Upstream::http()] {
        let daemon = before(&upstream).await;
        let pipes = upstream.streams_at("/events");
        for way in [Way::Tcp(Http::One), Way::Unix(Http::Two)] {
            let from = pipes.len();
            let seen = upstream.count();
            let ask = Ask::events("/events").header("accept-encoding", "gzip");
            let mut stream = opened(&daemon, way, ask).await;
            let first = next(&pipes, from).await;
            first
                .send("retry: 10\nid: 1\ndata: a\n\nid: 2\ndata: b\n\n")
                .await;
            assert_eq!(
                stream.until("b\n\n").await,
                "retry: 10\nid: 1\ndata: a\n\nid: 2\ndata: b\n\n"
            );
            // Half an event that nobody gets to see.
            first.send("id: 3\ndata: ha").await;
            first.cut().await;

            let second = next(&pipes, from + 1).await;
            second.send("\u{feff}id: 3\ndata: half\n\n").await;
            assert_eq!(stream.until("\n\n").await, "id: 3\ndata: half\n\n");
            second.end().await;

            let third = next(&pipes, from + 2).await;
            third.send("data: c\n\n").await;
            assert_eq!(stream.until("\n\n").await, "data: c\n\n");

            let seen = upstream.seen().split_off(seen);
            let of_stream = seen.iter().map(|seen| seen.header("last-event-id"));
            assert_eq!(of_stream.collect::<Vec<_>>(), [None, Some("2"), Some("3")]);
            for seen in &seen {
                assert_eq!(
                    (seen.method.as_str(), seen.header("accept-encoding")),
                    ("GET", None)
                );
                assert_eq!(
                    seen.header("x-request-id"),
                    upstream.last().header("x-request-id")
                );
            }
            // Who leaves ends it for good.
            drop(stream);
            within("the stream upstream was given up", third.closed()).await;
        }
        assert_eq!(recoveries(&daemon, "recovered"), 4.0);
        assert_eq!(pipes.len(), 6);
    }
}

#[tokio::test]
async fn an_upstream_that_restarts_is_waited_for() {
    let upstream = Upstream::https();
    let (status, pipes) = streams_or(&upstream, "/events");
    let daemon = before(&upstream).await;
    let mut stream = opened(&daemon, Way::Tcp(Http::One), Ask::events("/events")).await;
    let first = next(&pipes, 0).await;
    first.send("id: 1\nretry: 1\ndata: a\n\n").await;
    stream.until("\n\n").await;
    assert_eq!(daemon.metric("mcp_auth_proxy_event_streams_open"), 1.0);
    status.store(503, Ordering::Relaxed);
    let seen = upstream.count();
    first.cut().await;
    crate::common::until("it was tried twice", || upstream.count() >= seen + 2).await;
    status.store(200, Ordering::Relaxed);
    let second = next(&pipes, 1).await;
    second.send("id: 2\ndata: b\n\n").await;
    assert_eq!(stream.until("\n\n").await, "id: 2\ndata: b\n\n");
    assert_eq!(upstream.last().header("last-event-id"), Some("1"));
}

#[tokio::test]
async fn a_refusal_ends_the_stream_as_the_upstream_had() {
    let upstream = Upstream::https();
    let (status, pipes) = streams_or(&upstream, "/events");
    let daemon = before(&upstream).await;
    for (refusal, is_cut) in [(404, true), (405, false), (400, true), (501, false)] {
        status.store(200, Ordering::Relaxed);
        let from = pipes.len();
        let mut stream = opened(&daemon, Way::Tcp(Http::One), Ask::events("/events")).await;
        let pipe = next(&pipes, from).await;
        pipe.send("retry: 1\n\n").await;
        stream.until("\n\n").await;
        status.store(refusal, Ordering::Relaxed);
        let seen = upstream.count();
        if is_cut {
            pipe.cut().await;
        } else {
            pipe.end().await;
        }
        let (_, end) = stream.end().await;
        assert_eq!(end.is_err(), is_cut, "{refusal}");
        assert_eq!(upstream.count(), seen + 1, "{refusal}: it asks once");
    }
    assert_eq!(recoveries(&daemon, "failed"), 4.0);
}

#[tokio::test]
async fn a_drain_ends_a_stream_that_waits_for_its_upstream() {
    let upstream = Upstream::https();
    let (status, pipes) = streams_or(&upstream, "/events");
    let mut daemon = before(&upstream).await;
    let mut stream = opened(&daemon, Way::Tcp(Http::One), Ask::events("/events")).await;
    let pipe = next(&pipes, 0).await;
    pipe.send("retry: 1\ndata: a\n\n").await;
    stream.until("\n\n").await;
    status.store(503, Ordering::Relaxed);
    let seen = upstream.count();
    pipe.cut().await;
    crate::common::until("it was tried", || upstream.count() > seen).await;
    let begun = Instant::now();
    let (end, status) = tokio::join!(stream.end(), daemon.stop());
    assert!(end.1.is_ok() && status.success(), "{end:?} {status}");
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn comments_keep_the_client_waiting_meanwhile() {
    let upstream = Upstream::https();
    let (status, pipes) = streams_or(&upstream, "/events");
    let daemon = before(&upstream).await;
    let mut stream = opened(&daemon, Way::Tcp(Http::One), Ask::events("/events")).await;
    let pipe = next(&pipes, 0).await;
    pipe.send("data: a\n\ndata: ha").await;
    assert_eq!(stream.until("\n\n").await, "data: a\n\n");
    status.store(503, Ordering::Relaxed);
    pipe.cut().await;
    assert_eq!(stream.until("\n\n").await, ":keepalive\n\n");
    assert!(upstream.count() > 2, "it is being tried");
}

#[tokio::test]
async fn other_streams_are_left_as_they_are() {
    let upstream = Upstream::https();
    let daemon = before(&upstream).await;
    let pipes = upstream.streams_at("/events");
    // The answer to a request; a modern client's; one whose session is the stream itself.
    for (ask, event) in [
        (
            Ask::post("/events", r#"{"jsonrpc":"2.0","id":1,"method":"x"}"#),
            "id: 1\ndata: 1\n\n",
        ),
        (
            Ask::events("/events").header("mcp-protocol-version", "2026-07-28"),
            "id: 1\ndata: 1\n\n",
        ),
        (
            Ask::events("/events"),
            "event: endpoint\ndata: /messages?s=1\n\n",
        ),
    ] {
        let from = pipes.len();
        let mut stream = opened(&daemon, Way::Tcp(Http::One), ask).await;
        let pipe = next(&pipes, from).await;
        pipe.send(event).await;
        assert_eq!(stream.until("\n\n").await, event);
        pipe.cut().await;
        assert!(stream.end().await.1.is_err(), "{event}");
        assert_eq!(pipes.len(), from + 1);
    }
}

#[tokio::test]
async fn an_event_too_large_to_hold_passes_and_its_stream_ends_visibly() {
    let upstream = Upstream::https();
    let daemon = before(&upstream).await;
    let pipes = upstream.streams_at("/events");
    let mut stream = opened(&daemon, Way::Tcp(Http::One), Ask::events("/events")).await;
    let pipe = next(&pipes, 0).await;
    pipe.send("id: 1\ndata: ").await;
    for _ in 0..10 {
        pipe.send("x".repeat(64 * 1024)).await;
    }
    // More than is held has come before its end was sent.
    stream.until(&"x".repeat(128 * 1024)).await;
    pipe.cut().await;
    assert!(stream.end().await.1.is_err());
    assert_eq!(pipes.len(), 1);
}

#[tokio::test]
async fn a_large_event_arrives_whole() {
    let upstream = Upstream::https();
    let daemon = before(&upstream).await;
    let pipes = upstream.streams_at("/events");
    for size in [200_000, 900_000] {
        let from = pipes.len();
        let mut stream = opened(&daemon, Way::Tcp(Http::One), Ask::events("/events")).await;
        let pipe = next(&pipes, from).await;
        let event = format!("data: {}\r\n\r\n", "y".repeat(size));
        let (sent, read) = tokio::join!(pipe.send(event.clone()), stream.until("\r\n\r\n"));
        assert!(sent && read == event);
    }
}

#[tokio::test]
async fn a_stream_whose_session_was_forgotten_goes_on_in_the_new_one() {
    let upstream = Upstream::https();
    let server = Server::at(&upstream, "/mcp");
    let setup = Setup::before(&upstream).upstream(RECOVERY);
    let setup = setup.upstream("session_recovery = \"replay\"");
    let daemon = setup.start().await;
    let id = server::open(&daemon, "/mcp").await;
    let ask = || server::within(Ask::events("/mcp"), &id);
    let mut stream = opened(&daemon, Way::Tcp(Http::One), ask()).await;
    let first = next(server.pipes(), 0).await;
    first.send("id: 1\nretry: 1\ndata: a\n\n").await;
    stream.until("\n\n").await;
    // What is reloaded meanwhile changes nothing for it.
    daemon.reload().await;
    server.forget();
    first.cut().await;
    let second = next(server.pipes(), 1).await;
    second.send("data: b\n\n").await;
    assert_eq!(stream.until("\n\n").await, "data: b\n\n");
    assert_eq!(server.asked_in("s2"), ["notifications/initialized", "GET"]);
    assert_eq!(upstream.last().header("last-event-id"), None);
    assert_eq!(server.count("initialize"), 2);

    // Its client's DELETE is the end: nobody opens the session again.
    let deleted = daemon
        .ask(server::within(Ask::new("DELETE", "/mcp"), &id))
        .await;
    assert_eq!(deleted.status, 200);
    second.end().await;
    assert!(stream.end().await.1.is_ok());
    assert_eq!(server.count("initialize"), 2);
}

#[tokio::test]
async fn a_replaced_credential_signs_the_next_attempt() {
    let upstream = Upstream::https();
    let pipes = upstream.streams_at("/events");
    let mut daemon = before(&upstream).await;
    let mut stream = opened(&daemon, Way::Tcp(Http::One), Ask::events("/events")).await;
    let first = next(&pipes, 0).await;
    first.send("id: 1\nretry: 1\n\n").await;
    stream.until("\n\n").await;
    let (key_id, secret) = (crate::common::KEY_ID, crate::common::secrets::NEXT_SECRET);
    daemon
        .reload_with(|setup| setup.credential(key_id, secret))
        .await;
    upstream.accept_only(&[(key_id, secret)]);
    first.cut().await;
    next(&pipes, 1).await.send("data: b\n\n").await;
    assert_eq!(stream.until("\n\n").await, "data: b\n\n");
}

#[tokio::test]
async fn without_the_key_a_stream_ends_with_the_upstreams_and_resumption_is_the_clients() {
    let upstream = Upstream::https();
    let pipes = upstream.streams_at("/events");
    let daemon = Setup::before(&upstream).start().await;
    for way in Way::ALL {
        let from = pipes.len();
        let ask = Ask::events("/events").header("last-event-id", "41");
        let mut stream = opened(&daemon, way, ask).await;
        let pipe = next(&pipes, from).await;
        assert_eq!(upstream.last().header("last-event-id"), Some("41"));
        pipe.send("id: 42\ndata: a\n\n").await;
        stream.until("\n\n").await;
        pipe.cut().await;
        assert!(stream.end().await.1.is_err());
        assert_eq!(pipes.len(), from + 1);
    }
}

const SECOND_ID: &str = "7c9e6679-7425-40de-944b-e07fc1f90ae7";

/// The only route, by which a client may have a second credential, with these lines more.
fn with_route(setup: Setup, is_offered: bool, more: &str) -> Setup {
    let secret = setup.path("secret");
    let offered = if is_offered {
        "credentials = [\"second\"]\n"
    } else {
        ""
    };
    setup.more(&format!(
        "[credential.second.auth-gateway]\nkey_id = \"{SECOND_ID}\"\nsecret = {{ file = {secret:?} }}\n\
         [[route]]\npath = \"/\"\nupstream = \"up\"\n{offered}{more}\n"
    ))
}

#[tokio::test]
async fn the_credential_that_the_client_chose_signs_every_attempt_until_it_is_no_longer_offered() {
    let upstream = Upstream::https();
    upstream.accept_only(&[
        (crate::common::KEY_ID, crate::common::SECRET),
        (SECOND_ID, crate::common::SECRET),
    ]);
    let pipes = upstream.streams_at("/events");
    let setup = Setup::before(&upstream).upstream(RECOVERY);
    let without = with_route(setup.again(), false, "");
    let mut daemon = with_route(setup, true, "").start().await;
    let ask = Ask::events("/events").header("x-mcp-auth-credential", "second");
    let mut stream = opened(&daemon, Way::Tcp(Http::One), ask).await;
    let first = next(&pipes, 0).await;
    first.send("id: 1\nretry: 1\n\n").await;
    stream.until("\n\n").await;
    daemon.reload().await;
    first.cut().await;
    let second = next(&pipes, 1).await;
    second.send("data: b\n\n").await;
    assert_eq!(stream.until("\n\n").await, "data: b\n\n");
    assert_eq!(upstream.last().header("x-api-key-id"), Some(SECOND_ID));
    let written = without.config();
    daemon.reload_with(|setup| setup.written(&written)).await;
    second.cut().await;
    assert!(stream.end().await.1.is_err());
    assert_eq!(pipes.len(), 2);
}

#[tokio::test]
async fn a_stream_ends_with_the_right_to_it() {
    let upstream = Upstream::https();
    let pipes = upstream.streams_at("/events");
    let uid = nix::unistd::getuid();
    let token = |token| format!("tokens = {{ ci = {{ file = {token:?} }} }}");
    let setup = || {
        let setup = Setup::before(&upstream).upstream(RECOVERY);
        setup.file("token", "hush-the-token-of-ci");
        setup.file("other", "hush-another-token-of-ci");
        setup
    };
    for (name, before, after) in [
        ("nothing", ("", ""), ("", "")),
        ("route", ("", ""), ("deny", "")),
        ("listener", ("", ""), ("", "deny")),
        ("policy", ("policy a", ""), ("policy b", "")),
        ("token", ("", "token"), ("", "other")),
        ("same token", ("", "token"), ("", "token")),
    ] {
        let make = |of: (&str, &str), base: Setup| {
            let route = match of.0 {
                "deny" => format!("deny = {{ users = [\"{uid}\"] }}"),
                "policy a" => "[[route.policy]]\ntools = { deny = [\"a\"] }".to_owned(),
                "policy b" => "[[route.policy]]\ntools = { deny = [\"b\"] }".to_owned(),
                _ => String::new(),
            };
            let listener = match of.1 {
                "deny" => format!("deny = {{ users = [\"{uid}\"] }}"),
                "" => String::new(),
                file => token(base.path(file)),
            };
            with_route(base, true, &route).unix_listener(&listener)
        };
        let base = setup();
        let changed = make(after, base.again());
        let daemon = make(before, base);
        let mut daemon = daemon.start().await;
        let from = pipes.len();
        let ask = Ask::events("/events").header("authorization", "Bearer hush-the-token-of-ci");
        let mut stream = opened(&daemon, Way::Unix(Http::One), ask).await;
        let first = next(&pipes, from).await;
        first.send("id: 1\nretry: 1\n\n").await;
        stream.until("\n\n").await;
        let written = changed.config();
        daemon.reload_with(|setup| setup.written(&written)).await;
        first.cut().await;
        if before == after {
            next(&pipes, from + 1).await.send("data: b\n\n").await;
            assert_eq!(stream.until("\n\n").await, "data: b\n\n", "{name}");
        } else {
            let end = within(format!("the end of {name}"), stream.end()).await;
            assert!(end.1.is_err(), "{name}");
            assert_eq!(pipes.len(), from + 1, "{name}");
        }
    }
}

#[tokio::test]
async fn the_second_key_opens_a_stream_again_where_the_first_is_refused() {
    let upstream = Upstream::https();
    upstream.expects_refusals();
    let pipes = upstream.streams_at("/events");
    let (key_id, second) = (crate::common::KEY_ID, crate::common::secrets::NEXT_SECRET);
    let setup = Setup::before(&upstream).upstream(RECOVERY);
    let file = setup.file("second", second);
    let daemon = setup
        .more(&format!(
            "[credential.key.auth-gateway.previous]\nkey_id = {key_id:?}\nsecret = {{ file = {file:?} }}"
        ))
        .start()
        .await;
    let mut stream = opened(&daemon, Way::Tcp(Http::One), Ask::events("/events")).await;
    let first = next(&pipes, 0).await;
    first.send("id: 1\nretry: 1\n\n").await;
    stream.until("\n\n").await;
    upstream.accept_only(&[(key_id, second)]);
    first.cut().await;
    next(&pipes, 1).await.send("data: b\n\n").await;
    assert_eq!(stream.until("\n\n").await, "data: b\n\n");
}
