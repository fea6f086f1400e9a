//! What the way through bridge and daemon costs, in time and in work:
//!
//!     MCP_AUTH_PROXY_BIN=target/release/mcp-auth-proxy cargo test --test integration -- --ignored --nocapture costs

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use crate::common::process::{self, is_release};
use crate::common::{Daemon, Setup};

/// Each round's median is one sample: whatever else the machine does must spare one round of them.
const ROUNDS: usize = 20;
const CALLS: usize = 400;

const PROMISED: Duration = Duration::from_micros(150);
const PROMISED_KIB: u64 = 8 * 1024;

#[tokio::test]
#[ignore = "a figure, for a release build on a machine that is not busy"]
async fn the_way_through_costs_at_most_150_microseconds_and_8_mib() {
    let port = respond();
    let setup = Setup::at(&format!("http://127.0.0.1:{port}")).log_level("info");
    let daemon = setup.start().await;
    let (pid, home, socket) = (daemon.pid(), daemon.setup.dir().to_owned(), daemon.socket());
    // The daemon's log is read meanwhile.
    let (added, resident) =
        tokio::task::spawn_blocking(move || compare(port, pid, &Piped::launch(home, socket)))
            .await
            .unwrap();
    assert!(
        is_release(),
        "a debug build tells nothing; see the top of this file"
    );
    assert!(added <= PROMISED, "{added:?} more than directly");
    assert!(resident <= PROMISED_KIB, "{resident} KiB");
    stop(daemon).await;
}

async fn stop(mut daemon: Daemon) {
    assert!(daemon.stop().await.success());
}

/// By how much the median grows, and the bridge's resident memory in KiB afterwards.
fn compare(port: u16, daemon: u32, piped: &Piped) -> (Duration, u64) {
    let direct = TcpStream::connect(("127.0.0.1", port)).unwrap();
    direct.set_nodelay(true).unwrap();
    let bridge = piped.child.id();
    let (mut directly, mut through) = (Vec::new(), Vec::new());
    median(|id| piped.ask(id));
    let before = [work(bridge), work(daemon)];
    for _ in 0..ROUNDS {
        directly.push(median(|id| ask(&direct, id)));
        through.push(median(|id| piped.ask(id)));
    }
    for (name, pid, before) in [("bridge", bridge, before[0]), ("daemon", daemon, before[1])] {
        let (time, waits) = work(pid);
        let calls = (ROUNDS * CALLS) as u64;
        let (time, waits) = (
            (time - before.0) / calls,
            (waits - before.1) as f64 / calls as f64,
        );
        eprintln!("figure: {name}: {time} ns of CPU and {waits:.2} waits a call");
    }
    let (directly, through) = (
        directly.iter().min().unwrap(),
        through.iter().min().unwrap(),
    );
    let resident = status(&PathBuf::from(format!("/proc/{bridge}/status")), "VmRSS");
    eprintln!("figure: directly {directly:?}, through bridge and daemon {through:?}");
    eprintln!("figure: the bridge's resident memory {resident} KiB");
    (through.saturating_sub(*directly), resident)
}

fn median(mut call: impl FnMut(usize)) -> Duration {
    let mut times: Vec<_> = (0..CALLS)
        .map(|id| {
            let start = Instant::now();
            call(id);
            start.elapsed()
        })
        .collect();
    times.sort();
    times[CALLS / 2]
}

fn message(id: usize) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo","arguments":{{"message":"hello"}}}}}}"#
    )
}

struct Piped {
    child: Child,
    stdin: ChildStdin,
    stdout: std::cell::RefCell<BufReader<ChildStdout>>,
}

impl Piped {
    fn launch(home: PathBuf, socket: PathBuf) -> Self {
        let mut child = process::command(&home)
            .args(["stdio", "--socket"])
            .arg(socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self {
            stdin: child.stdin.take().unwrap(),
            stdout: stdout.into(),
            child,
        }
    }

    fn ask(&self, id: usize) {
        (&self.stdin)
            .write_all((message(id) + "\n").as_bytes())
            .unwrap();
        let mut line = String::new();
        self.stdout.borrow_mut().read_line(&mut line).unwrap();
        assert!(line.contains(&format!("\"id\":{id},")), "{line}");
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(mut direct: &TcpStream, id: usize) {
    let body = message(id);
    let head = format!(
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    direct.write_all((head + &body).as_bytes()).unwrap();
    let mut answer = [0; 1024];
    let length = direct.read(&mut answer).unwrap();
    assert!(answer[..length].ends_with(b"}"));
}

/// The smallest of servers: what it costs is in both figures.
fn respond() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || answer_all(stream.unwrap()));
        }
    });
    port
}

fn answer_all(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        text.extend_from_slice(&buffer[..length]);
        let request = String::from_utf8_lossy(&text);
        let Some(id) = request.strip_suffix("}}}").and_then(id_of) else {
            continue;
        };
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":"hello"}}]}}}}"#
        );
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length:";
        let answer = format!("{head} {}\r\n\r\n{body}", body.len());
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
        text.clear();
    }
}

fn id_of(request: &str) -> Option<&str> {
    Some(request.split_once("\"id\":")?.1.split_once(',')?.0)
}

/// Nanoseconds on a processor, and how often a thread went to sleep.
fn work(pid: u32) -> (u64, u64) {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let threads = threads.map(|thread| {
        let thread = thread.unwrap().path();
        let time = std::fs::read_to_string(thread.join("schedstat")).unwrap();
        let time: u64 = time.split(' ').next().unwrap().parse().unwrap();
        (
            time,
            status(&thread.join("status"), "voluntary_ctxt_switches"),
        )
    });
    threads.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

fn status(path: &std::path::Path, name: &str) -> u64 {
    let status = std::fs::read_to_string(path).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let value = line.unwrap().split_whitespace().next();
    value.unwrap().parse().unwrap()
}
