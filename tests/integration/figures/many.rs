//! Many tenants: 1,000 routes and 200 credentials behind 50 sockets.

use std::fmt::Write;
use std::time::{Duration, Instant};

use super::{mib, note};
use crate::common::process::is_release;
use crate::common::{Ask, Client, Daemon, Http, SECRET, Setup, Upstream, admin};

const SOCKETS: usize = 50;
const ROUTES_EACH: usize = 20;
const CREDENTIALS: usize = 200;

/// A debug build computes about so much slower.
fn milliseconds(promised: u64) -> Duration {
    Duration::from_millis(promised * if is_release() { 1 } else { 8 })
}

/// Each upstream has a credential of its own; each socket has routes of its own.
fn tenants(upstream: &Upstream) -> Setup {
    let setup = Setup::before(upstream);
    let (url, dir) = (upstream.url(), setup.dir().display().to_string());
    let mut toml = format!("[admin]\nunix = \"{dir}/admin.sock\"\n");
    for n in 0..CREDENTIALS {
        setup.file(&format!("secret-{n}"), SECRET);
        let _ = write!(
            toml,
            "[upstream.u{n}]\nurl = \"{url}\"\ncredential = \"c{n}\"\n\
             [credential.c{n}.auth-gateway]\nkey_id = \"id-{n}\"\n\
             secret = {{ file = \"{dir}/secret-{n}\" }}\n"
        );
    }
    for socket in 0..SOCKETS {
        let _ = writeln!(toml, "[[listener]]\nunix = \"{dir}/{socket}.sock\"");
        for route in 0..ROUTES_EACH {
            let upstream = (socket * ROUTES_EACH + route) % CREDENTIALS;
            let _ = writeln!(
                toml,
                "[[listener.route]]\npath = \"/service-{route}/\"\nstrip_prefix = true\n\
                 upstream = \"u{upstream}\""
            );
        }
    }
    setup.written(&toml)
}

/// From its start to its being ready.
async fn started(setup: Setup) -> (Daemon, Duration) {
    let daemon = setup.start().await;
    let ready = daemon
        .notified
        .find("READY=1", |notice| notice.says("READY=1"))
        .await;
    let took = ready.at - daemon.started;
    (daemon, took)
}

#[tokio::test]
async fn a_thousand_routes_on_fifty_sockets_start_and_reload_fast_and_are_small() {
    let upstream = Upstream::http();
    let keys: Vec<_> = (0..CREDENTIALS).map(|n| format!("id-{n}")).collect();
    let accepted: Vec<_> = keys.iter().map(|key| (key.as_str(), SECRET)).collect();
    upstream.accept_only(&accepted);
    // Other tests share the processor: the best of several is what the daemon needs.
    let (mut daemon, mut start) = started(tenants(&upstream)).await;
    for _ in 0..4 {
        let again = daemon.setup.again();
        assert!(daemon.stop().await.success());
        drop(daemon);
        let (next, took) = started(again).await;
        (daemon, start) = (next, start.min(took));
    }
    let reloads = (0..5).map(|_| {
        let begun = Instant::now();
        let answer = admin::ask(&daemon.admin_socket(), "POST", "/-/reload").unwrap();
        assert_eq!(answer.0, 200, "{answer:?}");
        begun.elapsed()
    });
    let reload = reloads.min().unwrap();
    for socket in 0..SOCKETS {
        let mut client = Client::unix(&daemon.path(&format!("{socket}.sock")), Http::One).await;
        for route in 0..ROUTES_EACH {
            let ask = Ask::get(&format!("/service-{route}/mcp"));
            assert_eq!(client.ask(ask).await.status, 200);
            let key = format!("id-{}", (socket * ROUTES_EACH + route) % CREDENTIALS);
            assert_eq!(upstream.last().header("x-api-key-id"), Some(key.as_str()));
        }
    }
    let resident = daemon.proc_status("VmRSS");
    note(
        "start with 1,000 routes on 50 sockets",
        format!("{start:?}"),
    );
    note("reload of the same", format!("{reload:?}"));
    note("KiB after a request over each of them", resident);
    assert!(start < milliseconds(300), "{start:?}");
    assert!(reload < milliseconds(200), "{reload:?}");
    assert!(resident < mib(40), "{resident} KiB");
}
