//! What nobody plans for: killed at any moment, no disk left, hardly a descriptor, hardly any memory.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::common::{Ask, Daemon, Setup, Upstream, within};

/// The same configuration in the same directory as before; what was there stays there.
fn again(upstream: &Upstream, before: &Daemon) -> Setup {
    let dir = before.setup.dir().display().to_string();
    Setup::before(upstream).written(&before.setup.config().replace("DIR", &dir))
}

/// Kills a daemon in the middle of `what`, then starts another in its place.
async fn survives(upstream: &Upstream, what: impl AsyncFn(&Daemon)) {
    for round in 0..6 {
        let daemon = Setup::before(upstream).start().await;
        what(&daemon).await;
        // Some microseconds to some milliseconds: each round another moment.
        tokio::time::sleep(Duration::from_micros(40 << (round * 2))).await;
        daemon.signal(Signal::SIGKILL);
        let next = again(upstream, &daemon).start().await;
        assert_eq!(next.get("/").await.status, 200);
        let said = next.text();
        assert!(!said.contains("\"level\":\"error\""), "{said}");
    }
}

#[tokio::test]
async fn killed_while_it_starts_it_starts_the_next_time() {
    let upstream = Upstream::https();
    let base = Setup::before(&upstream).start().await;
    let mut base = base;
    assert!(base.stop().await.success());
    for round in 0..8 {
        let daemon = Daemon::spawn(again(&upstream, &base));
        tokio::time::sleep(Duration::from_millis(round * 4)).await;
        daemon.signal(Signal::SIGKILL);
    }
    let next = again(&upstream, &base).start().await;
    assert_eq!(next.get("/").await.status, 200);
}

#[tokio::test]
async fn killed_while_it_reloads_it_starts_the_next_time() {
    let upstream = Upstream::https();
    survives(&upstream, async |daemon| {
        daemon.signal(Signal::SIGHUP);
    })
    .await;
}

#[tokio::test]
async fn killed_while_it_drains_it_starts_the_next_time() {
    let upstream = Upstream::https();
    survives(&upstream, async |daemon| {
        daemon.signal(Signal::SIGTERM);
    })
    .await;
}

#[tokio::test]
async fn killed_while_its_secret_is_replaced_it_starts_the_next_time() {
    let upstream = Upstream::https();
    survives(&upstream, async |daemon| {
        let next = daemon.setup.file("secret.next", crate::common::SECRET);
        daemon.signal(Signal::SIGHUP);
        std::fs::rename(next, daemon.path("secret")).unwrap();
    })
    .await;
}

#[tokio::test]
async fn with_64_descriptors_it_serves_whom_it_can_and_all_once_the_crowd_is_gone() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).descriptors(64).start().await;
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.extend(tokio::net::TcpStream::connect(daemon.address()).await.ok());
    }
    drop(crowd);
    let served = async {
        while daemon.get("/").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("it serves again", served).await;
    assert_eq!(daemon.ask(Ask::get("/readyz")).await.status, 200);
}
