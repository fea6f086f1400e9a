//! What systemd knows of the service, where there is systemd.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Code, Finding, Findings};

const UNIT: &str = "mcp-auth-proxy.service";
const PATIENCE: Duration = Duration::from_secs(3);

/// `answers`: whether a daemon does, whoever started it.
pub fn look(answers: bool, findings: &mut Findings) {
    // sd_booted(3).
    if !Path::new("/run/systemd/system").is_dir() {
        return;
    }
    if let Some(text) = show() {
        findings.0.extend(judge(&text, answers));
    }
}

fn judge(text: &str, answers: bool) -> Option<Finding> {
    let properties: HashMap<_, _> = text.lines().filter_map(|l| l.split_once('=')).collect();
    let of = |name| properties.get(name).copied().unwrap_or_default();
    if of("LoadState") != "loaded" {
        return None;
    }
    let (active, result) = (of("ActiveState"), of("Result"));
    match active {
        "failed" => {
            let message = format!("systemd gave {UNIT} up: {result}");
            let next = "journalctl -u mcp-auth-proxy -e";
            Some(Finding::new(Code::ServiceFailed, message).next(next))
        }
        "inactive" if answers => None,
        _ => Some(Finding::new(Code::ServiceOk, format!("{UNIT} is {active}"))),
    }
}

fn show() -> Option<String> {
    let mut child = Command::new("systemctl")
        .args(["show", "--property=LoadState,ActiveState,Result", UNIT])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let until = Instant::now() + PATIENCE;
    while child.try_wait().ok()?.is_none() {
        if Instant::now() > until {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut text = String::new();
    child.stdout?.take(4096).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_judged_only_where_it_is_installed() {
        let code = |text, answers| judge(text, answers).map(|finding| finding.code);
        let failed = "LoadState=loaded\nActiveState=failed\nResult=exit-code\n";
        assert_eq!(code(failed, false), Some(Code::ServiceFailed));
        let stopped = "LoadState=loaded\nActiveState=inactive\nResult=success\n";
        assert_eq!(code(stopped, false), Some(Code::ServiceOk));
        // Somebody's own daemon answers; the service is none of its business.
        assert_eq!(code(stopped, true), None);
        assert_eq!(
            code("LoadState=not-found\nActiveState=inactive\n", false),
            None
        );
        assert_eq!(code("", false), None);
    }
}
