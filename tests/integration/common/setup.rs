//! A configuration for the daemon, and the directory where it lives.

use std::fs::{self, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use super::daemon::Daemon;
use super::process::{self, Ended};
use super::secrets::{KEY_ID, SECRET};
use super::{Upstream, tls};

/// A daemon to be: by default one upstream for every path, a Unix socket and a TCP port.
pub struct Setup {
    dir: Arc<tempfile::TempDir>,
    upstream: String,
    key_id: String,
    unix_listener: String,
    tcp_listener: String,
    log_level: &'static str,
    more: String,
    whole: Option<String>,
    name: &'static str,
    pub(super) env: Vec<(String, String)>,
    pub(super) args: Vec<String>,
    pub(super) inherited: Vec<(String, OwnedFd)>,
    pub(super) descriptors: Option<u64>,
    pub(super) data_limit: Option<u64>,
}

impl Setup {
    pub fn before(upstream: &Upstream) -> Self {
        Self::at(&upstream.url())
    }

    /// `https` upstreams are expected to have a certificate of the tests' own authority.
    pub fn at(url: &str) -> Self {
        let setup = Self {
            dir: Arc::new(tempfile::tempdir().unwrap()),
            upstream: String::new(),
            key_id: KEY_ID.to_owned(),
            unix_listener: String::new(),
            tcp_listener: "tcp = \"127.0.0.1:0\"".to_owned(),
            log_level: "debug",
            more: String::new(),
            whole: None,
            name: "config.toml",
            env: Vec::new(),
            args: Vec::new(),
            inherited: Vec::new(),
            descriptors: None,
            data_limit: None,
        };
        setup.file("ca.pem", &tls::authority().pem);
        setup.file("secret", SECRET);
        let setup = setup.upstream(&format!("url = \"{url}\""));
        if url.starts_with("https") {
            let ca = setup.path("ca.pem");
            setup.upstream(&format!("ca_file = {ca:?}"))
        } else {
            setup
        }
    }

    /// The same once more, in the same directory, for when the daemon of before is gone.
    pub fn again(&self) -> Self {
        Self {
            dir: Arc::clone(&self.dir),
            upstream: self.upstream.clone(),
            key_id: self.key_id.clone(),
            unix_listener: self.unix_listener.clone(),
            tcp_listener: self.tcp_listener.clone(),
            more: self.more.clone(),
            whole: self.whole.clone(),
            env: self.env.clone(),
            args: self.args.clone(),
            inherited: Vec::new(),
            ..*self
        }
    }

    /// Adds lines to the upstream's table.
    pub fn upstream(mut self, lines: &str) -> Self {
        self.upstream.push_str(lines);
        self.upstream.push('\n');
        self
    }

    /// The upstream's `url` becomes this `endpoint`.
    pub fn endpoint(mut self, url: &str) -> Self {
        let rest = self.upstream.split_once('\n').unwrap().1.to_owned();
        self.upstream = format!("endpoint = \"{url}\"\n{rest}");
        self
    }

    /// The credential, which is the tests' own otherwise.
    pub fn credential(mut self, key_id: &str, secret: &str) -> Self {
        self.key_id = key_id.to_owned();
        self.file("secret", secret);
        self
    }

    /// Adds lines to the Unix listener's table.
    pub fn unix_listener(mut self, lines: &str) -> Self {
        self.unix_listener.push_str(lines);
        self.unix_listener.push('\n');
        self
    }

    /// The upstream's `url` becomes this one; all else stays.
    pub fn upstream_url(mut self, url: &str) -> Self {
        let rest = self.upstream.split_once('\n').unwrap().1.to_owned();
        self.upstream = format!("url = \"{url}\"\n{rest}");
        self
    }

    /// The TCP listener's table becomes this.
    pub fn replaced_tcp_listener(mut self, lines: &str) -> Self {
        self.tcp_listener = lines.to_owned();
        self
    }

    /// Adds lines to the TCP listener's table.
    pub fn tcp_listener(mut self, lines: &str) -> Self {
        self.tcp_listener.push('\n');
        self.tcp_listener.push_str(lines);
        self
    }

    pub fn log_level(mut self, level: &'static str) -> Self {
        self.log_level = level;
        self
    }

    /// Adds tables at the end of the file.
    pub fn more(mut self, toml: &str) -> Self {
        self.more.push_str(toml);
        self.more.push('\n');
        self
    }

    /// The whole file; `DIR` in it stands for the directory.
    pub fn written(mut self, toml: &str) -> Self {
        let dir = self.dir.path().display().to_string();
        self.whole = Some(toml.replace("DIR", &dir));
        self
    }

    /// The file's name, which says what it is written in.
    pub fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// A file that says nothing, where another would be found.
    pub fn without_file(self) -> Self {
        self.written("")
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// More descriptors than this the system will not give it.
    pub fn descriptors(mut self, limit: u64) -> Self {
        self.descriptors = Some(limit);
        self
    }

    /// More bytes of memory to write to than this the system will not give it.
    pub fn data_limit(mut self, limit: u64) -> Self {
        self.data_limit = Some(limit);
        self
    }

    /// Hands a listening socket over, as systemd does.
    pub fn inherit(mut self, name: &str, socket: impl Into<OwnedFd>) -> Self {
        self.inherited.push((name.to_owned(), socket.into()));
        self
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file that only its owner may read.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    pub fn config(&self) -> String {
        if let Some(whole) = &self.whole {
            return whole.clone();
        }
        let Self {
            upstream,
            key_id,
            unix_listener,
            tcp_listener,
            log_level,
            more,
            ..
        } = self;
        let (socket, secret) = (self.path("proxy.sock"), self.path("secret"));
        format!(
            r#"
[upstream.up]
{upstream}
credential = "key"

[credential.key.auth-gateway]
key_id = {key_id:?}
secret = {{ file = {secret:?} }}

[[listener]]
unix = {socket:?}
{unix_listener}

[[listener]]
{tcp_listener}

[log]
level = "{log_level}"

{more}
"#
        )
    }

    /// Writes the configuration as it is now.
    pub fn write(&self) -> PathBuf {
        self.file(self.name, &self.config())
    }

    pub async fn start(self) -> Daemon {
        Daemon::start(self).await
    }

    /// A command of the binary's with this configuration.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = process::command(self.dir.path());
        command
            .args(args)
            .arg("--config")
            .arg(self.write())
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command of the binary's with this configuration, to its end.
    pub fn run(&self, args: &[&str]) -> Ended {
        process::run(&mut self.command(args))
    }
}
