//! The stage: a fake upstream, the real daemon as a child process, and clients of several kinds.

pub mod admin;
pub mod apart;
pub mod body;
pub mod client;
pub mod daemon;
pub mod frames;
pub mod journal;
pub mod memory;
pub mod process;
pub mod raw;
pub mod secrets;
pub mod setup;
pub mod strict;
pub mod tls;
pub mod upstream;
pub mod user;
pub mod verdicts;
pub mod verify;
pub mod wait;

pub use body::Pipe;
pub use client::{Answer, Ask, Client, Http, Opened, Way};
pub use daemon::Daemon;
pub use secrets::{KEY_ID, SECRET};
pub use setup::Setup;
pub use upstream::{Call, Outcome, Seen, Upstream};
pub use wait::{until, within};

/// Says that a test shows nothing here. In CI that is a failure, unless the host really `lacks`
/// what it takes: nobody reads the output of tests that pass.
pub fn skipped(why: &str, lacks: bool) {
    eprintln!("skipped: {why}");
    let is_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    assert!(lacks || !is_ci, "skipped in CI: {why}");
}
