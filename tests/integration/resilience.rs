//! An upstream that stumbles: what its clients notice of it, and what it notices of them.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use http::Response;
use serde_json::Value;

use crate::common::raw;
use crate::common::upstream::{Call, Outcome, echo, event_stream, json};
use crate::common::wait::until;
use crate::common::{Answer, Ask, Client, Daemon, Http, Setup, Upstream, Way, body};

const LIST: &str = r#"{"jsonrpc":"2.0","id":"l","method":"tools/list"}"#;
const CALL: &str = r#"{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"name":"t"}}"#;
const FAST: &str = "retry = { min_backoff = \"1ms\", max_backoff = \"5ms\" }";

fn unavailable(retry_after: Option<&str>) -> Outcome {
    let mut response = Response::builder().status(503);
    if let Some(value) = retry_after {
        response = response.header("retry-after", value);
    }
    Ok(response.body(body::full("not now")).unwrap())
}

/// Fails its first requests to `/x`, `fail` says how, and then answers.
fn failing(upstream: &Upstream, times: usize, fail: fn() -> Outcome) {
    let left = AtomicUsize::new(times);
    upstream.at("/x", move |_| {
        let next = |left: usize| left.checked_sub(1);
        let fails = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        std::future::ready(if fails.is_ok() {
            fail()
        } else {
            Ok(json("{}"))
        })
    });
}

async fn failing_at_first(times: usize, fail: fn() -> Outcome) -> (Upstream, Daemon) {
    let upstream = Upstream::https();
    failing(&upstream, times, fail);
    let daemon = Setup::before(&upstream).upstream(FAST).start().await;
    (upstream, daemon)
}

fn attempts(answer: &Answer) -> Option<&str> {
    answer.header("x-mcp-auth-proxy-attempts")
}

#[tokio::test]
async fn a_read_that_was_reset_is_sent_again_signed_afresh() {
    let (upstream, daemon) = failing_at_first(2, || Err(body::Cut)).await;
    let ask = Ask::post("/x", LIST).header("x-request-id", "reset-read");
    let answer = daemon.ask(ask).await;
    assert_eq!(
        (answer.status.as_u16(), attempts(&answer)),
        (200, Some("3"))
    );
    // Each signature was verified; the body and the rest of the head came along each time.
    assert_eq!(upstream.count(), 3);
    for seen in upstream.seen() {
        assert_eq!(seen.header("content-type"), Some("application/json"));
        assert_eq!(seen.header("x-request-id"), Some("reset-read"));
    }
    assert_eq!(daemon.logged_request("reset-read").await["retries"], 2);
    let counted = r#"mcp_auth_proxy_retries_total{upstream="up",outcome="reads"}"#;
    assert_eq!(daemon.metric(counted), 2.0);
}

#[tokio::test]
async fn a_call_that_was_reset_is_never_sent_again() {
    for body in [
        CALL.to_owned(),
        format!("[{LIST},{CALL}]"),
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned(),
    ] {
        let (upstream, daemon) = failing_at_first(1, || Err(body::Cut)).await;
        let answer = daemon.post("/x", &body).await;
        assert_eq!(answer.code(), Some("upstream_reset"));
        assert_eq!((upstream.count(), attempts(&answer)), (1, None));
    }
}

#[tokio::test]
async fn whoever_says_that_nothing_was_done_is_asked_again_for_anything() {
    for body in [LIST, CALL] {
        let upstream = Upstream::https_h1();
        failing(&upstream, 2, || unavailable(Some("0")));
        let daemon = Setup::before(&upstream).upstream(FAST).start().await;
        let answer = daemon.post("/x", body).await;
        assert_eq!(
            (answer.status.as_u16(), attempts(&answer)),
            (200, Some("3"))
        );
        assert_eq!(upstream.count(), 3);
        let seen = upstream.seen();
        let is_kept = seen.iter().all(|s| s.connection == seen[0].connection);
        assert!(is_kept, "the connection was not kept");
    }
}

#[tokio::test]
async fn an_answer_that_stays_the_same_is_passed_on_whole() {
    let (upstream, daemon) = failing_at_first(100, || unavailable(Some("0"))).await;
    let answer = daemon.post("/x", LIST).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (503, None));
    assert_eq!(answer.text(), "not now");
    assert_eq!(answer.header("retry-after"), Some("0"));
    assert_eq!((upstream.count(), attempts(&answer)), (5, Some("5")));
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_left_to_the_client() {
    let (upstream, daemon) = failing_at_first(1, || unavailable(Some("6"))).await;
    let answer = daemon.post("/x", LIST).await;
    assert_eq!((answer.status.as_u16(), upstream.count()), (503, 1));
}

#[tokio::test]
async fn a_call_behind_a_broken_gateway_is_not_repeated_and_a_read_is() {
    let broken = || unavailable(None);
    let (upstream, daemon) = failing_at_first(1, broken).await;
    assert_eq!(daemon.post("/x", CALL).await.status, 503);
    assert_eq!(upstream.count(), 1);
    let (upstream, daemon) = failing_at_first(1, broken).await;
    assert_eq!(daemon.post("/x", LIST).await.status, 200);
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn without_json_rpc_the_method_says_what_is_safe() {
    let cut = || Err(body::Cut);
    for (method, repeated) in [("GET", true), ("DELETE", false), ("PUT", false)] {
        let (upstream, daemon) = failing_at_first(1, cut).await;
        let answer = daemon.ask(Ask::new(method, "/x")).await;
        assert_eq!(answer.status == 200, repeated, "{method}");
        assert_eq!(upstream.count(), 1 + usize::from(repeated), "{method}");
    }
}

#[tokio::test]
async fn a_tool_that_says_it_only_reads_is_called_again_where_its_word_is_taken() {
    const TOOLS: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[
        {"name":"t","annotations":{"readOnlyHint":true}},{"name":"other"}]}}"#;
    let annotated = "retry = { tools_call = \"annotated\", max_backoff = \"100ms\" }";
    for (retry, as_events, repeated) in [
        (annotated, false, true),
        (annotated, true, true),
        (FAST, false, false),
    ] {
        let upstream = Upstream::https();
        let daemon = Setup::before(&upstream).upstream(retry).start().await;
        upstream.at("/list", move |_| {
            if !as_events {
                return std::future::ready(Ok(json(TOOLS)));
            }
            let (pipe, response) = event_stream();
            tokio::spawn(async move {
                let event = format!("data: {}\n\n", TOOLS.replace('\n', ""));
                pipe.send(event).await;
                pipe.end().await;
            });
            std::future::ready(Ok(response))
        });
        let listed = daemon.post("/list", LIST).await;
        assert!(listed.text().contains("readOnlyHint"), "{listed:?}");
        failing(&upstream, 1, || Err(body::Cut));
        assert_eq!(daemon.post("/x", CALL).await.status == 200, repeated);
        failing(&upstream, 1, || Err(body::Cut));
        let other = CALL.replace(r#""name":"t""#, r#""name":"other""#);
        assert_eq!(daemon.post("/x", &other).await.status, 502);
    }
}

#[tokio::test]
async fn a_body_too_large_to_keep_is_sent_once() {
    let upstream = Upstream::https();
    failing(&upstream, 1, || unavailable(Some("0")));
    let daemon = Setup::before(&upstream)
        .more("[limits]\nreplay_buffer = \"100B\"")
        .start()
        .await;
    let padding = " ".repeat(200);
    assert_eq!(
        daemon.post("/x", &format!("{LIST}{padding}")).await.status,
        503
    );
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_retry_never_outlasts_the_request_timeout() {
    let upstream = Upstream::https();
    failing(&upstream, 100, || unavailable(Some("1")));
    let setup = Setup::before(&upstream).upstream("request_timeout = \"900ms\"");
    let daemon = setup.start().await;
    let begun = Instant::now();
    let answer = daemon.post("/x", LIST).await;
    assert_eq!((answer.status.as_u16(), upstream.count()), (503, 1));
    assert!(begun.elapsed() < Duration::from_millis(900));
}

#[tokio::test]
async fn an_upstream_that_is_not_there_yet_is_waited_for() {
    let address = unused();
    let setup = Setup::at(&format!("http://{address}")).upstream(FAST);
    let daemon = setup.start().await;
    let mut client = daemon.client(Way::Tcp(Http::One)).await;
    let asking = tokio::spawn(async move { client.ask(Ask::post("/x", CALL)).await });
    // Not before the first attempt has failed.
    until("an attempt failed", || {
        daemon.text().contains("trying again")
    })
    .await;
    let upstream = Upstream::http_at(address);
    assert_eq!(asking.await.unwrap().status, 200);
    assert_eq!(upstream.count(), 1);
}

/// An address where nobody listens.
fn unused() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn retries_stop_where_the_budget_ends() {
    let upstream = Upstream::https();
    failing(&upstream, usize::MAX, || unavailable(Some("0")));
    let setup = Setup::before(&upstream)
        .upstream("retry = { budget_percent = 0, min_backoff = \"1ms\", max_backoff = \"1ms\" }\nbreaker = \"off\"");
    let daemon = setup.start().await;
    let mut client = daemon.client(Way::Tcp(Http::One)).await;
    for _ in 0..50 {
        client.ask(Ask::post("/x", LIST)).await;
    }
    // 100 in 10 s, whatever the share.
    assert_eq!(upstream.count(), 50 + 100);
    let refused = r#"mcp_auth_proxy_retries_total{upstream="up",outcome="over_budget"}"#;
    assert!(daemon.metric(refused) > 0.0);
}

const TRIPS_SOON: &str = r#"
retry = "off"
breaker = { failures = 3, patience = "1ms", probe_interval = "300ms" }
"#;

#[tokio::test]
async fn an_upstream_that_keeps_failing_is_left_alone_until_it_answers() {
    let upstream = Upstream::https();
    let is_down = Arc::new(AtomicBool::new(true));
    let down = Arc::clone(&is_down);
    upstream.at("/x", move |_| {
        std::future::ready(if down.load(Ordering::Relaxed) {
            unavailable(None)
        } else {
            Ok(json("{}"))
        })
    });
    let daemon = Setup::before(&upstream).upstream(TRIPS_SOON).start().await;
    for _ in 0..3 {
        assert_eq!(daemon.post("/x", CALL).await.code(), None);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let answer = daemon.post("/x", CALL).await;
    answer.assert_refused(503, "upstream_unavailable");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.json()["id"], "c");
    assert_eq!(daemon.status()["upstreams"][0]["requests"], "refusing");
    let refusing = r#"mcp_auth_proxy_upstream_refusing{upstream="up"}"#;
    assert_eq!(daemon.metric(refusing), 1.0);
    is_down.store(false, Ordering::Relaxed);
    let begun = Instant::now();
    while daemon.post("/x", CALL).await.status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    assert_eq!(upstream.count(), 4);
    assert_eq!(daemon.status()["upstreams"][0]["requests"], "passing");
    assert_eq!(daemon.metric(refusing), 0.0);
}

#[tokio::test]
async fn a_reload_that_leaves_the_upstream_as_it_is_does_not_let_requests_pass() {
    let upstream = Upstream::https();
    failing(&upstream, usize::MAX, || unavailable(None));
    let setup = Setup::before(&upstream).upstream(&TRIPS_SOON.replace("300ms", "1h"));
    let daemon = setup.start().await;
    for _ in 0..3 {
        daemon.post("/x", CALL).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    daemon.reload().await;
    daemon
        .post("/x", CALL)
        .await
        .assert_refused(503, "upstream_unavailable");
}

#[tokio::test]
async fn what_is_over_a_rate_is_told_when_to_come_back() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream).more(
        "[[limits.rate]]\nrequests = 2\nper = \"1h\"\nby = [\"peer\", \"route\", \"credential\"]",
    );
    let daemon = setup.start().await;
    for way in [Way::Tcp(Http::One), Way::Unix(Http::Two)] {
        // The user at the socket and the address of the port count apart.
        for _ in 0..2 {
            assert_eq!(daemon.ask_by(way, Ask::get("/")).await.status, 200);
        }
        let answer = daemon.ask_by(way, Ask::post("/", CALL)).await;
        answer.assert_refused(429, "rate_limited");
        assert_eq!(answer.json()["id"], "c");
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1780..=1800).contains(&wait), "{wait}");
    }
    daemon.reload().await;
    daemon.get("/").await.assert_refused(429, "rate_limited");
    assert_eq!(upstream.count(), 4);
}

#[tokio::test]
async fn calls_of_one_tool_are_counted_apart_from_all_else() {
    let upstream = Upstream::https();
    let rate = "[[limits.rate]]\nrequests = 2\nper = \"1h\"\nby = [\"tool\"]";
    let daemon = Setup::before(&upstream).more(rate).start().await;
    let other = CALL.replace(r#""name":"t""#, r#""name":"other""#);
    let batch = format!("[{CALL},{CALL}]");
    for (body, status) in [
        (CALL, 200),
        (&batch, 429),
        (CALL, 429),
        (&other, 200),
        (LIST, 200),
        (LIST, 200),
        (LIST, 200),
        ("{}", 200),
    ] {
        assert_eq!(daemon.post("/", body).await.status, status, "{body}");
    }
}

#[tokio::test]
async fn an_upstream_that_takes_few_at_a_time_gets_few_and_a_short_queue_waits() {
    let upstream = Upstream::https();
    upstream.at("/hangs", |_| std::future::pending());
    let setup = Setup::before(&upstream)
        .upstream("concurrency = { requests = 1, queue = 1, wait = \"20s\" }");
    let daemon = setup.start().await;
    let mut first = daemon.client(Way::Tcp(Http::One)).await;
    let hanging = tokio::spawn(async move { first.try_ask(Ask::get("/hangs")).await });
    upstream.arrival("/hangs").await;
    let mut others = futures_util::stream::FuturesUnordered::new();
    for _ in 0..2 {
        others.push(daemon.get("/waits"));
    }
    // One is in the queue, whichever it is; there is no room for the other.
    let refused = others.next().await.unwrap();
    refused.assert_refused(503, "upstream_busy");
    assert_eq!(upstream.count(), 1);
    hanging.abort();
    assert_eq!(others.next().await.unwrap().status, 200);
}

#[tokio::test]
async fn nobody_waits_in_the_queue_for_longer_than_the_wait() {
    let upstream = Upstream::https();
    upstream.at("/hangs", |_| std::future::pending());
    let setup =
        Setup::before(&upstream).upstream("concurrency = { requests = 1, wait = \"100ms\" }");
    let daemon = setup.start().await;
    let mut first = daemon.client(Way::Tcp(Http::One)).await;
    let hanging = tokio::spawn(async move { first.try_ask(Ask::get("/hangs")).await });
    upstream.arrival("/hangs").await;
    daemon.get("/").await.assert_refused(503, "upstream_busy");
    hanging.abort();
}

#[tokio::test]
async fn connections_over_a_limit_are_told_so_and_closed_and_others_get_in() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream).more("[limits]\nmax_connections_per_peer = 2");
    let daemon = setup.start().await;
    let address = daemon.address();
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(daemon.client(Way::Tcp(Http::One)).await);
    }
    until("both count", || {
        daemon.metric("mcp_auth_proxy_connections_open") == 2.0
    })
    .await;
    let refused = raw::exchange(address, b"").await;
    assert!(refused.contains("503"), "{refused}");
    assert!(refused.contains("x-mcp-auth-proxy-error: too_many_connections"));
    assert_eq!(
        daemon.metric("mcp_auth_proxy_connections_refused_total"),
        1.0
    );
    // Somebody else, by the user and by the address.
    let mut other = daemon.client(Way::Unix(Http::One)).await;
    assert_eq!(other.ask(Ask::get("/")).await.status, 200);
    for client in &mut held {
        assert_eq!(client.ask(Ask::get("/")).await.status, 200);
    }
    held.pop().unwrap().leave();
    until("there is room", || {
        daemon.metric("mcp_auth_proxy_connections_open") < 3.0
    })
    .await;
    let mut again = daemon.client(Way::Tcp(Http::One)).await;
    assert_eq!(again.ask(Ask::get("/")).await.status, 200);
}

/// Connects as another user of the host. Linux has users by thread.
#[cfg(target_os = "linux")]
fn connect_as(
    uid: u32,
    path: std::path::PathBuf,
) -> std::io::Result<std::os::unix::net::UnixStream> {
    std::thread::spawn(move || {
        let keep = -1_i32;
        // SAFETY: it changes the effective user of this thread alone, which ends with the call.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, keep, uid, keep) };
        assert_eq!(changed, 0, "{}", std::io::Error::last_os_error());
        std::os::unix::net::UnixStream::connect(path)
    })
    .join()
    .unwrap()
}

// Figures.

#[cfg(target_os = "linux")]
#[tokio::test]
async fn five_thousand_connections_of_one_user_do_not_keep_another_out() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("only root can be two users: not tried");
        return;
    }
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    use std::io::{Read, Write};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream)
        .unix_listener("mode = \"0666\"")
        .more("[limits]\nmax_connections = 1500\nmax_connections_per_peer = 1000")
        .log_level("info");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(setup.dir(), open).unwrap();
    let daemon = setup.start().await;
    let path = daemon.socket();
    let crowd: Vec<_> = tokio::task::spawn_blocking({
        let path = path.clone();
        move || {
            (0..5000)
                .map(|_| std::os::unix::net::UnixStream::connect(&path).unwrap())
                .collect()
        }
    })
    .await
    .unwrap();
    until("they are all looked at", || {
        daemon.metric("mcp_auth_proxy_connections_refused_total") == 4000.0
    })
    .await;
    let begun = Instant::now();
    let mut other = connect_as(65534, path).unwrap();
    other
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    other
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    other.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    println!(
        "another user is answered in {:?} while {} connections of one user are held",
        begun.elapsed(),
        crowd.len()
    );
}

/// What a stumbling upstream does, and what it has done.
#[derive(Default)]
struct World {
    is_declining: AtomicBool,
    requests: AtomicUsize,
    /// Whose answer was lost.
    cut: Mutex<HashSet<String>>,
    /// How often each call was executed.
    executed: Mutex<HashMap<String, usize>>,
}

impl World {
    /// Every twentieth answer is lost, after the work was done, but none twice.
    async fn answer(self: Arc<Self>, mut call: Call) -> Outcome {
        let body = call.read().await?;
        if self.is_declining.load(Ordering::Relaxed) {
            return unavailable(Some("1"));
        }
        let message: Value = serde_json::from_slice(&body).unwrap();
        if message["method"] == "tools/call" {
            let id = message["id"].as_str().unwrap().to_owned();
            *self.executed.lock().unwrap().entry(id).or_default() += 1;
        }
        let nth = self.requests.fetch_add(1, Ordering::Relaxed);
        let id = call.seen.header("x-request-id").unwrap().to_owned();
        if nth % 20 == 19 && self.cut.lock().unwrap().insert(id) {
            return Err(body::Cut);
        }
        Ok(json("{}"))
    }

    fn upstream(self: &Arc<Self>, address: SocketAddr) -> Upstream {
        let world = Arc::clone(self);
        let upstream = Upstream::http_at(address);
        upstream.at("/mcp", move |call| Arc::clone(&world).answer(call));
        upstream
    }
}

/// Reads and calls in turn until told to stop; returns the reads that succeeded and what the others got.
async fn agent(mut client: Client, name: usize, stop: Arc<AtomicBool>) -> (usize, Vec<String>) {
    let (mut reads, mut failures) = (0, Vec::new());
    for nth in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let answer = client.ask(Ask::post("/mcp", LIST)).await;
        match answer.status.as_u16() {
            200 => reads += 1,
            _ => failures.push(format!("{answer:?}")),
        }
        let call = CALL.replace(r#""id":"c""#, &format!(r#""id":"{name}-{nth}""#));
        client.ask(Ask::post("/mcp", call)).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (reads, failures)
}

const AGENTS: usize = 64;

#[tokio::test]
async fn agents_at_work_notice_nothing_of_hiccups_and_no_call_is_executed_twice() {
    let world = Arc::new(World::default());
    let address = unused();
    let upstream = world.upstream(address);
    let daemon = Setup::at(&format!("http://{address}"))
        .log_level("warning")
        .start()
        .await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut agents = Vec::new();
    for name in 0..AGENTS {
        let client = daemon.client(Way::Unix(Http::One)).await;
        agents.push(tokio::spawn(agent(client, name, Arc::clone(&stop))));
    }
    let pause = |ms| tokio::time::sleep(Duration::from_millis(ms));
    pause(1500).await;
    world.is_declining.store(true, Ordering::Relaxed);
    pause(2000).await;
    world.is_declining.store(false, Ordering::Relaxed);
    pause(1000).await;
    drop(upstream);
    pause(500).await;
    let _upstream = world.upstream(address);
    pause(1500).await;
    stop.store(true, Ordering::Relaxed);
    let mut reads = 0;
    for agent in agents {
        let (read, failures) = agent.await.unwrap();
        assert!(failures.is_empty(), "{failures:#?}");
        reads += read;
    }
    let executed = world.executed.lock().unwrap();
    assert!(executed.values().all(|times| *times == 1));
    assert!(executed.len() > AGENTS && reads > AGENTS);
    println!(
        "{reads} reads and {} calls by {AGENTS} agents: no read failed, no call was executed twice",
        executed.len()
    );
}

#[tokio::test]
async fn a_full_outage_is_answered_at_once_and_hardly_felt_upstream_and_over_soon() {
    let upstream = Upstream::https();
    let is_down = Arc::new(AtomicBool::new(false));
    let down = Arc::clone(&is_down);
    upstream.at("/mcp", move |_| {
        std::future::ready(if down.load(Ordering::Relaxed) {
            unavailable(None)
        } else {
            Ok(json("{}"))
        })
    });
    let daemon = Setup::before(&upstream).log_level("warning").start().await;
    let mut clients = Vec::new();
    for _ in 0..16 {
        clients.push(daemon.client(Way::Unix(Http::One)).await);
    }
    let normal = busy(&mut clients, &upstream, Duration::from_secs(2)).await;
    is_down.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    while daemon.post("/mcp", LIST).await.code() != Some("upstream_unavailable") {
        assert!(begun.elapsed() < Duration::from_secs(15));
        busy(&mut clients, &upstream, Duration::from_millis(100)).await;
    }
    let noticed = begun.elapsed();
    let outage = busy(&mut clients, &upstream, Duration::from_secs(5)).await;
    is_down.store(false, Ordering::Relaxed);
    let begun = Instant::now();
    while daemon.post("/mcp", LIST).await.status != 200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(begun.elapsed() < Duration::from_secs(2), "not back in time");
    }
    let (load, answered) = (outage.upstream / normal.upstream, outage.median);
    println!(
        "normally {:.0} requests/s upstream; open after {noticed:?}, then {:.1} requests/s ({:.2} %), \
         answers in {answered:?} (median); back after {:?}",
        normal.upstream,
        outage.upstream,
        load * 100.0,
        begun.elapsed()
    );
    assert!(answered < Duration::from_millis(5), "{answered:?}");
    assert!(load < 0.01, "{load}");
}

struct Busy {
    /// Requests that arrived upstream, a second.
    upstream: f64,
    median: Duration,
}

/// Everybody asks, each some hundred times a second at most.
async fn busy(clients: &mut [Client], upstream: &Upstream, long: Duration) -> Busy {
    let (begun, before) = (Instant::now(), upstream.count());
    let asking = clients.iter_mut().map(|client| async move {
        let mut took = Vec::new();
        while begun.elapsed() < long {
            let asked = Instant::now();
            client.ask(Ask::post("/mcp", LIST)).await;
            took.push(asked.elapsed());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        took
    });
    let mut took = futures_util::future::join_all(asking).await.concat();
    took.sort_unstable();
    Busy {
        upstream: (upstream.count() - before) as f64 / begun.elapsed().as_secs_f64(),
        median: took[took.len() / 2],
    }
}

/// Passes connections on to `upstream`: the first two at once, for one may
/// be the daemon's own look at start, the rest once `together` of them have come.
async fn gate_before(upstream: &Upstream, together: usize) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, port) = (listener.local_addr().unwrap(), upstream.port());
    let arrived = Arc::new(tokio::sync::watch::Sender::new(0));
    tokio::spawn(async move {
        let mut free = 2;
        while let Ok((mut client, _)) = listener.accept().await {
            let waits = free == 0;
            free -= i32::from(!waits);
            let arrived = Arc::clone(&arrived);
            tokio::spawn(async move {
                if waits {
                    arrived.send_modify(|count| *count += 1);
                    let mut all = arrived.subscribe();
                    all.wait_for(|count| *count >= together).await.unwrap();
                }
                let server = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
                tokio::io::copy_bidirectional(&mut client, &mut server.unwrap()).await
            });
        }
    });
    address
}

#[tokio::test]
async fn an_upstream_that_turns_out_to_speak_http1_gets_its_connections_at_once() {
    let upstream = Upstream::https_h1();
    let all = Arc::new(tokio::sync::Barrier::new(10));
    upstream.at("/slow", move |call| {
        let all = Arc::clone(&all);
        async move {
            all.wait().await;
            echo(call).await
        }
    });
    let address = gate_before(&upstream, 8).await;
    let setup = Setup::before(&upstream).upstream_url(&format!("https://{address}"));
    let setup = setup.upstream("connect_timeout = \"30s\"\nrequest_timeout = \"50s\"");
    let setup = setup.more("[server]\nworkers = 1");
    let daemon = setup.start().await;
    let asked = (0..10).map(|_| daemon.get("/slow"));
    for answer in futures_util::future::join_all(asked).await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}
