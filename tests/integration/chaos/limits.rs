//! A host that gives little: 64 descriptors, 32 MiB.

use std::io::Read;
use std::os::unix::net::UnixStream;

use futures_util::future::join_all;

use crate::common::{Ask, Http, Setup, Upstream, Way, process, until};

#[tokio::test]
async fn with_64_descriptors_it_serves_refuses_in_words_and_recovers() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).descriptors(64).start().await;
    for way in Way::ALL {
        assert_eq!(daemon.ask_by(way, Ask::get("/")).await.status, 200);
    }
    for _ in 0..2 {
        until("all are gone", || daemon.status()["connections"] == 0).await;
        let held: Vec<_> = (0..64)
            .map(|_| UnixStream::connect(daemon.socket()).unwrap())
            .collect();
        // Its own limit, half of the descriptors, comes before the system's.
        let metric = "mcp_auth_proxy_connections_refused_total";
        until("the rest is refused", || daemon.metric(metric) > 0.0).await;
        let mut one = daemon.client(Way::Tcp(Http::One)).await;
        assert_eq!(one.ask(Ask::get("/")).await.status, 200);
        let mut refused = String::new();
        let mut another = UnixStream::connect(daemon.socket()).unwrap();
        another.read_to_string(&mut refused).unwrap();
        assert!(
            refused.contains("x-mcp-auth-proxy-error: too_many_connections"),
            "{refused}"
        );
        drop((held, one));
        until("they are gone", || daemon.status()["connections"] == 0).await;
        for way in Way::ALL {
            assert_eq!(daemon.ask_by(way, Ask::get("/")).await.status, 200);
        }
    }
    assert!(!daemon.text().contains("cannot accept"));
    // More clients than descriptors at once: each is answered, with what it asked for or with no.
    let asking = (0..100).map(|_| async {
        let stream = tokio::net::UnixStream::connect(daemon.socket())
            .await
            .ok()?;
        let mut client = crate::common::Client::over_unix(stream.into_std().ok()?, Http::One).await;
        client.try_ask(Ask::get("/")).await.ok()
    });
    let answers: Vec<_> = join_all(asking).await.into_iter().flatten().collect();
    let served = answers.iter().filter(|it| it.status == 200).count();
    assert!(served > 10, "{served}");
    assert!(
        answers
            .iter()
            .all(|it| [200, 502, 503].contains(&it.status.as_u16()))
    );
    assert_eq!(daemon.get("/").await.status, 200);
}

/// What the kernel gives a debug build, which is several times as big: MiB.
fn limit() -> u64 {
    if process::is_release() { 32 } else { 96 }
}

#[tokio::test]
async fn within_32_mib_it_serves_many_at_once_and_large_bodies_and_never_needs_more() {
    let upstream = Upstream::https();
    let events = upstream.streams_at("/events");
    let setup = Setup::before(&upstream)
        .log_level("info")
        .more("[limits]\nreplay_buffer = \"64KiB\"\ncache = \"1MiB\"\n[server]\nworkers = 2");
    let daemon = setup.data_limit(limit() << 20).start().await;
    let mut listeners = Vec::new();
    for _ in 0..50 {
        listeners.push(daemon.open(Ask::events("/events")).await);
    }
    let large = vec![b'x'; 4 << 20];
    for _ in 0..3 {
        let small = (0..100).map(|_| daemon.ask(Ask::post("/", "{}")));
        let big = (0..4).map(|_| daemon.ask(Ask::post("/", large.clone())));
        let (small, big) = tokio::join!(join_all(small), join_all(big));
        assert!(small.iter().chain(&big).all(|answer| answer.status == 200));
        daemon.reload().await;
    }
    assert_eq!(events.len(), 50);
    let most = daemon.proc_status("VmHWM");
    eprintln!("at most {most} KiB resident");
    assert!(most < limit() << 10, "{most} KiB");
    drop(listeners);
    assert_eq!(daemon.get("/").await.status, 200);
}
