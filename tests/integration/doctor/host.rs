//! What `doctor` finds on this host: the daemon, its service, its listeners, and names with several addresses.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use serde_json::json;

use super::{Report, says, serving};
use crate::common::Setup;
use crate::common::apart::{does, is_apart};
use crate::common::process::{self, held_to_modes};
use crate::common::user::can_be_others;
use crate::privileges::give_to_nobody;

/// Says this at the admin socket to whoever asks, and hangs up.
struct Admin {
    socket: PathBuf,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    fn of(setup: &Setup, answer: String) -> Self {
        let socket = setup.path("admin.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                if seen.load(Ordering::Relaxed) {
                    return;
                }
                // Nothing to read is somebody who only looks whether one can connect.
                if stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
                    let _ = stream.write_all(answer.as_bytes());
                }
            }
        });
        Self {
            socket,
            is_over,
            thread: Some(thread),
        }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = UnixStream::connect(&self.socket);
        let _ = self.thread.take().unwrap().join();
        let _ = fs::remove_file(&self.socket);
    }
}

fn answer(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// `doctor` by a user who may do no more than modes say.
fn by_a_user(setup: &Setup) -> Report {
    let mut command = setup.command(&["doctor", "--json"]);
    held_to_modes(&mut command);
    Report::from(process::run(&mut command))
}

#[test]
fn a_daemon_that_takes_connections_and_does_not_answer_hangs() {
    let upstream = serving();
    let setup = Setup::before(&upstream);
    let silent = UnixListener::bind(setup.path("admin.sock")).unwrap();
    let report = Report::of(&setup);
    let finding = report.fails("daemon_hangs", 69);
    says(finding, "did not answer: nothing came within 5s");
    report.lacks("no_daemon");
    drop(silent);

    for (said, part) in [
        (String::new(), "did not answer"),
        (
            answer("500 Oh Dear", ""),
            "answers its status page with 500",
        ),
        (answer("200 OK", "no page"), "status page cannot be read"),
    ] {
        let setup = Setup::before(&upstream);
        let _admin = Admin::of(&setup, said);
        says(Report::of(&setup).fails("daemon_hangs", 69), part);
    }
}

#[test]
fn a_daemon_of_another_version_is_warned_about() {
    let upstream = serving();
    let setup = Setup::before(&upstream);
    let own = env!("CARGO_PKG_VERSION");
    for (version, differs) in [("0.0.1", true), (own, false)] {
        let page = json!({"version": version, "state": "ready", "pid": 1});
        let _admin = Admin::of(&setup, answer("200 OK", &page.to_string()));
        let report = Report::of(&setup);
        says(
            report.has("daemon_ok"),
            &format!("version {version} is ready"),
        );
        assert_eq!(report.finding("other_version").is_some(), differs);
        if differs {
            let finding = report.has("other_version");
            assert_eq!(finding["verdict"], "warn");
            says(finding, &format!("is 0.0.1 and this command is {own}"));
        }
    }
}

#[tokio::test]
async fn sockets_that_this_user_may_not_use_are_told_with_who_may() {
    let upstream = serving();
    let daemon = Setup::before(&upstream).start().await;
    let report = by_a_user(&daemon.setup);
    assert_eq!(report.failures(), [""; 0], "{:#}", report.page);

    set_mode(&daemon.admin_socket(), 0);
    let report = by_a_user(&daemon.setup);
    let finding = report.has("admin_forbidden");
    assert_eq!(finding["verdict"], "warn");
    says(finding, daemon.admin_socket().to_str().unwrap());
    assert_eq!(finding["next"], "sudo mcp-auth-proxy doctor");
    report.lacks("no_daemon");
    assert_eq!(report.ended.code, Some(0), "{:#}", report.page);

    set_mode(&daemon.admin_socket(), 0o600);
    set_mode(&daemon.socket(), 0);
    let report = by_a_user(&daemon.setup);
    let finding = report.fails("listener_forbidden", 77);
    says(finding, daemon.socket().to_str().unwrap());
}

#[tokio::test]
async fn a_listener_whose_socket_is_gone_while_the_daemon_runs_is_dead() {
    let upstream = serving();
    let daemon = Setup::before(&upstream).start().await;
    fs::remove_file(daemon.socket()).unwrap();
    let report = Report::of(&daemon.setup);
    let finding = report.fails("listener_dead", 69);
    says(finding, daemon.socket().to_str().unwrap());
    // The other one lives.
    says(report.has("listener_ok"), "127.0.0.1:");
}

#[tokio::test]
async fn a_daemon_of_another_user_is_named_with_how_to_become_that_user() {
    if !can_be_others() {
        return;
    }
    let upstream = serving();
    let setup = Setup::before(&upstream).more("[server]\nuser = \"nobody\"");
    give_to_nobody(&setup);
    let daemon = setup.start().await;
    let report = Report::of(&daemon.setup);
    let finding = report.has("other_user");
    assert_eq!(finding["verdict"], "warn");
    says(finding, "the daemon runs as nobody and this as root");
    assert_eq!(finding["next"], "sudo -u nobody mcp-auth-proxy doctor");

    let daemon = Setup::before(&upstream).start().await;
    Report::of(&daemon.setup).lacks("other_user");
}

#[test]
fn a_service_that_systemd_gave_up_is_named_with_where_to_read_why() {
    if !is_apart(
        module_path!(),
        "a_service_that_systemd_gave_up_is_named_with_where_to_read_why",
    ) {
        return;
    }
    // What sd_booted(3) looks at, and a systemctl that says what systemd would.
    does("mount -t tmpfs none /run && mkdir -p /run/systemd/system");
    let upstream = serving();
    let says_of_unit = |active: &str, result: &str| {
        let setup = Setup::before(&upstream);
        let script = format!(
            "#!/bin/sh\n[ \"$1 $3\" = \"show mcp-auth-proxy.service\" ] || exit 1\n\
             printf 'LoadState=loaded\\nActiveState={active}\\nResult={result}\\n'\n"
        );
        set_mode(&setup.file("systemctl", &script), 0o700);
        let path = format!(
            "{}:{}",
            setup.dir().display(),
            std::env::var("PATH").unwrap()
        );
        Report::of(&setup.env("PATH", &path))
    };
    let report = says_of_unit("failed", "exit-code");
    let finding = report.fails("service_failed", 69);
    says(finding, "systemd gave mcp-auth-proxy.service up: exit-code");
    assert_eq!(finding["next"], "journalctl -u mcp-auth-proxy -e");

    let report = says_of_unit("inactive", "success");
    says(report.has("service_ok"), "is inactive");
    report.lacks("service_failed");
}

#[test]
fn addresses_of_one_name_of_which_only_some_answer_are_listed() {
    if !is_apart(
        module_path!(),
        "addresses_of_one_name_of_which_only_some_answer_are_listed",
    ) {
        return;
    }
    let upstream = serving();
    let port = upstream.port();
    let setup = Setup::at(&format!("https://partly.test:{port}/"));
    let hosts = setup.file("hosts", "127.0.0.1 partly.test\n::1 partly.test\n");
    does(&format!("mount --bind {} /etc/hosts", hosts.display()));
    let report = Report::of(&setup);
    says(report.has("dns_ok"), "1 IPv4 and 1 IPv6");
    let finding = report.has("connect_partly");
    assert_eq!(finding["verdict"], "warn");
    says(finding, "1 of 2 addresses take connections");
    let details = finding["details"].to_string();
    assert!(
        details.contains(&format!("127.0.0.1:{port} in ")),
        "{details}"
    );
    assert!(details.contains(&format!("[::1]:{port}: ")), "{details}");
    report.lacks("connect_ok");
}
