//! The daemon's own walls: what is in force, what a reload may still do, and what it says where it may not.

use std::path::{Path, PathBuf};

use crate::common::secrets::NEXT_SECRET;
use crate::common::{Ask, Daemon, Http, SECRET, Setup, Upstream, Way};

/// A directory that is neither beneath /tmp nor the daemon's own.
fn elsewhere() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn walled(upstream: &Upstream, mode: &str) -> Setup {
    Setup::before(upstream).more(&format!("[server]\nsandbox = \"{mode}\""))
}

/// Whether the kernel here has what `require` wants; elsewhere these tests show nothing.
async fn walls(upstream: &Upstream) -> Option<Daemon> {
    let daemon = walled(upstream, "auto").start().await;
    if daemon.status()["sandbox"]["files"] == "in force" {
        return Some(daemon);
    }
    eprintln!("no sandbox here: {}", daemon.status()["sandbox"]);
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
