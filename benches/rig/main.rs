//! What `make bench` measures with: an origin that checks signatures, and the loads.
//!
//! Every command prints JSON on stdout, one line for each thing its caller waits for.

mod bridge;
mod clock;
mod load;
mod origin;
mod ready;
mod streams;
mod tally;
mod target;
mod wire;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub type Outcome = Result<(), Box<dyn Error>>;

#[derive(Parser)]
struct Arguments {
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve answers of every kind, in clear, over TLS with HTTP/1.1 and with HTTP/2
    Origin(origin::Options),
    /// Send requests, as fast as they are answered or at a fixed rate
    Load(load::Options),
    /// Hold event streams open, and time their events
    Streams(streams::Options),
    /// Start a program and time it until it answers
    Ready(ready::Options),
    /// Time round trips through a stdio bridge
    Bridge(bridge::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Some(Command::Origin(options)) => local(origin::run(options)),
        Some(Command::Load(options)) => local(load::run(options)),
        Some(Command::Streams(options)) => local(streams::run(options)),
        Some(Command::Ready(options)) => ready::run(&options),
        Some(Command::Bridge(options)) => bridge::run(&options),
        // Run by `cargo bench`, among the microbenchmarks.
        None => Ok(()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rig: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One thread: what drives the load must not take the processor that it wants to see used.
fn local(work: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}
