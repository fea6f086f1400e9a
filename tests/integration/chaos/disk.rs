//! Disks that are full or may not be written to.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::common::apart::{does, is_apart};
use crate::common::{Ask, Http, Setup, Upstream, Way, until};

/// A file system of 64 KiB, in the mounts of this test alone.
fn small_disk(at: PathBuf) -> PathBuf {
    fs::create_dir(&at).unwrap();
    does(&format!(
        "mount -t tmpfs -o size=64k tmpfs {}",
        at.display()
    ));
    at
}

/// Writes until nothing more fits.
fn fill(disk: &Path) -> PathBuf {
    let ballast = disk.join("ballast");
    let _ = fs::write(&ballast, vec![0; 128 * 1024]);
    ballast
}

#[tokio::test]
async fn a_full_disk_under_its_log_holds_up_nobody_and_the_log_goes_on_when_there_is_room() {
    if !is_apart(
        module_path!(),
        "a_full_disk_under_its_log_holds_up_nobody_and_the_log_goes_on_when_there_is_room",
    ) {
        return;
    }
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    let disk = small_disk(setup.path("disk"));
    let log = disk.join("log");
    let mut command = setup.command(&["serve"]);
    command.stderr(
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap(),
    );
    command.stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let socket = setup.path("proxy.sock");
    until("it listens", || socket.exists()).await;
    let ballast = fill(&disk);
    let mut client = crate::common::Client::unix(&socket, Http::One).await;
    for _ in 0..200 {
        assert_eq!(client.ask(Ask::get("/during")).await.status, 200);
    }
    fs::remove_file(ballast).unwrap();
    let ask = Ask::get("/after").header("x-request-id", "there-is-room-again");
    assert_eq!(client.ask(ask).await.status, 200);
    until("it is logged", || {
        fs::read_to_string(&log)
            .unwrap()
            .contains("there-is-room-again")
    })
    .await;
    crate::common::secrets::assert_none("the log", &fs::read_to_string(&log).unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn a_full_disk_under_its_audit_file_loses_no_record_silently_over_a_reload() {
    if !is_apart(
        module_path!(),
        "a_full_disk_under_its_audit_file_loses_no_record_silently_over_a_reload",
    ) {
        return;
    }
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    let disk = small_disk(setup.path("disk"));
    let file = disk.join("audit.log");
    let daemon = setup
        .more(&format!(
            "[audit]\nfile = {file:?}\non_failure = \"refuse\""
        ))
        .start()
        .await;
    assert_eq!(daemon.get("/").await.status, 200);
    let ballast = fill(&disk);
    let refusal = loop {
        let answer = daemon.get("/").await;
        if answer.status != 200 {
            break answer;
        }
        assert!(upstream.count() < 1000, "the disk is never full");
    };
    refusal.assert_refused(503, "audit_unavailable");
    // Neither a reload nor a new file mends it, and neither is refused for it.
    fs::rename(&file, disk.join("audit.1")).unwrap();
    daemon.reload().await;
    assert_eq!(daemon.get("/healthz").await.status, 200);
    fs::remove_file(ballast).unwrap();
    until("it goes on", || {
        daemon.metric("mcp_auth_proxy_audit_failing") == 0.0
    })
    .await;
    assert_eq!(daemon.get("/").await.status, 200);
    assert_eq!(daemon.metric("mcp_auth_proxy_audit_records_lost"), 0.0);
    let written = || {
        let of = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let all = of(&disk.join("audit.1")) + &of(&file);
        let is_sent = |record: &Value| record["outcome"] == "answered" && record["path"] == "/";
        // What a full disk cut off in the middle is there once more, and whole.
        let whole = all
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        whole.filter(is_sent).count()
    };
    until("every record of what was sent", || {
        written() == upstream.count()
    })
    .await;
}

/// The daemon writes nothing but its sockets, so a disk that is full or read-only is no matter.
#[tokio::test]
async fn with_a_read_only_disk_it_starts_reloads_and_stops_where_its_sockets_are_elsewhere() {
    if !is_apart(
        module_path!(),
        "with_a_read_only_disk_it_starts_reloads_and_stops_where_its_sockets_are_elsewhere",
    ) {
        return;
    }
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    let home = setup.path("conf.d");
    fs::create_dir(&home).unwrap();
    let config = setup.config().replace(
        &format!("{:?}", setup.path("secret")),
        &format!("{:?}", home.join("secret")),
    );
    fs::write(home.join("all.toml"), config).unwrap();
    fs::copy(setup.path("secret"), home.join("secret")).unwrap();
    let shown = home.display();
    does(&format!(
        "mount --bind {shown} {shown} && mount -o remount,bind,ro {shown}"
    ));
    assert!(fs::write(home.join("new"), "").is_err());
    let daemon = setup.without_file().start().await;
    for way in Way::ALL {
        assert_eq!(daemon.ask_by(way, Ask::get("/")).await.status, 200);
    }
    daemon.reload().await;
    assert_eq!(daemon.status()["last_reload"]["outcome"], "reloaded");

    // A socket there is refused, by start and by reload, and the old configuration goes on.
    does(&format!("mount -o remount,bind,rw {shown}"));
    let more = format!("\n[[listener]]\nunix = {:?}\n", home.join("s"));
    let config = home.join("all.toml");
    fs::write(&config, fs::read_to_string(&config).unwrap() + &more).unwrap();
    does(&format!("mount -o remount,bind,ro {shown}"));
    daemon.signal(Signal::SIGHUP);
    until("it is refused", || {
        daemon.status()["last_reload"]["outcome"] == "refused"
    })
    .await;
    let reasons = daemon.status()["last_reload"]["reasons"].to_string();
    assert!(reasons.contains("Read-only file system"), "{reasons}");
    assert_eq!(daemon.get("/").await.status, 200);
    let second = Setup::at("http://127.0.0.1:1")
        .replaced_tcp_listener(&format!("unix = {:?}", home.join("s")));
    let ended = second.run(&["serve"]);
    assert_eq!(ended.code, Some(69), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("Read-only file system"),
        "{}",
        ended.stderr
    );
}
