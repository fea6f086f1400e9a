//! Answers go on as they come, no faster than they are read, and end with their reader.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Response;

use crate::common::{Ask, Http, Pipe, Setup, Upstream, Way, body, until};

/// Whoever waits for the next stream of a path.
async fn next(pipes: &crate::common::journal::Journal<Pipe>, before: usize) -> Pipe {
    pipes
        .find_after(before, "the stream upstream", |_| true)
        .await
}

fn all_upstreams() -> [Upstream; 4] {
    [
        Upstream::https(),
        Upstream::https_h1(),
        Upstream::http(),
        Upstream::unix(),
    ]
}

#[tokio::test]
async fn the_head_leaves_before_the_body_and_each_piece_as_it_comes() {
    for upstream in all_upstreams() {
        let daemon = Setup::before(&upstream).start().await;
        for media_type in ["text/plain", "application/json", "text/event-stream"] {
            let pipes = upstream.streams_of(media_type, "/pieces");
            for way in Way::ALL {
                let before = pipes.len();
                let mut client = daemon.client(way).await;
                // Nothing of the body exists yet.
                let mut opened = client.open(Ask::get("/pieces")).await;
                let pipe = next(&pipes, before).await;
                for piece in ["a", "data: 1\n\n", "\n", ": half an ev", "ent\n\n"] {
                    // The next is not sent before this one has arrived, to the last byte.
                    pipe.send(piece).await;
                    assert_eq!(opened.until(&piece[piece.len() - 1..]).await, piece);
                }
                pipe.end().await;
                assert_eq!(opened.end().await.0, 0);
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_upstream_request() {
    for upstream in all_upstreams() {
        let daemon = Setup::before(&upstream).start().await;
        upstream.at("/hangs", |_| std::future::pending());
        let pipes = upstream.streams_at("/events");
        for way in Way::ALL {
            // Before the answer's head.
            let mut client = daemon.client(way).await;
            let asking = client.try_open(Ask::post("/hangs", "{}"));
            tokio::select! {
                _ = asking => panic!("nobody answers"),
                () = until("the request is upstream", || upstream.in_flight() == 1) => {}
            }
            client.leave();
            upstream.idle().await;

            // In the middle of its body.
            let before = pipes.len();
            let mut client = daemon.client(way).await;
            let opened = client.open(Ask::events("/events")).await;
            let pipe = next(&pipes, before).await;
            drop(opened);
            client.leave();
            crate::common::within("the stream upstream was given up", pipe.closed()).await;
            upstream.idle().await;
        }
    }
}

#[tokio::test]
async fn one_stream_of_several_on_a_connection_can_be_given_up_alone() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    let pipes = upstream.streams_at("/events");
    let mut client = daemon.client(Way::Tcp(Http::Two)).await;
    let first = client.open(Ask::events("/events")).await;
    let of_first = next(&pipes, 0).await;
    let mut second = client.open(Ask::events("/events")).await;
    let of_second = next(&pipes, 1).await;
    drop(first);
    crate::common::within("the first was given up", of_first.closed()).await;
    of_second.send("data: still here\n\n").await;
    second.until("still here").await;
}

#[tokio::test]
async fn a_request_that_was_given_up_is_logged_as_that() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    upstream.streams_at("/events");
    let mut client = daemon.client(Way::Tcp(Http::One)).await;
    let ask = Ask::events("/events").header("x-request-id", "given-up");
    let opened = client.open(ask).await;
    drop(opened);
    client.leave();
    let line = daemon.logged_request("given-up").await;
    assert_eq!(line["outcome"], "client_left", "{line}");
    assert_eq!(line["level"], "info");
}

#[tokio::test]
async fn a_reader_that_stops_stops_the_upstream() {
    const WHOLE: u64 = 256 * 1024 * 1024;
    for upstream in [Upstream::https(), Upstream::http()] {
        let taken = Arc::new(AtomicU64::new(0));
        let of_handler = Arc::clone(&taken);
        upstream.at("/long", move |_| {
            let body = body::long(WHOLE, &of_handler);
            std::future::ready(Ok(Response::new(body)))
        });
        let daemon = Setup::before(&upstream).start().await;
        for way in Way::ALL {
            let mut client = daemon.client(way).await;
            let before = daemon.proc_status("RssAnon");
            taken.store(0, Ordering::Relaxed);
            let opened = client.open(Ask::get("/long")).await;
            // Nothing more is taken once every buffer on the way is full.
            let mut last = u64::MAX;
            let mut same = 0;
            until("the upstream was stopped", || {
                let now = taken.load(Ordering::Relaxed);
                same = if now == last { same + 1 } else { 0 };
                last = now;
                same > 30
            })
            .await;
            assert!(
                last < WHOLE / 8,
                "{way:?}: {last} bytes were taken by nobody"
            );
            let grown = daemon.proc_status("RssAnon").saturating_sub(before);
            assert!(grown < 8 * 1024, "{way:?}: it grew by {grown} KiB");
            drop(opened);
            client.leave();
            upstream.idle().await;
        }
    }
}

#[tokio::test]
async fn an_upstream_that_does_not_read_stops_the_client() {
    for upstream in [Upstream::https(), Upstream::http()] {
        upstream.at("/hangs", |call| async move {
            // Keeps the body, and never reads it.
            let _body = call.body;
            std::future::pending().await
        });
        let setup = Setup::before(&upstream)
            .upstream("request_timeout = \"3s\"")
            .more("[server]\nread_timeout = \"60s\"");
        let daemon = setup.start().await;
        let sent = Arc::new(AtomicU64::new(0));
        let mut client = daemon.client(Way::Tcp(Http::One)).await;
        let ask = Ask::new("POST", "/hangs")
            .header("x-request-id", "stopped")
            .body(body::long(60 * 1024 * 1024, &sent));
        let mut last = u64::MAX;
        let mut same = 0;
        tokio::select! {
            _ = client.try_open(ask) => panic!("nobody answers"),
            () = until("the client was stopped", || {
                let now = sent.load(Ordering::Relaxed);
                same = if now == last { same + 1 } else { 0 };
                last = now;
                same > 30
            }) => {}
        }
        assert!(
            last < 16 * 1024 * 1024,
            "{last} bytes were taken for nobody"
        );
        client.leave();
        // Nobody reads where the client's leaving would show; the request has its deadline.
        daemon.logged_request("stopped").await;
    }
}

#[tokio::test]
async fn a_reader_that_takes_nothing_within_the_write_timeout_is_given_up() {
    let upstream = Upstream::https();
    let taken = Arc::new(AtomicU64::new(0));
    upstream.at("/long", move |_| {
        let body = body::long(256 * 1024 * 1024, &taken);
        std::future::ready(Ok(Response::new(body)))
    });
    let setup = Setup::before(&upstream).more("[server]\nwrite_timeout = \"400ms\"");
    let daemon = setup.start().await;
    for way in Way::ALL {
        let mut client = daemon.client(way).await;
        let _unread = client.open(Ask::get("/long")).await;
        upstream.idle().await;
    }
}

#[tokio::test]
async fn the_write_timeout_ends_no_stream_that_makes_progress_or_is_one_of_events() {
    let upstream = Upstream::https();
    let slow = upstream.streams_of("text/plain", "/slow");
    let events = upstream.streams_at("/events");
    let setup = Setup::before(&upstream)
        .upstream("request_timeout = \"1s\"")
        .more("[server]\nwrite_timeout = \"1s\"\nread_timeout = \"1s\"\nidle_timeout = \"1s\"");
    let daemon = setup.start().await;
    for way in Way::ALL {
        let (before_slow, before_events) = (slow.len(), events.len());
        let mut client = daemon.client(way).await;
        let mut progressing = client.open(Ask::get("/slow")).await;
        let mut other = daemon.client(way).await;
        let mut quiet = other.open(Ask::events("/events")).await;
        let (slow, events) = (
            next(&slow, before_slow).await,
            next(&events, before_events).await,
        );
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            slow.send("drop").await;
            progressing.until("drop").await;
        }
        events.send("data: at last\n\n").await;
        quiet.until("at last").await;
        slow.end().await;
        events.end().await;
        assert!(progressing.end().await.1.is_ok());
        assert!(quiet.end().await.1.is_ok());
    }
}

#[tokio::test]
async fn an_answer_may_come_before_the_request_is_whole() {
    for upstream in [Upstream::https(), Upstream::https_h1()] {
        upstream.at("/early", |call| async move {
            let (pipe, body) = body::piped();
            tokio::spawn(async move {
                pipe.send("early").await;
                let mut upload = call.body;
                while http_body_util::BodyExt::frame(&mut upload).await.is_some() {}
                pipe.send("late").await;
            });
            Ok(Response::new(body))
        });
        let daemon = Setup::before(&upstream).start().await;
        for way in Way::ALL {
            let mut client = daemon.client(way).await;
            let (pipe, upload) = body::piped();
            pipe.send("begin").await;
            let mut opened = client.open(Ask::new("POST", "/early").body(upload)).await;
            opened.until("early").await;
            pipe.send("end").await;
            drop(pipe);
            opened.until("late").await;
        }
    }
}

#[tokio::test]
async fn answers_of_every_size_arrive_whole() {
    let upstream = Upstream::https();
    for size in [0_u64, 1, 65_535, 65_536, 65_537, 3_000_000] {
        upstream.at(&format!("/{size}"), move |_| {
            let body = body::long(size, &Arc::new(AtomicU64::new(0)));
            std::future::ready(Ok(Response::new(body)))
        });
    }
    let daemon = Setup::before(&upstream).start().await;
    for way in Way::ALL {
        for size in [0_u64, 1, 65_535, 65_536, 65_537, 3_000_000] {
            let mut client = daemon.client(way).await;
            let opened = client.open(Ask::get(&format!("/{size}"))).await;
            let (read, end) = opened.end().await;
            assert!(end.is_ok() && read == size, "{way:?} {size} {read}");
        }
    }
}

#[tokio::test]
async fn connections_to_the_upstream_are_used_again() {
    for upstream in [Upstream::https(), Upstream::https_h1(), Upstream::http()] {
        let daemon = Setup::before(&upstream).start().await;
        let mut client = daemon.client(Way::Tcp(Http::One)).await;
        for _ in 0..50 {
            assert_eq!(client.ask(Ask::post("/mcp", "{}")).await.status, 200);
        }
        // One for the worker that serves the client, and one for the first look at the upstream.
        assert!(upstream.connections() <= 2, "{}", upstream.connections());
    }
}

#[tokio::test]
async fn many_requests_share_one_http2_connection() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    let mut client = daemon.client(Way::Unix(Http::Two)).await;
    let pipes = upstream.streams_of("text/plain", "/many");
    let mut opened = Vec::new();
    for _ in 0..150 {
        opened.push(client.open(Ask::get("/many")).await);
    }
    pipes.find_after(149, "all are upstream", |_| true).await;
    // Last come, first served: none waits for another.
    for (i, pipe) in pipes.all().into_iter().enumerate().rev() {
        pipe.send(format!("<{i}>")).await;
        pipe.end().await;
        let (i, answer) = (i, opened.remove(i).rest().await.unwrap());
        assert_eq!(answer.text(), format!("<{i}>"));
    }
}
