//! Secrets that programs print, and files that are watched.

use std::fs;
use std::os::unix::fs::symlink;

use super::{CALL, start};
use crate::common::{Daemon, Setup, Upstream, until};

fn token(upstream: &Upstream) -> String {
    upstream.last().header("authorization").unwrap().to_owned()
}

/// Asks until the upstream sees this token.
async fn until_sent(daemon: &Daemon, upstream: &Upstream, expected: &str) {
    for _ in 0..400 {
        assert_eq!(daemon.post("/mcp", CALL).await.status, 200);
        if token(upstream) == expected {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("{expected} never came; the last was {}", token(upstream));
}

const PRINTED: &str = "[credential.key.bearer]\ntoken = { command = [\"/bin/cat\", \"DIR/token\"], refresh = \"1s\" }";

#[tokio::test]
async fn what_a_program_prints_is_put_into_force_again_and_again() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    setup.file("token", "hush-one");
    let daemon = start(&upstream, setup, PRINTED).await;
    assert_eq!(daemon.post("/mcp", CALL).await.status, 200);
    assert_eq!(token(&upstream), "Bearer hush-one");
    until("the next time is told", || {
        let credential = daemon.status()["upstreams"][0]["credential"].clone();
        credential["refresh_in_seconds"].as_u64() == Some(0)
    })
    .await;
    let page = daemon.setup.run(&["status"]).stdout;
    assert!(page.contains("its program runs again in "), "{page}");
    fs::write(daemon.path("token"), "hush-two").unwrap();
    until_sent(&daemon, &upstream, "Bearer hush-two").await;
    fs::write(daemon.path("token"), "hush-three").unwrap();
    until_sent(&daemon, &upstream, "Bearer hush-three").await;
}

#[tokio::test]
async fn a_program_that_fails_leaves_the_last_good_value_and_says_so_everywhere() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    setup.file("token", "hush-one");
    let daemon = start(&upstream, setup, PRINTED).await;
    fs::remove_file(daemon.path("token")).unwrap();
    until("the failure shows", || {
        daemon.status()["failing_secrets"][0].is_object()
    })
    .await;
    assert_eq!(daemon.post("/mcp", CALL).await.status, 200);
    assert_eq!(token(&upstream), "Bearer hush-one");
    let entry = daemon.status()["failing_secrets"][0].clone();
    assert_eq!(entry["secret"], "credential.key.bearer.token");
    assert!(
        entry["error"]
            .as_str()
            .unwrap()
            .contains("/bin/cat ended with status 1"),
        "{entry}"
    );
    let ready = daemon.get("/readyz").await;
    assert_eq!(ready.status, 200);
    assert_eq!(
        ready.json()["secrets"]["failing"][0]["secret"],
        "credential.key.bearer.token"
    );
    let failed = "mcp_auth_proxy_credential_fetches_total{credential=\"key\",outcome=\"failure\"}";
    assert!(daemon.metric(failed) >= 1.0);

    // A value that is unfit is no better than none.
    fs::write(daemon.path("token"), "hush\u{1}").unwrap();
    until("the unfit value shows", || {
        let entry = daemon.status()["failing_secrets"][0].clone();
        entry["error"]
            .as_str()
            .is_some_and(|it| it.contains("no HTTP header may hold"))
    })
    .await;
    fs::write(daemon.path("token"), "hush-two").unwrap();
    until_sent(&daemon, &upstream, "Bearer hush-two").await;
    assert!(daemon.status()["failing_secrets"][0].is_null());
}

#[tokio::test]
async fn check_runs_programs_too_and_a_failing_one_is_a_configuration_error() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    let config = super::config(&upstream, PRINTED);
    let setup = setup.written(&config);
    let ended = setup.run(&["check"]);
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(
        ended.stderr.contains("credential.key.bearer.token.command"),
        "{ended:?}"
    );
    assert!(
        ended.stderr.contains("/bin/cat ended with status 1"),
        "{ended:?}"
    );
    setup.file("token", "hush-one");
    assert_eq!(setup.run(&["check"]).code, Some(0));
}

#[tokio::test]
async fn a_watched_file_that_is_replaced_is_read_again() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    setup.file("token", "hush-one");
    let watched = "[credential.key.bearer]\ntoken = { file = \"DIR/token\", watch = true }";
    let daemon = start(&upstream, setup, watched).await;
    until_sent(&daemon, &upstream, "Bearer hush-one").await;
    for token in ["hush-two", "hush-three"] {
        replace(&daemon, token);
        until_sent(&daemon, &upstream, &format!("Bearer {token}")).await;
    }
}

/// As editors and secret managers do it: written elsewhere, and renamed.
fn replace(daemon: &Daemon, token: &str) {
    daemon.setup.file("token.new", token);
    fs::rename(daemon.path("token.new"), daemon.path("token")).unwrap();
}

#[tokio::test]
async fn a_watched_file_that_is_replaced_as_the_daemon_starts_is_read_again() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    setup.file("token", "hush-one");
    let watched = "[credential.key.bearer]\ntoken = { file = \"DIR/token\", watch = true }";
    let daemon = start(&upstream, setup, watched).await;
    // At once: before the daemon may have had a first look.
    replace(&daemon, "hush-two");
    until_sent(&daemon, &upstream, "Bearer hush-two").await;
}

#[tokio::test]
async fn a_watched_file_behind_links_that_are_swapped_is_read_again() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    let generation = |name: &str, token: &str| {
        fs::create_dir(setup.path(name)).unwrap();
        setup.file(&format!("{name}/token"), token);
    };
    // As Kubernetes mounts a secret: token -> ..data/token, ..data -> ..2026_1.
    generation("..2026_1", "hush-one");
    generation("..2026_2", "hush-two");
    symlink("..2026_1", setup.path("..data")).unwrap();
    symlink("..data/token", setup.path("token")).unwrap();
    let watched = "[credential.key.bearer]\ntoken = { file = \"DIR/token\", watch = true }";
    let daemon = start(&upstream, setup, watched).await;
    until_sent(&daemon, &upstream, "Bearer hush-one").await;
    symlink("..2026_2", daemon.path("..data_tmp")).unwrap();
    fs::rename(daemon.path("..data_tmp"), daemon.path("..data")).unwrap();
    until_sent(&daemon, &upstream, "Bearer hush-two").await;
}
