//! What the daemon promises in numbers.
//!
//! Memory is promised for a release build, and asserted as promised when
//! `MCP_AUTH_PROXY_BIN` names one (or the tests are built as one). A debug build's
//! own code weighs more than all it serves, so it is allowed that much on top.

mod many;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::Response;
use nix::sys::signal::Signal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::common::process::is_release;
use crate::common::secrets::NEXT_SECRET;
use crate::common::{Ask, Client, Daemon, Http, SECRET, Setup, Upstream, Way, body, until, within};

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}
type BoxedStream = Box<dyn Stream>;

/// Promised memory, in KiB.
fn mib(promised: u64) -> u64 {
    const OF_DEBUG: u64 = 12;
    let allowed = if is_release() {
        promised
    } else {
        promised + OF_DEBUG
    };
    allowed * 1024
}

/// Says a figure that the reader of a passing run may want (`--nocapture`).
fn note(what: &str, figure: impl std::fmt::Display) {
    eprintln!("figure: {what}: {figure}");
}

/// Clients that ask again and again until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<tokio::task::JoinHandle<Result<(), Failed>>>,
}

/// A request without a good answer.
struct Failed {
    id: String,
    /// HTTP/2 tells its client so; then hyper does not even send it.
    may_have_come_after_the_goaway: bool,
    why: String,
}

impl Load {
    /// `count` connections, over both listeners and both protocols in turn.
    async fn start(daemon: &Daemon, count: usize) -> Self {
        let (stop, answered) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let mut clients = Vec::new();
        for i in 0..count {
            let way = Way::ALL[i % Way::ALL.len()];
            let client = daemon.client(way).await;
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            clients.push(tokio::spawn(ask_until_stopped(
                client, way, i, stop, answered,
            )));
        }
        Self {
            stop,
            answered,
            clients,
        }
    }

    fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Ends it; every failure there was.
    async fn end(self, upstream: &Upstream) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        for client in self.clients {
            failures.extend(within("a client ended", client).await.unwrap().err());
        }
        let seen = upstream.seen();
        let mut times = HashMap::new();
        for id in seen.iter().filter_map(|seen| seen.header("x-request-id")) {
            *times.entry(id).or_insert(0) += 1;
        }
        // Nothing was sent twice, and nothing answered that was not sent.
        assert!(times.values().all(|times| *times == 1), "{times:?}");
        let sent = times.keys().filter(|id| id.starts_with("load-")).count();
        assert!(sent >= self.answered.load(Ordering::Relaxed));
        let was_seen = |id: &str| times.contains_key(id);
        failures
            .into_iter()
            .filter(|failed| !failed.may_have_come_after_the_goaway || was_seen(&failed.id))
            .map(|failed| format!("{}: {}", failed.id, failed.why))
            .collect()
    }
}

/// Ends cleanly when told to, or when the proxy says that it closes the connection.
async fn ask_until_stopped(
    mut client: Client,
    way: Way,
    index: usize,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
) -> Result<(), Failed> {
    let is_http2 = matches!(way, Way::Tcp(Http::Two) | Way::Unix(Http::Two));
    for round in 0.. {
        if stop.load(Ordering::Relaxed) || client.is_closed() {
            return Ok(());
        }
        let sent = format!(r#"{{"jsonrpc":"2.0","id":{round},"method":"ping","from":{index}}}"#);
        let id = format!("load-{index}-{round}");
        let ask = Ask::post("/mcp", sent.clone()).header("x-request-id", &id);
        match client.try_ask(ask).await {
            Ok(answer) if answer.status == 200 && answer.text() == sent => {
                answered.fetch_add(1, Ordering::Relaxed);
                if answer.header("connection") == Some("close") {
                    return Ok(());
                }
            }
            // The connection was closed before the request left.
            Err(error) if error.is_canceled() => return Ok(()),
            other => {
                return Err(Failed {
                    id,
                    may_have_come_after_the_goaway: is_http2 && other.is_err(),
                    why: format!("{way:?}: {other:?}"),
                });
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_hundred_reloads_under_load_fail_nothing_and_cut_nothing() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).log_level("info").start().await;
    let pipes = upstream.streams_at("/events");
    let mut streams = Vec::new();
    for i in 0..8 {
        let mut client = daemon.client(Way::ALL[i % 4]).await;
        streams.push((client.open(Ask::events("/events")).await, client));
    }
    let load = Load::start(&daemon, 32).await;
    // What the load itself takes must be taken, or it would look like the reloads'.
    for answered in (500..=6000).step_by(500) {
        until("the load is on", || load.answered() > answered).await;
    }

    let mut memory = Vec::new();
    for round in 1..=100 {
        daemon
            .setup
            .file("secret", [SECRET, NEXT_SECRET][round % 2]);
        let before = load.answered();
        daemon.reload().await;
        // Both old and new serve requests between two reloads.
        until("requests go on", || load.answered() > before + 32).await;
        // Its own pages: those of the program come and go as the host pleases.
        memory.push(daemon.proc_status("RssAnon"));
    }
    let resident = daemon.proc_status("VmRSS");
    let answered = load.answered();
    assert_eq!(load.end(&upstream).await, Vec::<String>::new());
    for pipe in pipes.all() {
        pipe.send("data: still here\n\n").await;
    }
    for (stream, _) in &mut streams {
        stream.until("still here").await;
    }
    // That every signature was valid, the upstream asserts when it goes.
    assert_eq!(
        daemon.metric("mcp_auth_proxy_reloads_total{outcome=\"success\"}"),
        101.0
    );
    let (tenth, last) = (memory[9], memory[99]);
    note("requests answered during 100 reloads", answered);
    note(
        "KiB of its own after the tenth and the last reload",
        format!("{tenth} {last}"),
    );
    assert!(
        last.saturating_sub(tenth) * 20 <= resident,
        "{memory:?} of {resident}"
    );
}

#[tokio::test]
async fn sigterm_under_load_answers_every_request_that_was_accepted() {
    for _ in 0..3 {
        let upstream = Upstream::https();
        let mut daemon = Setup::before(&upstream).log_level("info").start().await;
        let load = Load::start(&daemon, 32).await;
        until("the load is on", || load.answered() > 500).await;
        let begun = Instant::now();
        assert!(daemon.stop().await.success());
        let took = begun.elapsed();
        assert_eq!(load.end(&upstream).await, Vec::<String>::new());
        assert!(took < Duration::from_secs(10), "{took:?}");
        note("exit under load took", format!("{took:?}"));
        // What the upstream was asked was answered to the end.
        upstream.idle().await;
    }
}

/// One request after the other, each on a connection of its own, until none can be opened.
async fn ask_anew(
    connect: impl AsyncFn() -> std::io::Result<BoxedStream>,
) -> Result<usize, String> {
    const REQUEST: &[u8] = b"GET /anew HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for answered in 0.. {
        let Ok(mut stream) = connect().await else {
            return Ok(answered);
        };
        let mut answer = String::new();
        let exchange = async {
            stream.write_all(REQUEST).await?;
            stream.read_to_string(&mut answer).await
        };
        let outcome = within("an answer", exchange).await;
        if outcome.is_err() || !answer.starts_with("HTTP/1.1 200 OK\r\n") {
            return Err(format!("request {answered}: {outcome:?} {answer:?}"));
        }
    }
    Ok(0)
}

#[tokio::test]
async fn sigterm_finds_connections_that_nobody_had_accepted_yet() {
    for _ in 0..3 {
        let upstream = Upstream::https();
        let mut daemon = Setup::before(&upstream).log_level("info").start().await;
        let (address, socket) = (daemon.address(), daemon.socket());
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(tokio::spawn(ask_anew(async move || {
                Ok(Box::new(TcpStream::connect(address).await?) as BoxedStream)
            })));
            let socket = socket.clone();
            clients.push(tokio::spawn(ask_anew(async move || {
                Ok(Box::new(UnixStream::connect(&socket).await?) as BoxedStream)
            })));
        }
        until("the load is on", || upstream.count() > 200).await;
        assert!(daemon.stop().await.success());
        for client in clients {
            let answered = within("a client ended", client).await.unwrap();
            assert!(answered.is_ok(), "{answered:?}");
        }
    }
}

#[tokio::test]
async fn a_gibibyte_down_and_64_mebibytes_up_do_not_grow_the_memory() {
    const UP: u64 = 64 * 1024 * 1024;
    // Memory that grows with a body's length shows either way; a debug build is just slower.
    let down = if is_release() { 1024 } else { 128 } * 1024 * 1024;
    let upstream = Upstream::https();
    upstream.at("/down", move |_| {
        let body = body::long(down, &Arc::new(AtomicU64::new(0)));
        std::future::ready(Ok(Response::new(body)))
    });
    upstream.at("/up", |mut call| async move {
        let mut bytes = 0;
        while let Some(frame) = http_body_util::BodyExt::frame(&mut call.body).await {
            bytes += frame
                .map_err(|_| body::Cut)?
                .into_data()
                .map_or(0, |data| data.len());
        }
        Ok(Response::new(body::full(bytes.to_string())))
    });
    let daemon = Setup::before(&upstream).log_level("info").start().await;
    let begun = Instant::now();
    let (bytes, end) = daemon.open(Ask::get("/down")).await.end().await;
    assert!(end.is_ok() && bytes == down, "{bytes} {end:?}");
    note("the way down took", format!("{:?}", begun.elapsed()));
    for media_type in ["application/json", "application/octet-stream"] {
        let ask = Ask::new("POST", "/up")
            .header("content-type", media_type)
            .body(body::long(UP, &Arc::new(AtomicU64::new(0))));
        assert_eq!(daemon.ask(ask).await.text(), UP.to_string());
    }
    let peak = daemon.proc_status("VmHWM");
    note("KiB at most with all of it down and 64 MiB up", peak);
    assert!(peak < mib(40), "{peak} KiB");
}

/// Clients and upstream share this process's descriptors.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

#[tokio::test]
async fn a_thousand_idle_event_streams_fit_into_60_mebibytes() {
    raise_descriptor_limit();
    for upstream in [Upstream::https(), Upstream::https_h1()] {
        let daemon = Setup::before(&upstream).log_level("info").start().await;
        let pipes = upstream.streams_at("/events");
        let mut streams = Vec::new();
        for i in 0..1000 {
            let way = if i % 2 == 0 {
                Way::Tcp(Http::One)
            } else {
                Way::Unix(Http::One)
            };
            let mut client = daemon.client(way).await;
            let mut stream = client.open(Ask::events("/events")).await;
            let pipe = pipes.find_after(i, "the stream", |_| true).await;
            pipe.send("data: hello\n\n").await;
            stream.until("hello").await;
            streams.push((client, stream));
        }
        let resident = daemon.proc_status("VmRSS");
        let protocol = upstream.last().version;
        note(
            "KiB with 1,000 event streams",
            format!("{resident} ({protocol:?})"),
        );
        assert_eq!(daemon.status()["event_streams"], 1000);
        assert!(resident < mib(60), "{protocol:?}: {resident} KiB");
        // They are alive.
        for (pipe, (_, stream)) in pipes.all().into_iter().zip(&mut streams).take(10) {
            pipe.send("data: again\n\n").await;
            stream.until("again").await;
        }
    }
}

/// How often the daemon's threads went to sleep of their own accord.
fn sleeps(daemon: &Daemon) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok())
        .filter_map(|status| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            line.trim().parse::<u64>().ok()
        })
        .sum()
}

#[tokio::test]
async fn idle_it_is_small_and_sleeps() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).log_level("info").start().await;
    assert_eq!(daemon.get("/").await.status, 200);
    // The first look at the upstream, and threads that end for want of work, are part of the start.
    let mut before = (sleeps(&daemon), Instant::now());
    until("the start is over", || {
        let now = sleeps(&daemon);
        if now != before.0 {
            before = (now, Instant::now());
        }
        before.1.elapsed() > Duration::from_millis(700)
    })
    .await;
    let before = sleeps(&daemon);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let woken = sleeps(&daemon) - before;
    note("wake-ups in 3 idle seconds", woken);
    assert!(woken <= 3, "{woken} wake-ups in 3 s");
    let resident = daemon.proc_status("VmRSS");
    note("KiB idle", resident);
    assert!(resident < mib(12), "{resident} KiB");
}

#[tokio::test]
async fn it_is_ready_within_50_milliseconds() {
    let upstream = Upstream::https();
    let mut best = Duration::MAX;
    // Other tests share the processor: the best of several is what the daemon needs.
    for _ in 0..10 {
        let daemon = Setup::before(&upstream).log_level("info").start().await;
        let ready = daemon
            .notified
            .find("READY=1", |notice| notice.says("READY=1"))
            .await;
        best = best.min(ready.at - daemon.started);
        if best < Duration::from_millis(50) {
            break;
        }
    }
    note("ready after", format!("{best:?}"));
    assert!(best < Duration::from_millis(50), "{best:?}");
}

#[tokio::test]
async fn a_storm_of_signals_is_survived() {
    let upstream = Upstream::https();
    let mut daemon = Setup::before(&upstream).log_level("info").start().await;
    let load = Load::start(&daemon, 8).await;
    for _ in 0..50 {
        for signal in [
            Signal::SIGHUP,
            Signal::SIGUSR1,
            Signal::SIGUSR2,
            Signal::SIGHUP,
        ] {
            daemon.signal(signal);
        }
        tokio::task::yield_now().await;
    }
    daemon.reload().await;
    assert_eq!(load.end(&upstream).await, Vec::<String>::new());
    assert!(daemon.is_running());
}
