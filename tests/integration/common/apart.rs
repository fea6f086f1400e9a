//! A test in a world of its own: its mounts and its network are nobody else's, and end with it.

use std::process::Command;

const MARK: &str = "TEST_IN_A_WORLD_OF_ITS_OWN";
/// With an interface beside the loopback one that can be taken away.
const WORLD: &str = "set -e; mount --make-rprivate /; ip link set lo up; \
     ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up; \
     exec \"$0\" \"$@\"";

/// Whether the caller is to go on: it is apart already. Otherwise it has run there, or cannot here.
pub fn is_apart(module: &str, test: &str) -> bool {
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    if !world(&["true"]).status().is_ok_and(|probe| probe.success()) {
        eprintln!("skipped: no mounts and networks of one's own can be had here");
        return false;
    }
    let (_, module) = module.split_once("::").unwrap();
    let executable = std::env::current_exe().unwrap();
    let name = format!("{module}::{test}");
    let arguments = [
        executable.to_str().unwrap(),
        "--exact",
        &name,
        "--nocapture",
    ];
    let output = world(&arguments).env(MARK, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{name} was not run: {said}");
    false
}

fn world(command: &[&str]) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--net", "sh", "-c", WORLD]);
    unshare.args(command).stdin(std::process::Stdio::null());
    unshare
}

/// Runs a command that must succeed.
#[track_caller]
pub fn does(command: &str) {
    let status = Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(status.success(), "{command}");
}
