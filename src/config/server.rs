//! `[log]` and `[server]`.

use std::io::IsTerminal;
use std::time::Duration;

use slog::Level;

use super::decode::{Field, Section};
use super::run_as::decode_run_as;
use super::tree::Value;
use super::{Log, LogFormat, SandboxMode, Server};

/// More event-loop threads than this help nobody on one host.
const DEFAULT_WORKERS: usize = 8;
const MAX_WORKERS: usize = 1024;

const LEVELS: [(&str, Level); 7] = [
    ("trace", Level::Trace),
    ("debug", Level::Debug),
    ("info", Level::Info),
    ("warn", Level::Warning),
    ("warning", Level::Warning),
    ("error", Level::Error),
    ("critical", Level::Critical),
];

/// A table of settings that all have defaults.
fn optional<'a>(root: &mut Section<'a>, key: &'static str) -> Option<Section<'a>> {
    root.field(key).and_then(|field| field.section())
}

pub fn decode_log(root: &mut Section<'_>) -> Log {
    let terminal = std::io::stderr().is_terminal();
    let default = if terminal {
        LogFormat::Text
    } else {
        LogFormat::Json
    };
    let mut log = Log {
        level: Level::Info,
        format: default,
    };
    let Some(mut s) = optional(root, "log") else {
        return log;
    };
    if let Some(level) = s.field("level").and_then(|f| f.choice(&LEVELS)) {
        log.level = level;
    }
    let formats = [("json", LogFormat::Json), ("text", LogFormat::Text)];
    if let Some(format) = s.field("format").and_then(|f| f.choice(&formats)) {
        log.format = format;
    }
    s.finish();
    log
}

pub fn decode_server(root: &mut Section<'_>) -> Server {
    let mut server = Server {
        read_timeout: Duration::from_secs(30),
        write_timeout: Duration::from_secs(30),
        idle_timeout: Duration::from_secs(120),
        graceful_shutdown: Duration::from_secs(10),
        workers: default_workers(),
        sandbox: SandboxMode::Auto,
        run_as: None,
    };
    let Some(mut s) = optional(root, "server") else {
        return server;
    };
    let durations = [
        ("read_timeout", &mut server.read_timeout),
        ("write_timeout", &mut server.write_timeout),
        ("idle_timeout", &mut server.idle_timeout),
        ("graceful_shutdown", &mut server.graceful_shutdown),
    ];
    for (key, into) in durations {
        if let Some(duration) = s.field(key).and_then(|field| field.duration()) {
            *into = duration;
        }
    }
    if let Some(workers) = s.field("workers").and_then(|field| workers(&field)) {
        server.workers = workers;
    }
    let modes = [
        ("auto", SandboxMode::Auto),
        ("require", SandboxMode::Require),
        ("off", SandboxMode::Off),
    ];
    if let Some(mode) = s.field("sandbox").and_then(|field| field.choice(&modes)) {
        server.sandbox = mode;
    }
    server.run_as = decode_run_as(&mut s);
    s.finish();
    server
}

fn workers(field: &Field<'_>) -> Option<usize> {
    match &field.node.value {
        Value::Integer(number) => {
            if let Some(n) = usize::try_from(*number)
                .ok()
                .filter(|n| (1..=MAX_WORKERS).contains(n))
            {
                return Some(n);
            }
        }
        Value::String(text) if text.as_str() == "auto" => return Some(default_workers()),
        _ => {}
    }
    field.problem(format!(
        "not a number of threads; write 1 to {MAX_WORKERS}, or \"auto\""
    ));
    None
}

fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().min(DEFAULT_WORKERS))
}
