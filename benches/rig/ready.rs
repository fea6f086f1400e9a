//! How long a program takes from being started to its first answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use crate::Outcome;

const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_micros(100);

#[derive(Args)]
pub struct Options {
    /// Where it will listen
    address: SocketAddr,
    /// What it answers with 200
    #[arg(long, default_value = "/healthz")]
    path: String,
    #[arg(long, default_value_t = 10)]
    times: usize,
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

pub fn run(options: &Options) -> Outcome {
    let mut milliseconds = Vec::new();
    for _ in 0..options.times {
        let began = Instant::now();
        let mut child = start(&options.command)?;
        let result = await_answer(options, &mut child, began);
        stop(&mut child)?;
        milliseconds.push(result?.as_secs_f64() * 1e3);
    }
    println!("{}", json!({ "ms": milliseconds }));
    Ok(())
}

fn start(command: &[String]) -> std::io::Result<Child> {
    Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

fn await_answer(
    options: &Options,
    child: &mut Child,
    began: Instant,
) -> Result<Duration, Box<dyn std::error::Error>> {
    loop {
        if ask(options).unwrap_or(false) {
            return Ok(began.elapsed());
        }
        if let Some(status) = child.try_wait()? {
            return Err(format!("{:?} ended: {status}", options.command).into());
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("{:?} does not answer", options.command).into());
        }
        std::thread::sleep(PAUSE);
    }
}

fn ask(options: &Options) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(options.address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "GET {} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        options.path
    )?;
    let mut begin = [0; 12];
    stream.read_exact(&mut begin)?;
    Ok(begin.ends_with(b" 200"))
}

/// SIGTERM, so that a parent takes its workers along.
fn stop(child: &mut Child) -> Outcome {
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
    child.wait()?;
    Ok(())
}
