//! Requests over kept connections: closed loop, or at a rate that a slow answer does not lower.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::task::LocalSet;

use crate::Outcome;
use crate::clock::{self, Alarm};
use crate::tally::{Faults, Times};
use crate::target::{Stream, Target};
use crate::wire::Reader;

/// No answer takes this long; whoever waits longer counts a fault instead of hanging.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Args, Clone)]
pub struct Options {
    target: Target,
    #[arg(long, default_value_t = 1)]
    connections: u64,
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// End after this many requests on each connection, whatever the time
    #[arg(long)]
    requests: Option<u64>,
    /// Requests a second over all connections; times then run from when each was due
    #[arg(long)]
    rate: Option<f64>,
    /// A connection for each request
    #[arg(long)]
    churn: bool,
    /// Asked for; `{}` stands for a number that changes from request to request
    #[arg(long, default_value = "/mcp")]
    path: String,
    /// How many numbers there are
    #[arg(long, default_value_t = 1)]
    paths: u64,
    /// Bytes to send as the body, instead of a tool call
    #[arg(long)]
    upload: Option<usize>,
    /// GET instead of POST
    #[arg(long)]
    get: bool,
}

#[derive(Default)]
struct Tally {
    times: Times,
    faults: Faults,
    bytes: u64,
}

pub async fn run(options: Options) -> Outcome {
    let tally = Rc::new(RefCell::new(Tally::default()));
    let requests: Rc<[Vec<u8>]> = (0..options.paths).map(|n| request(&options, n)).collect();
    let began = clock::now();
    let ends = began + (options.seconds * 1e9) as u64;
    let tasks = LocalSet::new();
    for index in 0..options.connections {
        let connection = Connection {
            options: options.clone(),
            requests: Rc::clone(&requests),
            index,
            began,
            ends,
        };
        let tally = Rc::clone(&tally);
        tasks.spawn_local(async move {
            if let Err(error) = connection.drive(&tally).await {
                tally.borrow_mut().faults.add(error);
            }
        });
    }
    tasks.await;
    let seconds = (clock::now() - began) as f64 / 1e9;
    let mut tally = tally.take();
    println!(
        "{}",
        json!({
            "requests": tally.times.len(),
            "seconds": seconds,
            "per_second": tally.times.len() as f64 / seconds,
            "bytes": tally.bytes,
            "faults": tally.faults.told(),
            "us": tally.times.told(),
        })
    );
    Ok(())
}

struct Connection {
    options: Options,
    requests: Rc<[Vec<u8>]>,
    index: u64,
    began: u64,
    ends: u64,
}

impl Connection {
    async fn drive(&self, tally: &RefCell<Tally>) -> io::Result<()> {
        let alarm = Alarm::new()?;
        let mut kept = None;
        for turn in 0.. {
            let due = self.due(turn);
            if due.unwrap_or_else(clock::now) >= self.ends
                || self.options.requests.is_some_and(|most| turn >= most)
            {
                break;
            }
            if let Some(due) = due {
                alarm.sleep_until(due).await?;
            }
            // Whatever made this one late is part of its time (coordinated omission).
            let from = due.unwrap_or_else(clock::now);
            let turn = turn * self.options.connections + self.index;
            let request = &self.requests[(turn % self.options.paths) as usize];
            let answer = tokio::time::timeout(PATIENCE, self.ask(&mut kept, request)).await;
            let bytes = answer.map_err(|_| io::Error::other("no answer for 20 s"))??;
            let mut tally = tally.borrow_mut();
            tally.times.add(clock::now() - from);
            tally.bytes += bytes;
        }
        Ok(())
    }

    /// When a request is to be sent, if there is a rate.
    fn due(&self, turn: u64) -> Option<u64> {
        let rate = self.options.rate?;
        let place = (turn * self.options.connections + self.index) as f64;
        Some(self.began + (place / rate * 1e9) as u64)
    }

    async fn ask(&self, kept: &mut Option<(Stream, Reader)>, request: &[u8]) -> io::Result<u64> {
        if self.options.churn {
            *kept = None;
        }
        let (stream, reader) = match kept {
            Some(kept) => kept,
            None => kept.insert((self.options.target.connect().await?, Reader::new())),
        };
        stream.write_all(request).await?;
        let head = reader.head(stream).await?;
        let bytes = reader.skip(stream, head.length).await?;
        match head.status {
            200 => Ok(bytes),
            status => Err(io::Error::other(format!("status {status}"))),
        }
    }
}

const CALL: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"hello"}}}"#;

/// What an MCP client sends, in one piece.
fn request(options: &Options, number: u64) -> Vec<u8> {
    let path = options.path.replace("{}", &number.to_string());
    let method = if options.get { "GET" } else { "POST" };
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nuser-agent: bench/1\r\n\
         accept: application/json, text/event-stream\r\n\
         mcp-session-id: 5f2c1a70-9d3e-4a55-8a1e-6f1f0f5ad9c1\r\nmcp-protocol-version: 2025-11-25\r\n"
    );
    if options.churn {
        request.push_str("connection: close\r\n");
    }
    if options.get {
        request.push_str("\r\n");
        return request.into_bytes();
    }
    let body = match options.upload {
        None => CALL.to_vec(),
        Some(len) => upload(len),
    };
    request.push_str("content-type: application/json\r\n");
    request.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    [request.as_bytes(), &body].concat()
}

/// A tool call with one long argument, `len` bytes in all.
fn upload(len: usize) -> Vec<u8> {
    let front = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"put","arguments":{"text":""#;
    let back = br#""}}}"#;
    let middle = len.saturating_sub(front.len() + back.len());
    [&front[..], &vec![b'a'; middle], &back[..]].concat()
}
