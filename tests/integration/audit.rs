//! The record of each request, apart from the log.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::{Ask, Daemon, Http, Setup, Upstream, Way, until};

fn audited(setup: Setup, more: &str) -> Setup {
    let file = setup.path("audit.log");
    setup.more(&format!("[audit]\nfile = {file:?}\n{more}"))
}

fn records(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    complete
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect()
}

/// The only record of this request.
async fn record_of(path: &Path, id: &str) -> Value {
    let found = || {
        let all = records(path);
        all.into_iter()
            .filter(|record| record["request_id"] == id)
            .collect::<Vec<_>>()
    };
    until("a record", || !found().is_empty()).await;
    let mut found = found();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[tokio::test]
async fn each_request_leaves_one_record_of_who_asked_what_and_what_became_of_it() {
    let upstream = Upstream::https();
    let route = "[[route]]\npath = \"/\"\nupstream = \"up\"\n[[route]]\npath = \"/not/\"\nupstream = \"up\"\nallow = { users = [\"4294967294\"] }\n";
    // Behind the daemon's own walls no other process can be looked at.
    let setup = audited(Setup::before(&upstream), "").more(route);
    let setup = setup.more("[server]\nsandbox = \"off\"");
    let daemon = setup.start().await;
    let path = daemon.path("audit.log");
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}"#;
    for (id, way) in [("unix", Way::Unix(Http::One)), ("tcp", Way::Tcp(Http::Two))] {
        let ask = Ask::post("/mcp?secret=1", call).header("x-request-id", id);
        assert_eq!(daemon.ask_by(way, ask).await.status, 200);
        let record = record_of(&path, id).await;
        for (field, value) in [
            ("method", "POST"),
            ("path", "/mcp"),
            ("mcp_method", "tools/call"),
            ("mcp_name", "echo"),
            ("upstream", "up"),
            ("credential", "key"),
            ("verdict", "permitted"),
            ("outcome", "answered"),
        ] {
            assert_eq!(record[field], value, "{record}");
        }
        assert_eq!(record["status"], 200, "{record}");
        if cfg!(target_os = "linux") {
            assert_eq!(
                record["peer_uid"],
                nix::unistd::getuid().as_raw(),
                "{record}"
            );
        }
        if id == "unix" {
            let own = std::env::current_exe().unwrap();
            assert_eq!(record["peer_executable"], own.to_str().unwrap(), "{record}");
            assert_eq!(
                record["listener"],
                daemon.socket().to_str().unwrap(),
                "{record}"
            );
        }
    }
    let refused = Ask::get("/not/mcp").header("x-request-id", "refused");
    daemon
        .ask(refused)
        .await
        .assert_refused(403, "peer_forbidden");
    let record = record_of(&path, "refused").await;
    assert_eq!(
        (&record["verdict"], &record["error_code"]),
        (&"refused".into(), &"peer_forbidden".into())
    );
    assert!(
        record["cause"].as_str().unwrap().contains("config.toml:"),
        "{record}"
    );
    // Neither is the log in the audit, nor the audit in the log.
    assert!(
        records(&path)
            .iter()
            .all(|record| record["msg"] == "request")
    );
    assert!(!daemon.text().contains("verdict"));
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_file_that_was_renamed_is_made_anew_by_a_reload_and_no_record_is_missing() {
    let upstream = Upstream::https();
    let daemon = audited(Setup::before(&upstream), "").start().await;
    let (path, old) = (daemon.path("audit.log"), daemon.path("audit.log.1"));
    let ask = |id: &str| daemon.ask(Ask::get("/mcp").header("x-request-id", id));
    ask("1").await;
    record_of(&path, "1").await;
    fs::rename(&path, &old).unwrap();
    ask("2").await;
    record_of(&old, "2").await;
    daemon.reload().await;
    ask("3").await;
    record_of(&path, "3").await;
    assert_eq!(records(&old).len(), 2);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_stops_the_start_and_refuses_a_reload() {
    let upstream = Upstream::https();
    let bad = "[audit]\nfile = \"/nonexistent/audit.log\"\n";
    let mut failed = Daemon::spawn(Setup::before(&upstream).more(bad));
    let (code, text) = crate::common::daemon::ended_with(&mut failed).await;
    assert_eq!(code, Some(69), "{text}");
    assert!(
        text.contains("the audit file /nonexistent/audit.log cannot be written"),
        "{text}"
    );

    let mut daemon = Setup::before(&upstream).start().await;
    daemon.reload_with(|setup| setup.more(bad)).await;
    let reason = daemon.status()["last_reload"]["reasons"][0].to_string();
    assert!(reason.contains("/nonexistent/audit.log"), "{reason}");
    assert_eq!(daemon.get("/mcp").await.status, 200);
}

/// A file system that is soon full; gone when dropped.
struct Small(PathBuf);

impl Small {
    #[cfg(target_os = "linux")]
    fn mount(at: PathBuf) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        let output = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
            .arg(&at)
            .output();
        output.ok()?.status.success().then_some(Self(at))
    }

    #[cfg(not(target_os = "linux"))]
    fn mount(_: PathBuf) -> Option<Self> {
        None
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
    }
}

#[tokio::test]
async fn while_a_full_disk_takes_no_records_nothing_is_sent_and_later_none_is_missing() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    let Some(disk) = Small::mount(setup.path("disk")) else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    let (path, ballast) = (disk.0.join("audit.log"), disk.0.join("ballast"));
    let audit = format!("[audit]\nfile = {path:?}\non_failure = \"refuse\"\n");
    let daemon = setup.more(&audit).start().await;
    assert_eq!(daemon.get("/mcp").await.status, 200);
    until("its record", || records(&path).len() == 1).await;
    // It takes what there is.
    let _ = fs::write(&ballast, vec![0; 128 * 1024]);
    let mut served = 1;
    let refusal = loop {
        let answer = daemon.get("/mcp").await;
        if answer.status != 200 {
            break answer;
        }
        served += 1;
        assert!(served < 1000, "the disk is never full");
    };
    refusal.assert_refused(503, "audit_unavailable");
    assert_eq!(upstream.count(), served);
    assert_eq!(daemon.metric("mcp_auth_proxy_audit_failing"), 1.0);
    // It is alive.
    assert_eq!(daemon.get("/healthz").await.status, 200);
    daemon
        .logged("that it fails", |line| {
            line["msg"]
                .as_str()
                .is_some_and(|text| text.starts_with("the audit stream cannot"))
        })
        .await;
    fs::remove_file(&ballast).unwrap();
    until("it is written again", || {
        daemon.metric("mcp_auth_proxy_audit_failing") == 0.0
    })
    .await;
    assert_eq!(daemon.get("/mcp").await.status, 200);
    let answered = |record: &&Value| record["path"] == "/mcp" && record["outcome"] == "answered";
    let sent = || records(&path).iter().filter(answered).count();
    until("every record", || sent() == served + 1).await;
    assert_eq!(daemon.metric("mcp_auth_proxy_audit_records_lost"), 0.0);
}
