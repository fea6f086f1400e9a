//! The daemon's own walls, beside those that systemd may build: files by Landlock, system calls by seccomp.
//!
//! They are put up once, after the configuration was read, and nothing takes them down: not a
//! reload, and not whoever takes the process over. What is allowed is therefore what a reload
//! may need: the directories from which something was read, those with sockets, and the system's.
//! TCP ports are not restricted: a reload may name any upstream.

#[cfg(target_os = "linux")]
mod files;
#[cfg(target_os = "linux")]
pub mod onlooker;
#[cfg(target_os = "linux")]
mod syscalls;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::config::{AuditTarget, Config, SandboxMode};
use crate::{privilege, secret};

/// What is in force; `Err` says why it is not.
#[derive(Debug, Clone)]
pub struct Report {
    pub files: Result<(), String>,
    pub system_calls: Result<(), String>,
    /// Whether the process is another's than root's, once its sockets are open.
    pub privileges: Result<(), String>,
    /// Whether programs that print secrets are started from outside.
    pub commands_outside: bool,
}

/// Directories beneath which sockets may be made, once files are restricted.
static SOCKETS: OnceLock<Vec<PathBuf>> = OnceLock::new();

/// The directory beneath which an audit may be written, likewise.
static AUDIT: OnceLock<Option<PathBuf>> = OnceLock::new();

/// Restricts this thread and those that it starts from now on, and every program they start. One
/// thread is started before, if programs print secrets: theirs is another trade, see
/// [`crate::secret::stay_outside`]. `readable`: directories beside those that were read from so far.
///
/// # Errors
/// With [`SandboxMode::Require`], when something cannot be put in force.
pub fn enter(config: &Config, readable: Vec<PathBuf>) -> Result<Report, String> {
    let privileges = privilege::outlook(config.server.run_as.as_ref());
    let commands_outside = config.server.sandbox != SandboxMode::Off && !config.commands.is_empty();
    if commands_outside {
        secret::stay_outside()
            .map_err(|error| format!("the system gives no thread to start programs: {error}"))?;
    }
    let mut report = match config.server.sandbox {
        SandboxMode::Off => Report::of_nothing("switched off by server.sandbox"),
        SandboxMode::Auto | SandboxMode::Require => walls(config, readable),
    };
    report.privileges = privileges;
    if config.server.sandbox == SandboxMode::Require {
        let missing = |what: &str, why: &String| {
            format!(
                "server.sandbox is \"require\", and {what} cannot be restricted: {why}; use another kernel, or \"auto\""
            )
        };
        report.files.as_ref().map_err(|why| missing("files", why))?;
        report
            .system_calls
            .as_ref()
            .map_err(|why| missing("system calls", why))?;
        report
            .privileges
            .as_ref()
            .map_err(|why| format!("server.sandbox is \"require\", and {why}; or set \"auto\""))?;
    }
    report.commands_outside =
        commands_outside && (report.files.is_ok() || report.system_calls.is_ok());
    Ok(report)
}

impl Report {
    /// Each by its name.
    pub fn walls(&self) -> [(&'static str, &Result<(), String>); 3] {
        [
            ("files", &self.files),
            ("system calls", &self.system_calls),
            ("privileges", &self.privileges),
        ]
    }

    fn of_nothing(why: &str) -> Self {
        Self {
            files: Err(why.to_owned()),
            system_calls: Err(why.to_owned()),
            privileges: Ok(()),
            commands_outside: false,
        }
    }
}

#[cfg(target_os = "linux")]
fn walls(config: &Config, more: Vec<PathBuf>) -> Report {
    let mut readable = crate::file::directories();
    readable.extend(more);
    let sockets: Vec<_> = config.sockets().filter_map(existing_directory).collect();
    let asks = config.asks_for_programs() || config.audit.is_some();
    let onlooker = if asks {
        onlooker::start(config.server.run_as.as_ref())
    } else {
        Ok(())
    };
    let files = match onlooker {
        Err(why) if config.asks_for_programs() => {
            Err(format!("a rule names executables, and {why}"))
        }
        _ => files::restrict(&readable, &sockets, audit_directory(config)),
    };
    if files.is_ok() {
        let system = files::SYSTEM.iter().map(PathBuf::from);
        crate::file::confined_to(readable.into_iter().chain(system).collect());
        let _ = SOCKETS.set(sockets);
        let _ = AUDIT.set(audit_directory(config).map(Path::to_owned));
    }
    Report {
        files,
        system_calls: syscalls::restrict(),
        privileges: Ok(()),
        commands_outside: false,
    }
}

#[cfg(not(target_os = "linux"))]
fn walls(_: &Config, _: Vec<PathBuf>) -> Report {
    Report::of_nothing("this system has no such means")
}

#[cfg(target_os = "linux")]
fn audit_directory(config: &Config) -> Option<&Path> {
    audit_file(config)?.parent()
}

fn audit_file(config: &Config) -> Option<&Path> {
    match &config.audit.as_ref()?.target {
        AuditTarget::File(path) => Some(path),
        AuditTarget::Journald | AuditTarget::Syslog => None,
    }
}

/// What a new configuration wants and our own walls keep us from, each with what to do.
pub fn out_of_reach(config: &Config) -> Vec<String> {
    let mut all = sockets_out_of_reach(config);
    all.extend(audit_out_of_reach(config));
    if SOCKETS.get().is_some() && config.asks_for_programs() && !can_tell_programs() {
        all.push(
            "a rule names executables, and this daemon has shut itself off from other processes; \
             restart it (server.sandbox)"
                .to_owned(),
        );
    }
    all
}

fn audit_out_of_reach(config: &Config) -> Option<String> {
    let (reachable, file) = (AUDIT.get()?, audit_file(config)?);
    let is_reachable = |directory: &PathBuf| file.starts_with(directory);
    (!reachable.as_ref().is_some_and(is_reachable)).then(|| {
        format!(
            "{}: no audit can be written there by this daemon, which may write in no directory but \
             that of the one it had when it started; restart it (server.sandbox)",
            file.display()
        )
    })
}

#[cfg(target_os = "linux")]
fn can_tell_programs() -> bool {
    onlooker::is_there()
}

#[cfg(not(target_os = "linux"))]
fn can_tell_programs() -> bool {
    true
}

fn sockets_out_of_reach(config: &Config) -> Vec<String> {
    let Some(reachable) = SOCKETS.get() else {
        return Vec::new();
    };
    let is_reachable = |path: &Path| {
        reachable
            .iter()
            .any(|directory| path.starts_with(directory))
    };
    config
        .sockets()
        .filter(|path| !is_reachable(path))
        .map(|path| {
            format!(
                "{}: no socket can be made there by this daemon, which is limited to the directories it \
                 knew when it started; restart it (server.sandbox)",
                path.display()
            )
        })
        .collect()
}

/// The nearest directory that is there: a missing one is made by the listener.
#[cfg(target_os = "linux")]
fn existing_directory(socket: &Path) -> Option<PathBuf> {
    let mut above = socket.ancestors().skip(1);
    above
        .find(|directory| directory.is_dir())
        .map(Path::to_owned)
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
