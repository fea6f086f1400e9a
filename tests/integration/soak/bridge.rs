//! Agents that launch the stdio bridge, one for the whole time.

use std::process::Stdio;
use std::time::Instant;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::Stage;
use super::agent::{judge_refusal, text};
use super::caller::{is_result, message};
use super::ledger::Fate;
use crate::common::{Daemon, process, within};

/// Where the bridge's requests go.
const PATH: &str = "/one/";

pub struct Bridge {
    _child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Bridge {
    pub fn to(daemon: &Daemon) -> Self {
        let mut child = Command::from(process::command(daemon.setup.dir()))
            .arg("stdio")
            .arg("--socket")
            .arg(daemon.socket())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            stdin: child.stdin.take().unwrap(),
            stdout: BufReader::new(child.stdout.take().unwrap()).lines(),
            _child: child,
        }
    }

    /// The answer to `message`; notifications that come before it are passed over.
    async fn ask(&mut self, message: &str) -> String {
        self.stdin.write_all(message.as_bytes()).await.unwrap();
        self.stdin.write_all(b"\n").await.unwrap();
        loop {
            let line = within("a line of the bridge's", self.stdout.next_line()).await;
            let line = line.unwrap().expect("the bridge goes on");
            if line.contains("\"id\"") {
                return line;
            }
        }
    }
}

pub async fn calls(stage: &Stage, mut bridge: Bridge) {
    while !stage.is_over() {
        let id = stage.ledger.open();
        let text = text(id);
        let events = fastrand::bool().then(|| fastrand::u64(0..4));
        let message = message(id, &text, fastrand::u64(0..100), events);
        let began = Instant::now();
        let answer = bridge.ask(&message).await;
        if is_result(&answer, id, &text) {
            stage.ledger.count("call over stdio answered");
            stage.ledger.close(id, Fate::Answered);
        } else {
            let error: Value = serde_json::from_str(&answer).unwrap();
            if error["id"] != id {
                stage
                    .ledger
                    .problem(format!("an answer for another than {id}: {answer}"));
            }
            let code = error["error"]["data"]["code"].as_str().unwrap_or(&answer);
            let fate = judge_refusal(stage, "call over stdio", PATH, began, code);
            stage.ledger.close(id, fate);
        }
        stage.pause(1.0).await;
    }
}
