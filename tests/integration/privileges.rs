//! A daemon that root starts is root no longer than its sockets take.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::User;

use crate::common::secrets::NEXT_SECRET;
use crate::common::user::{self, can_be_others};
use crate::common::{Ask, Daemon, Http, KEY_ID, Setup, Upstream, Way, until};

const AS_NOBODY: &str = "[server]\nuser = \"nobody\"";

fn nobody() -> User {
    User::from_name("nobody").unwrap().unwrap()
}

fn give(path: &Path) {
    let nobody = nobody();
    chown(path, Some(nobody.uid.as_raw()), Some(nobody.gid.as_raw())).unwrap();
}

/// The directory and all in it belong to the user that the daemon is to become.
pub fn give_to_nobody(setup: &Setup) {
    setup.write();
    give(setup.dir());
    for entry in fs::read_dir(setup.dir()).unwrap() {
        give(&entry.unwrap().path());
    }
}

/// What `/proc/PID/task/TID/status` says after this name, in all threads.
fn of_each_thread(daemon: &Daemon, name: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    let of = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let words: Vec<_> = line.split_whitespace().collect();
        Some(words.join(" "))
    };
    tasks.filter_map(|task| of(task.unwrap())).collect()
}

/// A port that root alone may open, where the system has such.
fn low_port() -> Option<u16> {
    let is_low = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .is_ok_and(|first| first.trim() == "1024");
    let mut ports = (600..1024).rev().filter(|_| is_low);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
}

#[tokio::test]
async fn root_is_given_up_by_every_thread_once_the_sockets_are_open() {
    if !can_be_others() {
        return;
    }
    let upstream = Upstream::https();
    let port = low_port();
    let setup = Setup::before(&upstream);
    let made = setup.path("made");
    let more = format!(
        "workers = 3\n[[listener]]\nunix = \"{}/by/root.sock\"\n[[listener]]\ntcp = \"127.0.0.1:{}\"",
        made.display(),
        port.unwrap_or(0)
    );
    let setup = setup.more(AS_NOBODY).more(&more);
    give_to_nobody(&setup);
    let mut daemon = setup.start().await;
    let (uid, gid) = (nobody().uid.as_raw(), nobody().gid.as_raw());
    let expected = [
        ("Uid:", format!("{uid} {uid} {uid} {uid}")),
        ("Gid:", format!("{gid} {gid} {gid} {gid}")),
        ("Groups:", gid.to_string()),
        ("CapInh:", "0".repeat(16)),
        ("CapPrm:", "0".repeat(16)),
        ("CapEff:", "0".repeat(16)),
        ("CapBnd:", "0".repeat(16)),
        ("CapAmb:", "0".repeat(16)),
    ];
    for (name, expected) in expected {
        let found = of_each_thread(&daemon, name);
        assert!(found.len() > 3, "{found:?}");
        assert!(found.iter().all(|it| *it == expected), "{name} {found:?}");
    }
    let status = daemon.status();
    assert_eq!(status["uid"], uid);
    assert_eq!(status["gid"], gid);
    assert_eq!(status["sandbox"]["privileges"], "in force");
    for way in Way::ALL {
        assert_eq!(daemon.ask_by(way, Ask::get("/")).await.status, 200);
    }
    assert!(!daemon.text().contains("a reload will be refused"));

    // Sockets, secrets and permissions over reloads: each as if root had never been.
    upstream.accept_only(&[(KEY_ID, NEXT_SECRET)]);
    give(&daemon.setup.file("secret", NEXT_SECRET));
    daemon.reload().await;
    let reload = daemon.status()["last_reload"].clone();
    assert_eq!(reload["outcome"], "reloaded", "{reload}");
    assert!(!daemon.text().contains("keeps its permissions"));
    if let Some(port) = port {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut client = crate::common::Client::tcp(address, Http::One).await;
        assert_eq!(client.ask(Ask::get("/")).await.status, 200);
    }
    let second = made.join("by/root.sock");
    assert_eq!(fs::symlink_metadata(&second).unwrap().uid(), uid);
    daemon.stop().await;
    assert!(!second.exists(), "in a directory that root made for it");
    assert!(!daemon.socket().exists());
}

#[tokio::test]
async fn a_daemon_that_stays_root_says_so_and_does_not_start_where_the_sandbox_is_required() {
    if !can_be_others() {
        return;
    }
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    let status = daemon.status();
    assert_eq!(status["uid"], 0);
    let why = "it runs as root; name another user in server.user";
    assert_eq!(status["sandbox"]["privileges"], why);
    daemon
        .logged("that it is root", |line| line["what"] == "privileges")
        .await;

    let required = Setup::before(&upstream).more("[server]\nsandbox = \"require\"");
    let ended = required.run(&["serve"]);
    assert_eq!(ended.code, Some(69), "{}", ended.stderr);
    assert!(ended.stderr.contains(why), "{}", ended.stderr);
}

#[tokio::test]
async fn a_file_that_only_root_may_read_is_named_at_the_start_and_by_the_reload_that_fails() {
    if !can_be_others() {
        return;
    }
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream).more(AS_NOBODY);
    give_to_nobody(&setup);
    setup.file("secret", crate::common::SECRET);
    chown(setup.path("secret"), Some(0), Some(0)).unwrap();
    let mut daemon = setup.start().await;
    let secret = daemon.path("secret").display().to_string();
    let warned = daemon
        .logged("a warning", |line| {
            line["msg"] == "a reload will be refused"
        })
        .await;
    let reason = warned["reason"].as_str().unwrap();
    assert!(reason.starts_with(&secret), "{reason}");
    daemon.reload().await;
    let reload = daemon.status()["last_reload"].clone();
    assert_eq!(reload["outcome"], "refused");
    let reasons = reload["reasons"].to_string();
    let uid = nobody().uid;
    assert!(
        reasons.contains(&format!("{secret} may not be read by uid {uid}")),
        "{reasons}"
    );
    assert_eq!(daemon.get("/").await.status, 200);

    // As the warning says, and nothing else is needed.
    give(&daemon.path("secret"));
    daemon.reload_with(|setup| setup.log_level("info")).await;
    give(&daemon.path("config.toml"));
    daemon.reload().await;
    assert_eq!(daemon.status()["last_reload"]["outcome"], "reloaded");
}

#[tokio::test]
async fn a_program_that_prints_a_secret_is_that_users_from_the_first_time_on() {
    if !can_be_others() {
        return;
    }
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream).more(AS_NOBODY);
    let said = setup.path("said");
    let script = format!(
        "echo $(id -u) $(id -g) $(id -G) $HOME $LOGNAME >>{}; cat {}",
        said.display(),
        setup.path("secret").display()
    );
    let config = setup.config().replace(
        &format!("{{ file = {:?} }}", setup.path("secret")),
        &format!("{{ command = [\"/bin/sh\", \"-c\", {script:?}], refresh = \"1s\" }}"),
    );
    // Landlock lets no program write that file.
    let setup = setup.written(&format!("{config}\nsandbox = \"off\"\n"));
    setup.file("said", "");
    give_to_nobody(&setup);
    let daemon = setup.start().await;
    crate::common::until("it was run again", || {
        fs::read_to_string(&said).unwrap().lines().count() > 1
    })
    .await;
    let said = fs::read_to_string(&said).unwrap();
    let (uid, gid) = (nobody().uid, nobody().gid);
    let expected = format!("{uid} {gid} {gid} {} nobody", nobody().dir.display());
    assert!(said.lines().all(|line| line == expected), "{said}");
    assert_eq!(daemon.get("/").await.status, 200);
}

#[tokio::test]
async fn an_audit_file_is_the_users_and_is_opened_again_by_a_reload() {
    if !can_be_others() {
        return;
    }
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream).more(AS_NOBODY);
    let audit = setup.path("audit.log");
    let setup = setup.more(&format!("[audit]\nfile = {audit:?}"));
    give_to_nobody(&setup);
    let daemon = setup.start().await;
    assert_eq!(fs::metadata(&audit).unwrap().uid(), nobody().uid.as_raw());
    fs::rename(&audit, daemon.path("audit.1")).unwrap();
    daemon.signal(Signal::SIGHUP);
    crate::common::until("it is there again", || audit.exists()).await;
    assert_eq!(daemon.get("/").await.status, 200);
    crate::common::until("it is recorded", || fs::metadata(&audit).unwrap().len() > 0).await;
}

/// A command of the binary's that nobody runs.
fn by_nobody(setup: &Setup, args: &[&str]) -> Command {
    let command = setup.command(args);
    give_to_nobody(setup);
    // A directory of its own: what is built may be out of that user's reach.
    let binary = setup.path("mcp-auth-proxy");
    if fs::hard_link(command.get_program(), &binary).is_err() {
        fs::copy(command.get_program(), &binary).unwrap();
    }
    let mut by_nobody = Command::new(&binary);
    by_nobody.args(command.get_args()).env_clear();
    by_nobody.current_dir(setup.dir());
    by_nobody.uid(nobody().uid.as_raw());
    by_nobody.gid(nobody().gid.as_raw());
    by_nobody
}

/// As nobody, who may not become anybody.
#[test]
fn who_is_not_root_becomes_nobody_else_and_is_told_so() {
    if !can_be_others() {
        return;
    }
    let setup = Setup::at("http://127.0.0.1:1").more("[server]\nuser = \"1\"\ngroup = \"1\"");
    let ended = crate::common::process::run(&mut by_nobody(&setup, &["serve"]));
    assert_eq!(ended.code, Some(77), "{}", ended.stderr);
    let expected = "server.user is uid 1 with gid 1, and only root can become that";
    assert!(ended.stderr.contains(expected), "{}", ended.stderr);
}

#[tokio::test]
async fn another_process_of_the_same_user_sees_neither_memory_nor_environment() {
    if !can_be_others() {
        return;
    }
    let setup = Setup::at("http://127.0.0.1:1");
    let mut daemon = by_nobody(&setup, &["serve"]);
    let mut daemon = daemon.stderr(Stdio::null()).spawn().unwrap();
    let (uid, gid) = (nobody().uid.as_raw(), nobody().gid.as_raw());
    let mut control = Command::new("sleep");
    let mut control = control.arg("60").uid(uid).gid(gid).spawn().unwrap();
    until("it listens", || setup.path("proxy.sock").exists()).await;
    let groups = &[];
    let other = user::User { uid, gid, groups };
    let sees = |pid: u32| {
        other.runs(|| {
            ["environ", "maps"].map(|file| fs::read(format!("/proc/{pid}/{file}")).is_ok())
        })
    };
    let seen = (sees(control.id()), sees(daemon.id()));
    for child in [&mut control, &mut daemon] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(seen, ([true, true], [false, false]));
}

#[tokio::test]
async fn a_limit_of_connections_beyond_the_descriptors_is_warned_of() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream).descriptors(256);
    let more = setup.again().more("[limits]\nmax_connections = 100");
    let daemon = more.start().await;
    let warned = daemon
        .logged("a warning", |line| line["msg"] == "too few descriptors")
        .await;
    let reason = warned["reason"].as_str().unwrap();
    // Two listeners, two descriptors each, and 64 of its own.
    assert!(reason.contains("may take 464 descriptors"), "{reason}");
    assert!(reason.contains("may have 256"), "{reason}");
    drop(daemon);
    let fewer = setup.more("[limits]\nmax_connections = 40").start().await;
    assert!(!fewer.text().contains("too few descriptors"));
}
