//! Event streams held open side by side: the first byte of each, and the delay of every event.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

use crate::Outcome;
use crate::clock;
use crate::tally::{Faults, Times};
use crate::target::Target;
use crate::wire::{Length, Reader};

/// Streams being opened at a time: some agents start together, not thousands.
const OPENING: usize = 16;

#[derive(Args, Clone)]
pub struct Options {
    target: Target,
    #[arg(long, default_value_t = 1000)]
    streams: usize,
    /// How long to time events, once all are open and a line came in on stdin
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    #[arg(long, default_value = "/events")]
    path: String,
}

#[derive(Default)]
struct Tally {
    first: Times,
    delay: Times,
    faults: Faults,
    open: usize,
    timing: bool,
}

pub async fn run(options: Options) -> Outcome {
    let tally = Rc::new(RefCell::new(Tally::default()));
    let opening = Rc::new(Semaphore::new(OPENING));
    let tasks = LocalSet::new();
    for _ in 0..options.streams {
        let (options, tally) = (options.clone(), Rc::clone(&tally));
        let opening = Rc::clone(&opening);
        tasks.spawn_local(async move {
            if let Err(error) = follow(&options, &tally, &opening).await {
                tally.borrow_mut().faults.add(error);
            }
        });
    }
    tasks.run_until(conduct(&options, &tally)).await
}

/// Tells when all are open, waits for its caller to look at memory, times, tells.
async fn conduct(options: &Options, tally: &RefCell<Tally>) -> Outcome {
    let patience = tokio::time::Instant::now() + Duration::from_secs(60);
    while tally.borrow().open < options.streams && tokio::time::Instant::now() < patience {
        if let fault @ serde_json::Value::Object(_) = tally.borrow().faults.told()
            && fault["count"] != 0
        {
            return Err(format!("a stream did not open: {fault}").into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("{}", json!({ "open": tally.borrow().open }));
    let mut line = String::new();
    BufReader::new(tokio::io::stdin())
        .read_line(&mut line)
        .await?;
    tally.borrow_mut().timing = true;
    tokio::time::sleep(Duration::from_secs_f64(options.seconds)).await;
    let mut tally = tally.take();
    println!(
        "{}",
        json!({
            "events": tally.delay.len(),
            "faults": tally.faults.told(),
            "first_us": tally.first.told(),
            "delay_us": tally.delay.told(),
        })
    );
    Ok(())
}

async fn follow(options: &Options, tally: &RefCell<Tally>, opening: &Semaphore) -> io::Result<()> {
    let turn = opening.acquire().await.map_err(io::Error::other)?;
    let began = clock::now();
    let mut stream = options.target.connect().await?;
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\
         mcp-session-id: 5f2c1a70-9d3e-4a55-8a1e-6f1f0f5ad9c1\r\nmcp-protocol-version: 2025-11-25\r\n\r\n",
        options.path
    );
    stream.write_all(request.as_bytes()).await?;
    let mut reader = Reader::new();
    let head = reader.head(&mut stream).await?;
    if head.status != 200 || !matches!(head.length, Length::Chunked) {
        return Err(io::Error::other(format!("status {}", head.status)));
    }
    reader.chunk(&mut stream).await?;
    {
        let mut tally = tally.borrow_mut();
        tally.first.add(clock::now() - began);
        tally.open += 1;
    }
    drop(turn);
    while let Some(chunk) = reader.chunk(&mut stream).await? {
        let now = clock::now();
        let mut tally = tally.borrow_mut();
        for sent in chunk[..].split(|&byte| byte == b'\n').filter_map(sent_at) {
            if tally.timing {
                tally.delay.add(now.saturating_sub(sent));
            }
        }
    }
    Err(io::Error::other("a stream ended"))
}

/// The time that the origin wrote into an event; there are comments, too.
fn sent_at(line: &[u8]) -> Option<u64> {
    crate::wire::number(line.strip_prefix(b"data: ")?).ok()
}
