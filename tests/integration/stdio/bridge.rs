//! The bridge as a child process, driven as an MCP client drives it; its stdout may hold MCP alone.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::common::journal::Journal;
use crate::common::{Daemon, process, secrets, within};

pub struct Bridge {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Arc<Journal<Arc<str>>>,
    answered: usize,
}

/// How it ended, and all that it said.
pub struct Ended {
    pub code: Option<i32>,
    pub lines: Vec<Arc<str>>,
    pub stderr: String,
}

impl Ended {
    /// It ended well and had nothing to complain of, but for what it had to do about the session.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        secrets::assert_none("the bridge's stderr", &self.stderr);
    }
}

impl Bridge {
    pub fn to(daemon: &Daemon, args: &[&str]) -> Self {
        let socket = daemon.socket();
        let socket = ["--socket", socket.to_str().unwrap()];
        Self::launch(daemon.setup.dir(), &[&socket, args].concat())
    }

    pub fn launch(home: &Path, args: &[&str]) -> Self {
        let mut child = Command::from(process::command(home))
            .arg("stdio")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let lines = Arc::new(Journal::default());
        let of_reader = Arc::clone(&lines);
        tokio::spawn(async move {
            let mut line = String::new();
            while stdout.read_line(&mut line).await.unwrap() > 0 {
                assert_message(&line);
                of_reader.push(Arc::from(line.trim_end_matches('\n')));
                line.clear();
            }
        });
        Self {
            stdin: child.stdin.take(),
            child,
            lines,
            answered: 0,
        }
    }

    pub async fn send(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(line.as_bytes()).await.unwrap();
        stdin.write_all(b"\n").await.unwrap();
        stdin.flush().await.unwrap();
    }

    pub async fn ask(&mut self, id: &str, method: &str) {
        self.send(&format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{}}}}"#
        ))
        .await;
    }

    /// The handshake of the revisions up to 2025-11-25.
    pub async fn initialize(&mut self) {
        self.ask("\"opening\"", "initialize").await;
        self.answer("\"opening\"").await;
        self.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
            .await;
    }

    /// The answer with exactly this id, and no answer that was returned before.
    pub async fn answer(&mut self, id: &str) -> Arc<str> {
        let start = if id == "null" { self.answered } else { 0 };
        let answer = self
            .lines
            .find_after(start, format!("an answer to {id}"), |line| {
                id_of(line).as_deref() == Some(id)
            })
            .await;
        if id == "null" {
            self.answered = self.lines.len();
        }
        let count = self
            .lines
            .all()
            .iter()
            .filter(|line| id_of(line).as_deref() == Some(id))
            .count();
        assert!(count == 1 || id == "null", "{count} answers to {id}");
        answer
    }

    pub async fn error(&mut self, id: &str, code: &str) {
        let answer = self.answer(id).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["error"]["data"]["code"], code, "{answer}");
    }

    /// What it takes of memory now.
    pub fn resident_kib(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub async fn end(mut self) -> Ended {
        drop(self.stdin.take());
        self.ended().await
    }

    pub async fn stop(self, signal: Signal) -> Ended {
        let pid = Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap());
        kill(pid, signal).unwrap();
        self.ended().await
    }

    async fn ended(mut self) -> Ended {
        let mut stderr = String::new();
        let reading = self.child.stderr.take().unwrap();
        within(
            "the bridge ended",
            BufReader::new(reading).read_to_string(&mut stderr),
        )
        .await
        .unwrap();
        let status = within("the bridge ended", self.child.wait()).await.unwrap();
        Ended {
            code: status.code(),
            lines: self.lines.all(),
            stderr,
        }
    }
}

/// The id of an answer, as it stands; `null` for none.
fn id_of(line: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        id: Option<&'a RawValue>,
        method: Option<String>,
    }
    let answer: Answer<'_> = serde_json::from_str(line).ok()?;
    let id = answer.id.map_or("null", RawValue::get).to_owned();
    answer.method.is_none().then_some(id)
}

fn assert_message(line: &str) {
    assert!(line.ends_with('\n'), "unfinished: {line}");
    let value: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    let is_message = |one: &Value| {
        let has = |name: &str| one.get(name).is_some();
        one["jsonrpc"] == "2.0" && (one["method"].is_string() || has("result") || has("error"))
    };
    match value.as_array() {
        Some(batch) => assert!(!batch.is_empty() && batch.iter().all(is_message), "{line}"),
        None => assert!(is_message(&value), "no message: {line}"),
    }
}
