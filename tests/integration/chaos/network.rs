//! Names that are gone or lead elsewhere, and an interface that is taken away.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::common::apart::{does, is_apart};
use crate::common::{Ask, Http, Setup, Upstream, Way, until};

/// What a test may take that waits for no default of many seconds.
const SOON: Duration = Duration::from_secs(8);

/// Connections are soon opened anew, and nothing stands between a failure and the next attempt.
const SHORT_LIVED: &str = "max_connection_age = \"300ms\"\nrequest_timeout = \"3s\"\n\
     breaker = { failures = 1000000, failure_percent = 100, patience = \"1h\" }";

/// The only names there are, in the mounts of this test alone; nobody answers for others.
struct Names {
    hosts: PathBuf,
    _dir: tempfile::TempDir,
}

impl Names {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (hosts, servers) = (dir.path().join("hosts"), dir.path().join("resolv.conf"));
        for (file, known) in [(&hosts, "/etc/hosts"), (&servers, "/etc/resolv.conf")] {
            fs::write(file, "").unwrap();
            does(&format!("mount --bind {} {known}", file.display()));
        }
        Self { hosts, _dir: dir }
    }

    /// In place, as the mount is of this file.
    fn are(&self, text: &str) {
        fs::write(&self.hosts, text).unwrap();
    }
}

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

#[tokio::test]
async fn without_dns_what_is_connected_goes_on_and_the_rest_is_told_and_goes_on_with_it() {
    if !is_apart(
        module_path!(),
        "without_dns_what_is_connected_goes_on_and_the_rest_is_told_and_goes_on_with_it",
    ) {
        return;
    }
    let names = Names::new();
    names.are("127.0.0.1 localhost mcp.test");
    let upstream = Upstream::http();
    let events = upstream.streams_at("/events");
    let url = format!("http://mcp.test:{}/", upstream.port());
    let setup = || Setup::at(&url).upstream(SHORT_LIVED);
    let daemon = setup().start().await;
    let mut listener = daemon.open(Ask::events("/events")).await;
    let event = events.find("a stream", |_| true).await;
    assert_eq!(daemon.get("/").await.status, 200);

    names.are("");
    tokio::time::sleep(Duration::from_millis(400)).await;
    for way in Way::ALL {
        let begun = Instant::now();
        let refused = daemon.ask_by(way, Ask::get("/")).await;
        refused.assert_refused(502, "upstream_dns");
        assert!(begun.elapsed() < SOON);
    }
    event.send("data: still here\n\n").await;
    listener.until("still here").await;
    // Neither a reload nor a start needs the name.
    daemon.reload().await;
    assert_eq!(daemon.status()["last_reload"]["outcome"], "reloaded");
    let second = setup().start().await;
    let refused = second.get("/").await;
    refused.assert_refused(502, "upstream_dns");
    let seen = second.status()["upstreams"][0]["error"].to_string();
    assert!(seen.contains("cannot resolve mcp.test"), "{seen}");

    names.are("127.0.0.1 mcp.test");
    for daemon in [&daemon, &second] {
        until_served(daemon).await;
    }
}

async fn until_served(daemon: &crate::common::Daemon) {
    let begun = Instant::now();
    while daemon.get("/").await.status != 200 {
        assert!(begun.elapsed() < SOON, "{}", daemon.status()["upstreams"]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_upstream_that_moves_is_followed_without_a_word() {
    if !is_apart(
        module_path!(),
        "an_upstream_that_moves_is_followed_without_a_word",
    ) {
        return;
    }
    let names = Names::new();
    names.are("127.0.0.2 mcp.test");
    let before = Upstream::http_at(at("127.0.0.2:8901"));
    let after = Upstream::http_at(at("127.0.0.3:8901"));
    // One worker, which has the connections: each of several would move in its own time.
    let setup = Setup::at("http://mcp.test:8901/").upstream(SHORT_LIVED);
    let daemon = setup.more("[server]\nworkers = 1").start().await;
    assert_eq!(daemon.get("/").await.status, 200);
    // The old one is there as long as anybody knows it, as it should be.
    names.are("127.0.0.3 mcp.test");
    until_moved(&daemon, &after).await;
    let left = before.count();
    for _ in 0..20 {
        assert_eq!(daemon.get("/").await.status, 200);
    }
    assert_eq!(before.count(), left);
    drop(before);

    // This time it is gone before its name leads elsewhere.
    drop(after);
    let refused = daemon.get("/").await;
    assert_eq!(refused.status, 502, "{refused:?}");
    let again = Upstream::http_at(at("127.0.0.4:8901"));
    names.are("127.0.0.4 mcp.test");
    until_served(&daemon).await;
    assert!(again.count() > 0);
}

/// No request fails meanwhile.
async fn until_moved(daemon: &crate::common::Daemon, upstream: &Upstream) {
    let begun = Instant::now();
    while upstream.count() == 0 {
        assert_eq!(daemon.get("/").await.status, 200);
        assert!(begun.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_interface_that_goes_and_comes_back_costs_no_more_than_the_requests_of_meanwhile() {
    if !is_apart(
        module_path!(),
        "an_interface_that_goes_and_comes_back_costs_no_more_than_the_requests_of_meanwhile",
    ) {
        return;
    }
    does("ip address add 10.99.0.1/24 dev up0");
    let upstream = Upstream::http_at(at("10.99.0.1:0"));
    let events = upstream.streams_at("/events");
    let setup = Setup::before(&upstream).upstream("request_timeout = \"1s\"");
    let daemon = setup.start().await;
    let mut listener = daemon.open(Ask::events("/events")).await;
    let event = events.find("a stream", |_| true).await;
    assert_eq!(daemon.get("/").await.status, 200);
    let descriptors = || {
        let open = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
        open.count()
    };
    let before = descriptors();

    does("ip link delete up0");
    for _ in 0..3 {
        for way in [Way::Tcp(Http::One), Way::Unix(Http::Two)] {
            let begun = Instant::now();
            let refused = daemon.ask_by(way, Ask::get("/")).await;
            assert!(
                (502..=504).contains(&refused.status.as_u16()),
                "{refused:?}"
            );
            assert!(refused.code().is_some());
            assert!(begun.elapsed() < SOON);
        }
    }
    assert_eq!(daemon.get("/healthz").await.status, 200);
    does("ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up");
    does("ip address add 10.99.0.1/24 dev up0");
    until_served(&daemon).await;
    // What the kernel kept meanwhile comes through, in the same stream.
    event.send("data: still here\n\n").await;
    listener.until("still here").await;
    drop(listener);
    until("nothing is left of it", || descriptors() <= before + 2).await;
}
