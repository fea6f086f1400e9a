//! The clock jumps by an hour, forth and back: for the daemon alone, by a library before the C library's.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use crate::common::{Ask, Daemon, KEY_ID, SECRET, Setup, Upstream, Way, upstream, verify};

const HOUR: i64 = 3600;
/// What a test may take that waits for no default of many seconds.
const SOON: Duration = Duration::from_secs(8);

/// Seconds by which a daemon's clock is ahead.
struct Clock(PathBuf);

impl Clock {
    /// `None` where there is no C compiler, or a binary that no library can come before.
    async fn of(setup: Setup) -> Option<(Self, Daemon)> {
        let (library, ahead) = (setup.path("clock.so"), setup.path("ahead"));
        std::fs::write(&ahead, 0_i64.to_ne_bytes()).unwrap();
        let source = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/integration/chaos/clock.c"
        );
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .args([source, "-ldl"])
            .status();
        if !compiled.is_ok_and(|status| status.success()) {
            eprintln!("skipped: no C compiler");
            return None;
        }
        let daemon = setup
            .env("LD_PRELOAD", library.to_str().unwrap())
            .env("CLOCK_AHEAD", ahead.to_str().unwrap())
            .start()
            .await;
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", daemon.pid()));
        if maps.is_ok_and(|maps| !maps.contains("clock.so")) {
            eprintln!("skipped: the binary is linked statically");
            return None;
        }
        Some((Self(ahead), daemon))
    }

    fn jump(&self, ahead: i64) {
        let file = std::fs::OpenOptions::new().write(true).open(&self.0);
        file.unwrap().write_all_at(&ahead.to_ne_bytes(), 0).unwrap();
    }
}

/// By how many seconds the last request was signed for another time than now; its signature is good.
fn signed_ahead(upstream: &Upstream) -> i64 {
    let seen = upstream.last();
    let timestamp = seen.header("x-timestamp").unwrap();
    assert_eq!(
        seen.header("x-signature").unwrap(),
        verify::sign(SECRET, &seen.method, seen.path(), timestamp)
    );
    assert_eq!(seen.header("x-api-key-id"), Some(KEY_ID));
    let of = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs() as i64
    };
    of(humantime::parse_rfc3339(timestamp).unwrap()) - of(SystemTime::now())
}

#[tokio::test]
async fn an_hour_forth_and_back_signatures_follow_at_once_and_streams_and_timers_notice_nothing() {
    for upstream in [Upstream::https(), Upstream::https_h1()] {
        upstream.takes_unsigned();
        upstream.at("/never", |_| std::future::pending());
        let events = upstream.streams_at("/events");
        let setup = Setup::before(&upstream)
            .upstream("request_timeout = \"1s\"")
            .more("[[limits.rate]]\nrequests = 1000\nper = \"1s\"");
        let Some((clock, daemon)) = Clock::of(setup).await else {
            return;
        };
        let mut listener = daemon.open(Ask::events("/events")).await;
        let event = events.find("a stream", |_| true).await;
        for ahead in [0, HOUR, 0, -HOUR, 0] {
            // In the midst of a request that is to be given up after a second, whatever the clock says.
            let begun = Instant::now();
            let mut client = daemon.client(Way::Tcp(crate::common::Http::Two)).await;
            let waiting = client.ask(Ask::post("/never", "{}"));
            let jumping = async {
                tokio::time::sleep(Duration::from_millis(200)).await;
                clock.jump(ahead);
                for way in Way::ALL {
                    assert_eq!(daemon.ask_by(way, Ask::get("/")).await.status, 200);
                    let found = signed_ahead(&upstream);
                    assert!((ahead - 3..=ahead).contains(&found), "{ahead} {found}");
                }
            };
            let (refused, ()) = tokio::join!(waiting, jumping);
            refused.assert_refused(504, "upstream_timeout");
            let took = begun.elapsed();
            assert!(
                (Duration::from_millis(950)..SOON).contains(&took),
                "{took:?}"
            );
            event.send(format!("data: {ahead} later\n\n")).await;
            listener.until(&format!("{ahead} later")).await;
            let uptime = daemon.status()["uptime_seconds"].as_u64().unwrap();
            assert!(uptime <= daemon.started.elapsed().as_secs(), "{uptime}");
            daemon.reload().await;
            assert_eq!(daemon.status()["last_reload"]["outcome"], "reloaded");
        }
    }
}

/// A gateway, which takes no signature of another time than its own.
fn strict(upstream: &Upstream) {
    upstream.at("/mcp", |call| async move {
        let signed = call.seen.header("x-timestamp").unwrap();
        let signed = humantime::parse_rfc3339(signed).unwrap();
        let now = SystemTime::now();
        let apart = now
            .duration_since(signed)
            .unwrap_or_else(|early| early.duration());
        Ok(if apart > Duration::from_secs(300) {
            upstream::unauthorized("Timestamp is expired")
        } else {
            upstream::json("{}")
        })
    });
}

#[tokio::test]
async fn while_the_clock_is_wrong_the_gateways_refusal_names_it_and_all_goes_on_once_it_is_right() {
    let upstream = Upstream::https();
    upstream.takes_unsigned();
    strict(&upstream);
    let Some((clock, daemon)) = Clock::of(Setup::before(&upstream)).await else {
        return;
    };
    for ahead in [HOUR, -HOUR] {
        assert_eq!(daemon.get("/mcp").await.status, 200);
        clock.jump(ahead);
        let refused = daemon.get("/mcp").await;
        refused.assert_refused(503, "upstream_rejected_credential");
        let skew = daemon.status()["upstreams"][0]["clock_skew_seconds"].clone();
        let skew = skew.as_i64().unwrap();
        assert!((-ahead - 3..=-ahead + 3).contains(&skew), "{ahead} {skew}");
        clock.jump(0);
    }
    assert_eq!(daemon.get("/mcp").await.status, 200);
}

#[tokio::test]
async fn with_the_upstreams_clock_no_request_fails_for_a_jump() {
    let upstream = Upstream::https();
    upstream.takes_unsigned();
    strict(&upstream);
    let setup = Setup::before(&upstream).upstream("clock = \"upstream\"");
    let Some((clock, daemon)) = Clock::of(setup).await else {
        return;
    };
    for ahead in [0, HOUR, -HOUR, 0] {
        clock.jump(ahead);
        for _ in 0..3 {
            assert_eq!(daemon.get("/mcp").await.status, 200, "{ahead}");
            let found = signed_ahead(&upstream);
            assert!((-5..=5).contains(&found), "{ahead} {found}");
        }
    }
}
