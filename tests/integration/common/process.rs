//! The binary under test, as a command that runs and ends.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::secrets;

/// The binary that these tests were built with, or the one that `MCP_AUTH_PROXY_BIN` names.
pub fn binary() -> PathBuf {
    std::env::var_os("MCP_AUTH_PROXY_BIN").map_or_else(
        || env!("CARGO_BIN_EXE_mcp-auth-proxy").into(),
        PathBuf::from,
    )
}

/// Whether figures are those of a build that is meant for use: a debug build is several times as big.
///
/// Only a debug build has a panic for sums that overflow, whoever built it and whatever was stripped.
pub fn is_release() -> bool {
    static IS_RELEASE: OnceLock<bool> = OnceLock::new();
    *IS_RELEASE.get_or_init(|| {
        let binary = std::fs::read(binary()).unwrap();
        !String::from_utf8_lossy(&binary).contains("attempt to add with overflow")
    })
}

/// The command, in an environment of its own where nothing is configured.
pub fn command(home: &Path) -> Command {
    let mut command = Command::new(binary());
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("XDG_RUNTIME_DIR", home)
        // Root's default would be the system's own directory.
        .env("RUNTIME_DIRECTORY", home)
        .envs(sanitizer_options())
        .current_dir(home)
        .stdin(Stdio::null());
    command
}

/// `TSAN_OPTIONS` and its like: `make sanitize` ends a program at what it finds.
fn sanitizer_options() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().ends_with(b"SAN_OPTIONS"))
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    pub fn output(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs a command to its end. What it prints may hold no secret and no signature.
pub fn run(command: &mut Command) -> Ended {
    let ended = run_showing_signatures(command);
    secrets::assert_none("a command's output", &ended.output());
    ended
}

/// For `sign`, whose purpose it is.
pub fn run_showing_signatures(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The command may open no more than modes let its user, be it root.
pub fn held_to_modes(command: &mut Command) {
    #[cfg(target_os = "linux")]
    // SAFETY: one async-signal-safe call between fork and exec.
    unsafe {
        use std::os::unix::process::CommandExt;
        const CAP_DAC_OVERRIDE: libc::c_ulong = 1;
        command.pre_exec(|| {
            // Refused to users, who have no such power to begin with.
            libc::prctl(libc::PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0);
            Ok(())
        });
    }
    #[cfg(not(target_os = "linux"))]
    let _ = command;
}

/// A process that `pid` has started, if there is one.
#[cfg(target_os = "linux")]
pub fn child_of(pid: u32) -> Option<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.flatten().find_map(|task| {
        let children = std::fs::read_to_string(task.path().join("children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    })
}

/// Whether a process is there and no zombie.
#[cfg(target_os = "linux")]
pub fn lives(pid: i32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}
