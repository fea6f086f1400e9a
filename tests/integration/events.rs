//! Streams of events: kept alive, made up where there is none, rewritten where they lead around us.

use std::time::{Duration, Instant};

use crate::common::{Ask, Daemon, Http, Opened, Setup, Upstream, Way};

async fn opened(daemon: &Daemon, way: Way, ask: Ask) -> Opened {
    daemon.client(way).await.open(ask).await
}

#[tokio::test]
async fn silent_streams_get_a_comment_every_fifteen_seconds_but_never_within_an_event() {
    let upstream = Upstream::https();
    upstream.says("/none", 405, &[], "");
    let daemon = Setup::before(&upstream).start().await;
    let pipes = upstream.streams_at("/events");

    let begun = Instant::now();
    let mut passing = opened(&daemon, Way::Tcp(Http::One), Ask::events("/events")).await;
    let passing_pipe = pipes.find_after(0, "the first stream", |_| true).await;
    let mut within_event = opened(&daemon, Way::Tcp(Http::Two), Ask::events("/events")).await;
    let within_pipe = pipes.find_after(1, "the second stream", |_| true).await;
    let mut local = opened(&daemon, Way::Unix(Http::One), Ask::events("/none")).await;

    passing_pipe.send("data: 1\n\n").await;
    passing.until("data: 1\n\n").await;
    // The first may be an `endpoint` event until it is complete: this is the second.
    within_pipe.send("data: 0\n\ndata: ha").await;
    within_event.until("ha").await;
    local.until(":ok\n\n").await;

    let (first, second) = tokio::join!(
        async {
            let text = passing.until(":keepalive\n\n").await;
            (text, begun.elapsed())
        },
        async {
            let text = local.until(":keepalive\n\n").await;
            (text, begun.elapsed())
        },
    );
    for (text, after) in [first, second] {
        assert_eq!(text, ":keepalive\n\n");
        let expected = Duration::from_millis(14_500)..Duration::from_secs(18);
        assert!(expected.contains(&after), "{after:?}");
    }
    // Half an event has been silent as long, and nothing was put into it.
    within_pipe.send("lf\n\n").await;
    assert_eq!(within_event.until("\n\n").await, "lf\n\n");
}

#[tokio::test]
async fn a_legacy_clients_get_is_given_a_stream_where_the_upstream_has_none() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    for status in [405, 501, 404] {
        upstream.says("/mcp", status, &[], "no stream here");
        for way in Way::ALL {
            for version in [None, Some("2025-11-25"), Some("2024-11-05")] {
                let mut ask = Ask::events("/mcp");
                if let Some(version) = version {
                    ask = ask.header("mcp-protocol-version", version);
                }
                let mut stream = opened(&daemon, way, ask).await;
                assert_eq!(stream.status, 200, "{way:?} {status} {version:?}");
                assert_eq!(stream.headers["content-type"], "text/event-stream");
                assert_eq!(stream.until("\n\n").await, ":ok\n\n");
            }
        }
    }
}

#[tokio::test]
async fn a_404_within_a_session_means_that_the_session_is_gone() {
    let upstream = Upstream::https();
    upstream.says("/mcp", 404, &[], "no such session");
    let daemon = Setup::before(&upstream).start().await;
    let answer = daemon
        .ask(Ask::events("/mcp").header("mcp-session-id", "gone"))
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.text()),
        (404, "no such session")
    );
    for status in [405, 501] {
        upstream.says("/mcp", status, &[], "");
        let ask = Ask::events("/mcp").header("mcp-session-id", "here");
        let mut stream = opened(&daemon, Way::Tcp(Http::One), ask).await;
        stream.until(":ok\n\n").await;
    }
}

#[tokio::test]
async fn modern_clients_and_other_requests_get_the_upstreams_own_refusal() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    for status in [404, 405, 501] {
        upstream.says("/mcp", status, &[("allow", "POST")], "refused");
        for ask in [
            Ask::events("/mcp").header("mcp-protocol-version", "2026-07-28"),
            Ask::events("/mcp").header("mcp-protocol-version", "2027-01-01"),
            // No client that asks for events.
            Ask::get("/mcp"),
            Ask::get("/mcp").header("accept", "application/json"),
            Ask::new("DELETE", "/mcp").header("accept", "text/event-stream"),
            Ask::post("/mcp", "{}"),
        ] {
            let answer = daemon.ask(ask).await;
            assert_eq!((answer.status.as_u16(), answer.text()), (status, "refused"));
        }
    }
    for status in [400, 403, 410, 500, 503] {
        upstream.says("/mcp", status, &[], "another matter");
        assert_eq!(daemon.ask(Ask::events("/mcp")).await.status, status);
    }
}

#[tokio::test]
async fn the_fallback_can_be_switched_off() {
    let upstream = Upstream::https();
    upstream.says("/mcp", 405, &[], "no");
    let setup = Setup::before(&upstream).upstream("sse_fallback = \"never\"");
    let daemon = setup.start().await;
    assert_eq!(daemon.ask(Ask::events("/mcp")).await.status, 405);
}

#[tokio::test]
async fn the_fallback_can_be_had_without_asking_the_upstream() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream).upstream("sse_fallback = \"always\"");
    let daemon = setup.start().await;
    for way in Way::ALL {
        let mut stream = opened(&daemon, way, Ask::events("/mcp")).await;
        stream.until(":ok\n\n").await;
    }
    assert_eq!(upstream.count(), 0);
    // Others than legacy clients' streams still go upstream.
    assert_eq!(daemon.post("/mcp", "{}").await.status, 200);
    let modern = Ask::events("/mcp").header("mcp-protocol-version", "2026-07-28");
    assert_eq!(daemon.ask(modern).await.status, 200);
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn a_stream_in_answer_to_a_post_ends_with_its_answer() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    let pipes = upstream.streams_at("/mcp");
    for way in Way::ALL {
        let before = pipes.len();
        let ask = Ask::post("/mcp", r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#);
        let mut stream = opened(&daemon, way, ask).await;
        let pipe = pipes.find_after(before, "the stream", |_| true).await;
        for event in [
            "data: progress 1\n\n",
            "data: progress 2\n\n",
            "data: result\n\n",
        ] {
            pipe.send(event).await;
            assert_eq!(stream.until("\n\n").await, event);
        }
        pipe.end().await;
        assert!(stream.end().await.1.is_ok());
    }
}

#[tokio::test]
async fn a_stream_that_must_not_be_touched_is_not() {
    let upstream = Upstream::https();
    // A comment would break the encoding, or the length.
    upstream.says(
        "/encoded",
        200,
        &[
            ("content-type", "text/event-stream"),
            ("content-encoding", "gzip"),
        ],
        "zipped",
    );
    upstream.says(
        "/short",
        200,
        &[("content-type", "text/event-stream")],
        "data: 1\n\n",
    );
    let daemon = Setup::before(&upstream).start().await;
    let answer = daemon.ask(Ask::events("/encoded")).await;
    assert_eq!(answer.text(), "zipped");
    let answer = daemon.ask(Ask::events("/short")).await;
    assert_eq!(answer.text(), "data: 1\n\n");
}

#[tokio::test]
async fn the_endpoint_event_of_the_oldest_transport_does_not_lead_around_the_proxy() {
    let upstream = Upstream::https();
    let origin = upstream.url();
    let daemon = Setup::before(&upstream).start().await;
    let pipes = upstream.streams_at("/sse");
    for (sent, passed) in [
        (
            format!("{origin}/messages?session=1"),
            "/messages?session=1".to_owned(),
        ),
        (
            "/messages?session=1".to_owned(),
            "/messages?session=1".to_owned(),
        ),
    ] {
        let before = pipes.len();
        let mut stream = opened(&daemon, Way::Tcp(Http::One), Ask::events("/sse")).await;
        let pipe = pipes.find_after(before, "the stream", |_| true).await;
        pipe.send(format!("event: endpoint\ndata: {sent}\n\n"))
            .await;
        let event = stream.until("\n\n").await;
        assert!(event.contains(&format!("data: {passed}\n")), "{event}");
        assert!(!event.contains(&origin), "{event}");
        // Only that event: a message may name any URL.
        let message = format!("event: message\ndata: {origin}/x\n\n");
        pipe.send(message.clone()).await;
        assert_eq!(stream.until("\n\n").await, message);
    }
}

#[tokio::test]
async fn messages_of_the_oldest_transport_are_signed_for_their_own_path() {
    let upstream = Upstream::https();
    let origin = upstream.url();
    let route = "[[route]]\npath = \"/acme/\"\nstrip_prefix = true\nupstream = \"up\"";
    let daemon = Setup::before(&upstream).more(route).start().await;
    let pipes = upstream.streams_at("/sse");
    let messages = "messages/?sessionId=a%2Db&x=%20";
    for (announced, passed) in [
        (format!("{origin}/{messages}"), format!("/acme/{messages}")),
        (format!("/{messages}"), format!("/acme/{messages}")),
        // Found from the stream's own address, which is the proxy's.
        (messages.to_owned(), messages.to_owned()),
    ] {
        let before = pipes.len();
        let mut stream = opened(&daemon, Way::Tcp(Http::One), Ask::events("/acme/sse")).await;
        let pipe = pipes.find_after(before, "the stream", |_| true).await;
        pipe.send(format!("event: endpoint\ndata: {announced}\n\n"))
            .await;
        let event = stream.until("\n\n").await;
        assert!(event.contains(&format!("data: {passed}\n")), "{event}");
        let answer = daemon.post(&format!("/acme/{messages}"), "{}").await;
        assert_eq!(answer.status, 200);
        // Its signature was verified there.
        assert_eq!(upstream.last().target, format!("/{messages}"));
    }
}

#[tokio::test]
async fn an_endpoint_has_no_second_address_and_its_client_is_told_so() {
    let upstream = Upstream::https();
    let origin = upstream.url();
    let setup = Setup::before(&upstream).endpoint(&format!("{origin}/v1/sse"));
    let daemon = setup.start().await;
    let pipes = upstream.streams_at("/v1/sse");
    let mut stream = opened(&daemon, Way::Tcp(Http::One), Ask::events("/mcp")).await;
    let pipe = pipes.find("the stream", |_| true).await;
    let event = format!("event: endpoint\ndata: {origin}/v1/messages?s=1\n\n");
    pipe.send(event).await;
    // Not around the proxy, though no route leads there.
    let event = stream.until("\n\n").await;
    assert!(event.contains("data: /v1/messages?s=1\n"), "{event}");
    let answer = daemon.post("/v1/messages?s=1", "{}").await;
    answer.assert_refused(404, "no_route");
}

#[tokio::test]
async fn every_way_of_the_sessions_passes_as_the_client_wrote_it() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"a"},{"jsonrpc":"2.0","method":"b"}]"#;
    let listen = r#"{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{}}"#;
    upstream.at("/mcp", |mut call| async move {
        let body = call.read().await?;
        let mut response = crate::common::upstream::json(body);
        let headers = response.headers_mut();
        headers.insert("mcp-session-id", "s-1".parse().unwrap());
        Ok(response)
    });
    for (ask, body) in [
        (Ask::post("/mcp", batch), batch),
        (Ask::post("/mcp", listen), listen),
        (Ask::new("DELETE", "/mcp"), ""),
        (Ask::events("/mcp").header("last-event-id", "7"), ""),
    ] {
        let ask = ask.header("mcp-session-id", "s-1");
        let answer = daemon.ask(ask).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, body));
        assert_eq!(answer.header("mcp-session-id"), Some("s-1"));
        assert_eq!(upstream.last().header("mcp-session-id"), Some("s-1"));
    }
    assert_eq!(upstream.last().header("last-event-id"), Some("7"));
}
