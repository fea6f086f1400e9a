//! Killed at any moment: the next start is as clean as the first.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::common::{Daemon, Setup, Upstream};

/// Kills a daemon in the middle of `what`, then starts another in its place.
async fn survives(upstream: &Upstream, what: impl AsyncFn(&Daemon)) {
    for round in 0..6 {
        let daemon = Setup::before(upstream).start().await;
        what(&daemon).await;
        // Some microseconds to some milliseconds: each round another moment.
        tokio::time::sleep(Duration::from_micros(40 << (round * 2))).await;
        daemon.signal(Signal::SIGKILL);
        let setup = daemon.setup.again();
        drop(daemon);
        let next = setup.start().await;
        assert_eq!(next.get("/").await.status, 200);
        let said = next.text();
        assert!(!said.contains("\"level\":\"error\""), "{said}");
    }
}

#[tokio::test]
async fn killed_while_it_starts_it_starts_the_next_time() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    for round in 0..8 {
        let daemon = Daemon::spawn(setup.again());
        tokio::time::sleep(Duration::from_millis(round * 4)).await;
        daemon.signal(Signal::SIGKILL);
    }
    let next = setup.start().await;
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
