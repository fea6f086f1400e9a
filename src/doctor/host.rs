//! What can be known without a network: configuration, files, and the daemon.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};
use nix::unistd::{Uid, User};
use serde_json::Value;

use super::{Code, Finding, Findings, service};
use crate::admin_client::{self, Unanswered};
use crate::cli::AdminArgs;
use crate::config::{Config, Sources};
use crate::file::shell_quoted;

const GROUP_OR_OTHERS_WRITE: u32 = 0o022;

/// Reads everything as `check` does. `None` if there is no configuration to go on with.
pub fn configuration(sources: &Sources, findings: &mut Findings) -> Option<Config> {
    let config = match Config::load(sources) {
        Ok(config) => config,
        Err(problems) => {
            let lines = problems.lines().collect::<Vec<_>>();
            let message = format!("the configuration has {} fault(s)", lines.len());
            let finding = Finding::new(Code::ConfigurationWrong, message)
                .details(lines)
                .next("correct them, then: mcp-auth-proxy check");
            findings.add(finding);
            return None;
        }
    };
    for warning in &config.warnings {
        findings.add(
            Finding::new(Code::ConfigurationDoubtful, warning.as_str())
                .next("mcp-auth-proxy-troubleshooting(7) has every warning"),
        );
    }
    let files: Vec<_> = config
        .files
        .iter()
        .map(|f| f.display().to_string())
        .collect();
    let from = match files.len() {
        0 => "the environment".to_owned(),
        _ => files.join(", "),
    };
    let message = format!("{from}, read as {}", user_name(Uid::effective().as_raw()));
    findings.add(Finding::new(Code::ConfigurationOk, message));
    Some(config)
}

/// Whoever may write a configuration decides where requests are signed for; secrets were
/// looked at when they were read.
pub fn files(config: &Config, findings: &mut Findings) {
    let mut is_fine = true;
    for path in &config.files {
        let Ok(metadata) = std::fs::metadata(path) else {
            continue;
        };
        let mode = metadata.mode() & 0o7777;
        if mode & GROUP_OR_OTHERS_WRITE == 0 {
            continue;
        }
        is_fine = false;
        let shown = path.display();
        let message = format!("others than its owner may write {shown} (mode {mode:04o})");
        let next = format!("chmod go-w {}", shell_quoted(path));
        findings.add(Finding::new(Code::FileWritable, message).next(next));
    }
    if is_fine && !config.files.is_empty() {
        let message = "only their owners may write the configuration; no secret is open to others, \
                       but where insecure_permissions lets it be";
        findings.add(Finding::new(Code::FilesOk, message));
    }
}

/// The running daemon's status page, if one answers.
pub fn daemon(
    sources: &Sources,
    args: &AdminArgs,
    config: Option<&Config>,
    findings: &mut Findings,
) -> Option<Value> {
    let socket = admin_client::socket(sources, args);
    let page = match admin_client::ask(sources, args.clone(), Method::GET, "/status") {
        Ok((StatusCode::OK, page)) => match serde_json::from_str::<Value>(&page) {
            Ok(page) => Some(page),
            Err(error) => {
                let message = format!("the daemon's status page cannot be read: {error}");
                findings.add(hangs(&message));
                None
            }
        },
        Ok((status, _)) => {
            findings.add(hangs(&format!(
                "the daemon answers its status page with {status}"
            )));
            None
        }
        Err(unanswered) => {
            findings.add(not_answered(&unanswered));
            None
        }
    };
    service::look(page.is_some(), findings);
    let page = page?;
    running(&page, findings);
    if let Some(socket) = socket {
        same_user(&socket, findings);
    }
    if let Some(config) = config {
        reloads(&page, config, findings);
    }
    Some(page)
}

fn hangs(message: &str) -> Finding {
    Finding::new(Code::DaemonHangs, message)
        .next("systemctl restart mcp-auth-proxy, or end the process and: mcp-auth-proxy serve")
}

fn not_answered(unanswered: &Unanswered) -> Finding {
    match unanswered {
        Unanswered::NoDaemon(looked) if looked.is_empty() => Finding::new(
            Code::NoAdmin,
            "the configuration has no admin socket, so a daemon cannot be asked",
        )
        .next("set admin.unix, or name the socket with --admin-socket"),
        Unanswered::NoDaemon(looked) => {
            let looked: Vec<_> = looked.iter().map(|p| p.display().to_string()).collect();
            let message = format!("no daemon answers at {}", looked.join(" or "));
            Finding::new(Code::NoDaemon, message)
                .next("mcp-auth-proxy serve, or: systemctl start mcp-auth-proxy")
        }
        Unanswered::Forbidden(path) => {
            let message = format!("{} is for the daemon's user alone", path.display());
            Finding::new(Code::AdminForbidden, message).next("sudo mcp-auth-proxy doctor")
        }
        Unanswered::Failed(path, reason) => hangs(&format!(
            "the daemon at {} did not answer: {reason}",
            path.display()
        )),
    }
}

fn running(page: &Value, findings: &mut Findings) {
    let own = env!("CARGO_PKG_VERSION");
    let version = page["version"].as_str().unwrap_or("?");
    let state = page["state"].as_str().unwrap_or("?");
    let message = format!("version {version} is {state} (pid {})", page["pid"]);
    findings.add(Finding::new(Code::DaemonOk, message));
    if version != own {
        let message = format!("the daemon is {version} and this command is {own}");
        findings.add(
            Finding::new(Code::OtherVersion, message)
                .next("restart the daemon: systemctl restart mcp-auth-proxy"),
        );
    }
}

/// Another user's files may be readable to one and not to the other.
fn same_user(socket: &Path, findings: &mut Findings) {
    let Ok(metadata) = std::fs::metadata(socket) else {
        return;
    };
    let (own, daemon) = (Uid::effective().as_raw(), metadata.uid());
    if own != daemon {
        let (own, daemon) = (user_name(own), user_name(daemon));
        let message =
            format!("the daemon runs as {daemon} and this as {own}, who may read other files");
        let next = format!("sudo -u {daemon} mcp-auth-proxy doctor");
        findings.add(Finding::new(Code::OtherUser, message).next(next));
    }
}

fn reloads(page: &Value, config: &Config, findings: &mut Findings) {
    let reload = &page["last_reload"];
    if reload["outcome"] == "refused" {
        let reasons = reload["reasons"].as_array().into_iter().flatten();
        let reasons = reasons.filter_map(Value::as_str).map(str::to_owned);
        let message = "the last reload was refused, and the configuration before it goes on";
        findings.add(
            Finding::new(Code::ReloadRefused, message)
                .details(reasons.collect())
                .next("correct that, then: mcp-auth-proxy reload"),
        );
        return;
    }
    let own: Vec<_> = config.files.iter().map(|f| f.to_str()).collect();
    let theirs = page["configuration"]["files"].as_array();
    let theirs: Vec<_> = theirs.into_iter().flatten().map(Value::as_str).collect();
    if own != theirs {
        let theirs: Vec<_> = theirs.into_iter().flatten().collect();
        let theirs = match theirs.len() {
            0 => "its environment".to_owned(),
            _ => theirs.join(", "),
        };
        let message = format!("the daemon works from {theirs}, which is not what was read here");
        findings.add(
            Finding::new(Code::OtherConfiguration, message).next(
                "name the daemon's file with --config, or the other daemon with --admin-socket",
            ),
        );
        return;
    }
    let age = page["configuration"]["age_seconds"].as_u64().unwrap_or(0);
    let Some(loaded) = SystemTime::now().checked_sub(Duration::from_secs(age)) else {
        return;
    };
    let changed = config.files.iter().filter(|path| {
        let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
        modified.is_ok_and(|at| at > loaded + Duration::from_secs(1))
    });
    let changed: Vec<_> = changed.map(|path| path.display().to_string()).collect();
    if !changed.is_empty() {
        let message = format!("{} changed after the daemon read it", changed.join(", "));
        findings.add(Finding::new(Code::NotReloaded, message).next("mcp-auth-proxy reload"));
    }
}

fn user_name(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => format!("uid {uid}"),
    }
}
