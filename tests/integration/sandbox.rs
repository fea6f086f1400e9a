//! The daemon's own walls: what is in force, what a reload may still do, and what it says where it may not.

use std::path::{Path, PathBuf};

use crate::common::secrets::NEXT_SECRET;
use crate::common::{Ask, Daemon, Http, SECRET, Setup, Upstream, Way};
use crate::privileges;

/// A directory that is neither beneath /tmp nor the daemon's own.
fn elsewhere() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn walled(upstream: &Upstream, mode: &str) -> Setup {
    let setup = Setup::before(upstream);
    let user = if mode == "require" && nix::unistd::geteuid().is_root() {
        privileges::give_to_nobody(&setup);
        "user = \"nobody\"\n"
    } else {
        ""
    };
    setup.more(&format!("[server]\n{user}sandbox = \"{mode}\""))
}

/// landlock_create_ruleset(2), asked for its version.
fn has_landlock() -> bool {
    // SAFETY: with this flag the kernel looks at no memory of ours.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, 1) > 0 }
}

/// Whether the kernel here has what `require` wants; elsewhere these tests show nothing.
async fn walls(upstream: &Upstream) -> Option<Daemon> {
    let daemon = walled(upstream, "auto").start().await;
    if daemon.status()["sandbox"]["files"] == "in force" {
        return Some(daemon);
    }
    let said = daemon.status()["sandbox"].to_string();
    crate::common::skipped(&format!("no sandbox here: {said}"), !has_landlock());
    None
}

fn write_secret(directory: &Path, secret: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = directory.join("secret");
    std::fs::write(&path, secret).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// The credential's secret comes from that file from now on.
async fn reload_from(daemon: &mut Daemon, secret: &Path) -> serde_json::Value {
    let (own, other) = (daemon.path("secret"), secret.to_owned());
    daemon
        .reload_with(|setup| {
            let config = setup.config();
            let changed = config.replace(&format!("{own:?}"), &format!("{other:?}"));
            assert_ne!(config, changed);
            setup.written(&changed)
        })
        .await;
    daemon.status()["last_reload"].clone()
}

#[tokio::test]
async fn what_is_in_force_is_shown_and_can_be_demanded() {
    let upstream = Upstream::https();
    let Some(_) = walls(&upstream).await else {
        return;
    };
    let required = walled(&upstream, "require").start().await;
    let off = walled(&upstream, "off").start().await;
    for (daemon, filter) in [(&required, 2), (&off, 0)] {
        assert_eq!(daemon.proc_status("Seccomp"), filter);
        assert_eq!(daemon.proc_status("NoNewPrivs"), u64::from(filter != 0));
        let shown = &daemon.status()["sandbox"];
        for wall in ["files", "system_calls"] {
            assert_eq!(shown[wall] == "in force", filter != 0, "{shown}");
        }
        for way in [Way::Tcp(Http::Two), Way::Unix(Http::One)] {
            assert_eq!(daemon.ask_by(way, Ask::get("/")).await.status, 200);
        }
    }
}

#[tokio::test]
async fn a_reload_behind_the_walls_reads_new_files_beside_the_old_ones_and_opens_new_sockets() {
    let upstream = Upstream::https();
    let Some(mut daemon) = walls(&upstream).await else {
        return;
    };
    // Replaced as a rotation does it: by another file of that name.
    let next = daemon.setup.file("secret.next", NEXT_SECRET);
    std::fs::rename(next, daemon.path("secret")).unwrap();
    upstream.accept_only(&[(crate::common::KEY_ID, NEXT_SECRET)]);
    std::fs::create_dir(daemon.path("new")).unwrap();
    let secret = write_secret(&daemon.path("new"), NEXT_SECRET);
    daemon.reload().await;
    assert_eq!(daemon.get("/").await.status, 200);
    let outcome = reload_from(&mut daemon, &secret).await;
    assert_eq!(outcome["outcome"], "reloaded", "{outcome}");
    let socket = daemon.path("new/second.sock");
    daemon
        .reload_with(|setup| {
            let config = setup.config();
            setup.written(&format!("{config}\n[[listener]]\nunix = {socket:?}\n"))
        })
        .await;
    let mut client = crate::common::Client::unix(&socket, Http::One).await;
    assert_eq!(client.ask(Ask::get("/")).await.status, 200);
    let stopped = daemon.stop().await;
    assert!(stopped.success());
    assert!(!socket.exists(), "it is removed behind the walls too");
}

#[tokio::test]
async fn roots_that_the_environment_names_are_trusted_wherever_they_stand() {
    let upstream = Upstream::https();
    if walls(&upstream).await.is_none() {
        return;
    }
    let elsewhere = elsewhere();
    let setup = walled(&upstream, "auto");
    let roots = elsewhere.path().join("roots.pem");
    std::fs::copy(setup.path("ca.pem"), &roots).unwrap();
    let link = setup.path("link.pem");
    std::os::unix::fs::symlink(&roots, &link).unwrap();
    let config = setup.config();
    let config = config.replace(&format!("ca_file = {:?}", setup.path("ca.pem")), "");
    let setup = setup
        .written(&config)
        .env("SSL_CERT_FILE", link.to_str().unwrap());
    let daemon = setup.start().await;
    assert_eq!(daemon.status()["sandbox"]["files"], "in force");
    assert_eq!(daemon.get("/").await.status, 200);
}

#[tokio::test]
async fn an_audit_where_the_daemon_may_not_write_is_refused_before_anything_changes() {
    let upstream = Upstream::https();
    let Some(mut daemon) = walls(&upstream).await else {
        return;
    };
    let audit = daemon.path("audit.jsonl");
    daemon
        .reload_with(|setup| {
            let config = setup.config();
            setup.written(&format!("{config}\n[audit]\nfile = {audit:?}\n"))
        })
        .await;
    let reload = daemon.status()["last_reload"].clone();
    assert_eq!(reload["outcome"], "refused", "{reload}");
    let reasons = reload["reasons"].to_string();
    assert!(reasons.contains("restart it (server.sandbox)"), "{reasons}");
}

#[tokio::test]
async fn programs_that_print_secrets_see_what_the_walls_hide_from_the_daemon() {
    let upstream = Upstream::https();
    if walls(&upstream).await.is_none() {
        return;
    }
    let elsewhere = elsewhere();
    let file = write_secret(elsewhere.path(), SECRET);
    let setup = walled(&upstream, "auto");
    let script = format!("grep -q hang {0} && sleep 600; cat {0}", file.display());
    let config = setup.config().replace(
        &format!("file = {:?}", setup.path("secret")),
        &format!("command = [\"/bin/sh\", \"-c\", {script:?}], refresh = \"1s\", timeout = \"1s\""),
    );
    let daemon = setup.written(&config).start().await;
    assert_eq!(daemon.get("/").await.status, 200);
    let sandbox = daemon.status()["sandbox"].clone();
    assert_eq!(sandbox["files"], "in force", "{sandbox}");
    assert_eq!(sandbox["secret_commands"], "outside", "{sandbox}");
    write_secret(elsewhere.path(), NEXT_SECRET);
    upstream.expects_refusals();
    upstream.accept_only(&[(crate::common::KEY_ID, NEXT_SECRET)]);
    daemon
        .logged("the new secret", |line| line["msg"] == "secret replaced")
        .await;
    assert_eq!(daemon.get("/").await.status, 200);
    assert_eq!(daemon.status()["failing_secrets"], serde_json::json!([]));
    // Nor do the walls keep the daemon from ending one.
    write_secret(elsewhere.path(), "hang");
    daemon
        .logged("the end of the program", |line| {
            let reason = line["reason"].as_str();
            reason.is_some_and(|reason| reason.contains("took longer than 1s"))
        })
        .await;
}

#[tokio::test]
async fn a_reload_that_needs_what_the_walls_hide_is_refused_and_says_that_it_takes_a_restart() {
    let upstream = Upstream::https();
    let Some(mut daemon) = walls(&upstream).await else {
        return;
    };
    let mut control = walled(&upstream, "off").start().await;
    let elsewhere = elsewhere();
    let secret = write_secret(elsewhere.path(), SECRET);
    let refused = reload_from(&mut daemon, &secret).await;
    assert_eq!(refused["outcome"], "refused");
    let reasons = refused["reasons"].to_string();
    assert!(reasons.contains("restart it (server.sandbox)"), "{reasons}");
    assert!(reasons.contains(secret.to_str().unwrap()), "{reasons}");
    assert_eq!(
        reload_from(&mut control, &secret).await["outcome"],
        "reloaded"
    );

    let socket = elsewhere.path().join("s");
    for (daemon, outcome) in [(&mut daemon, "refused"), (&mut control, "reloaded")] {
        daemon
            .reload_with(|setup| {
                let config = setup.config().replace(
                    &format!("{secret:?}"),
                    &format!("{:?}", setup.path("secret")),
                );
                setup.written(&format!("{config}\n[[listener]]\nunix = {socket:?}\n"))
            })
            .await;
        let reloaded = daemon.status()["last_reload"].clone();
        assert_eq!(reloaded["outcome"], outcome, "{reloaded}");
    }
    assert_eq!(daemon.get("/").await.status, 200);
}
