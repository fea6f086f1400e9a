//! Killed at any moment: the next start is as clean as the first.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::common::{Daemon, Setup, Upstream};

/// Moments that are tried of each.
const ROUNDS: usize = 12;

/// A moment up to some milliseconds away, more often a near one.
async fn moment() {
    let within = 1 << fastrand::u32(4..15);
    tokio::time::sleep(Duration::from_micros(fastrand::u64(0..within))).await;
}

/// What a daemon's directory holds that was killed and followed by another.
fn assert_nothing_half_made(daemon: &Daemon) {
    let names = fs::read_dir(daemon.setup.dir()).unwrap();
    let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    // Such as the directory where a socket gets ready.
    assert_eq!(names.find(|name| name.starts_with('.')), None);
}

async fn is_clean(next: &Daemon) {
    assert_eq!(next.get("/").await.status, 200);
    let said = next.text();
    assert!(!said.contains("\"level\":\"error\""), "{said}");
    assert_nothing_half_made(next);
}

/// Kills a daemon in the middle of `what`, then starts another in its place.
async fn survives(setup: &Setup, what: impl AsyncFn(&mut Daemon)) {
    for _ in 0..ROUNDS {
        let mut daemon = setup.again().start().await;
        what(&mut daemon).await;
        moment().await;
        daemon.signal(Signal::SIGKILL);
        let setup = daemon.setup.again();
        drop(daemon);
        is_clean(&setup.start().await).await;
    }
}

#[tokio::test]
async fn killed_while_it_starts_it_starts_the_next_time() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    for _ in 0..2 * ROUNDS {
        let daemon = Daemon::spawn(setup.again());
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..40_000))).await;
        daemon.signal(Signal::SIGKILL);
    }
    is_clean(&setup.start().await).await;
}

#[tokio::test]
async fn killed_while_it_reloads_it_starts_the_next_time() {
    let upstream = Upstream::https();
    survives(&Setup::before(&upstream), async |daemon| {
        daemon.signal(Signal::SIGHUP);
    })
    .await;
}

#[tokio::test]
async fn killed_while_it_drains_it_starts_the_next_time() {
    let upstream = Upstream::https();
    survives(&Setup::before(&upstream), async |daemon| {
        daemon.signal(Signal::SIGTERM);
    })
    .await;
}

#[tokio::test]
async fn killed_while_its_secret_is_replaced_it_starts_the_next_time() {
    let upstream = Upstream::https();
    survives(&Setup::before(&upstream), async |daemon| {
        let next = daemon.setup.file("secret.next", crate::common::SECRET);
        daemon.signal(Signal::SIGHUP);
        fs::rename(next, daemon.path("secret")).unwrap();
    })
    .await;
}

#[tokio::test]
async fn killed_while_its_watched_secret_is_written_anew_it_starts_the_next_time() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    let config = setup.config();
    let secret = format!("{:?}", setup.path("secret"));
    let setup = setup.written(&config.replace(&secret, &format!("{secret}, watch = true")));
    survives(&setup, async |daemon| {
        // In place, as an editor may do it: for a moment it is empty.
        fs::write(daemon.path("secret"), "").unwrap();
        moment().await;
        daemon.setup.file("secret", crate::common::SECRET);
    })
    .await;
}

#[tokio::test]
async fn killed_while_its_sockets_are_replaced_it_starts_the_next_time() {
    let upstream = Upstream::https();
    survives(&Setup::before(&upstream), async |daemon| {
        let another = format!("[[listener]]\nunix = {:?}", daemon.path("another.sock"));
        daemon.change(|setup| setup.more(&another));
        daemon.signal(Signal::SIGHUP);
        moment().await;
        // A second one is started beside it, as a careless restart does, and may not have them.
        let mut second = daemon.setup.command(&["serve"]);
        let mut second = second.stderr(std::process::Stdio::null()).spawn().unwrap();
        moment().await;
        second.kill().unwrap();
        second.wait().unwrap();
    })
    .await;
}

#[tokio::test]
async fn killed_while_its_audit_file_is_rotated_it_starts_the_next_time_and_no_record_is_torn() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    let (current, rotated) = (setup.path("audit.log"), setup.path("audit.log.1"));
    let setup = setup.more(&format!("[audit]\nfile = {current:?}"));
    survives(&setup, async |daemon| {
        let asking = (0..8).map(|_| daemon.get("/"));
        futures_util::future::join_all(asking).await;
        fs::rename(&current, &rotated).unwrap();
        daemon.signal(Signal::SIGHUP);
    })
    .await;
    // One that was killed may not have recorded anything; this one has to.
    let mut last = setup.again().start().await;
    assert_eq!(last.get("/").await.status, 200);
    last.stop().await;
    let both = [rotated, current].map(|file| fs::read_to_string(file).unwrap());
    let text = both.concat();
    assert!(
        both.iter().all(|it| it.is_empty() || it.ends_with('\n')),
        "{text}"
    );
    assert!(!both[1].is_empty());
    for line in text.lines() {
        serde_json::from_str::<Value>(line).unwrap();
    }
}
