//! A client of a stdio bridge: one conversation, many pings, one after the other.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use crate::Outcome;
use crate::tally::Times;

#[derive(Args)]
pub struct Options {
    #[arg(long, default_value_t = 500)]
    pings: u64,
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

struct Bridge {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

pub fn run(options: &Options) -> Outcome {
    let began = Instant::now();
    let mut bridge = Bridge::start(&options.command)?;
    let result = bridge.converse(options.pings, began);
    bridge.child.kill()?;
    bridge.child.wait()?;
    println!("{}", result?);
    Ok(())
}

impl Bridge {
    fn start(command: &[String]) -> Result<Self, Box<dyn std::error::Error>> {
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let input = child.stdin.take().ok_or("no stdin")?;
        let output = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        Ok(Self {
            child,
            input,
            output,
        })
    }

    fn converse(
        &mut self,
        pings: u64,
        began: Instant,
    ) -> Result<Value, Box<dyn std::error::Error>> {
        let client = json!({ "name": "bench", "version": "1" });
        let hello =
            json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client });
        self.call(0, "initialize", hello)?;
        let started = began.elapsed();
        let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        writeln!(self.input, "{initialized}")?;
        // The first ones find caches cold and connections closed.
        for id in 1..=20 {
            self.call(id, "ping", json!({}))?;
        }
        let mut times = Times::default();
        for id in 0..pings {
            let began = Instant::now();
            self.call(100 + id, "ping", json!({}))?;
            times.add(began.elapsed().as_nanos() as u64);
        }
        Ok(json!({
            "start_ms": started.as_secs_f64() * 1e3,
            "us": times.told(),
            "rss_kib": self.resident()?,
        }))
    }

    fn call(&mut self, id: u64, method: &str, params: Value) -> Outcome {
        let call = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        writeln!(self.input, "{call}")?;
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line)? == 0 {
                return Err("the bridge ended".into());
            }
            let answer: Value = serde_json::from_str(&line)?;
            if answer["id"] == id {
                return match answer.get("result") {
                    Some(_) => Ok(()),
                    None => Err(line.into()),
                };
            }
        }
    }

    fn resident(&self) -> Result<u64, Box<dyn std::error::Error>> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let size = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(size.ok_or("no VmRSS")?.parse()?)
    }
}
