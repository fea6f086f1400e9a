//! The real daemon, as a child process with its own directory, socket and service manager.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::client::{Answer, Ask, Client, Http, Opened, Way};
use super::journal::Journal;
use super::setup::Setup;
use super::wait::{until, within};
use super::{admin, process, secrets};

pub struct Daemon {
    child: Child,
    exited: Option<ExitStatus>,
    pub setup: Setup,
    pub started: Instant,
    /// The first TCP port for clients.
    pub tcp: Option<SocketAddr>,
    /// What it wrote to stderr, line by line.
    pub log: Arc<Journal<String>>,
    /// What it told the service manager, datagram by datagram.
    pub notified: Arc<Journal<Notice>>,
    threads: Vec<JoinHandle<()>>,
}

/// A datagram for the service manager.
#[derive(Debug, Clone)]
pub struct Notice {
    pub at: Instant,
    pub text: String,
}

impl Notice {
    pub fn says(&self, line: &str) -> bool {
        self.text.lines().any(|own| own == line)
    }

    /// The value of `NAME=`.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }
}

impl Daemon {
    /// Returns once it is ready to serve.
    pub async fn start(setup: Setup) -> Self {
        let mut daemon = Self::spawn(setup);
        let notified = Arc::clone(&daemon.notified);
        tokio::select! {
            _ = notified.find("READY=1", |notice| notice.says("READY=1")) => {}
            status = daemon.exit() => panic!("it did not start: {status}\n{}", daemon.text()),
        }
        daemon.tcp = daemon.find_tcp();
        daemon
    }

    /// Returns at once.
    pub fn spawn(setup: Setup) -> Self {
        let notified = Arc::new(Journal::default());
        // That of a daemon before this one.
        let _ = std::fs::remove_file(setup.path("notify.sock"));
        let manager = UnixDatagram::bind(setup.path("notify.sock")).unwrap();
        // As a service manager's: whoever the daemon becomes may write to it.
        let everybody = std::fs::Permissions::from_mode(0o666);
        std::fs::set_permissions(setup.path("notify.sock"), everybody).unwrap();
        let mut command = Self::command(&setup);
        let started = Instant::now();
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Journal::default());
        let stderr = child.stderr.take().unwrap();
        let threads = vec![
            follow(stderr, Arc::clone(&log)),
            listen(manager, Arc::clone(&notified)),
        ];
        Self {
            child,
            exited: None,
            setup,
            started,
            tcp: None,
            log,
            notified,
            threads,
        }
    }

    fn command(setup: &Setup) -> Command {
        let config = setup.write();
        let mut command = if setup.inherited.is_empty() {
            process::command(setup.dir())
        } else {
            activated(setup)
        };
        command
            .arg("serve")
            .arg("--config")
            .arg(config)
            .args(&setup.args)
            .env("NOTIFY_SOCKET", setup.path("notify.sock"))
            .envs(setup.env.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        die_with_parent(&mut command);
        if let Some(limit) = setup.descriptors {
            self::limit(&mut command, Resource::RLIMIT_NOFILE, limit);
        }
        if let Some(limit) = setup.data_limit {
            self::limit(&mut command, Resource::RLIMIT_DATA, limit);
        }
        command
    }

    fn find_tcp(&self) -> Option<SocketAddr> {
        let status = self.status();
        let listeners = status["listeners"].as_array()?;
        listeners
            .iter()
            .filter(|listener| listener["for"] == "clients")
            .find_map(|listener| listener["address"].as_str()?.parse().ok())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.setup.path(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.path("proxy.sock")
    }

    pub fn admin_socket(&self) -> PathBuf {
        self.path("admin.sock")
    }

    /// The TCP port's address.
    pub fn address(&self) -> SocketAddr {
        self.tcp.expect("it listens on TCP")
    }

    // Clients.

    pub async fn client(&self, way: Way) -> Client {
        match way {
            Way::Tcp(http) => Client::tcp(self.address(), http).await,
            Way::Unix(http) => Client::unix(&self.socket(), http).await,
        }
    }

    /// The whole answer to one request on a TCP connection of its own.
    pub async fn ask(&self, ask: Ask) -> Answer {
        self.ask_by(Way::Tcp(Http::One), ask).await
    }

    pub async fn ask_by(&self, way: Way, ask: Ask) -> Answer {
        self.client(way).await.ask(ask).await
    }

    /// The head of an answer on a TCP connection of its own.
    pub async fn open(&self, ask: Ask) -> Opened {
        self.client(Way::Tcp(Http::One)).await.open(ask).await
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.ask(Ask::get(target)).await
    }

    pub async fn post(&self, target: &str, json: &str) -> Answer {
        self.ask(Ask::post(target, json.to_owned())).await
    }

    // Administration.

    /// Status and body of a page of the admin socket.
    pub fn admin(&self, method: &str, path: &str) -> (u16, String) {
        admin::ask(&self.admin_socket(), method, path).expect("the admin socket answers")
    }

    pub fn admin_put(&self, path: &str, body: &str) -> (u16, String) {
        admin::put(&self.admin_socket(), path, body).expect("the admin socket answers")
    }

    pub fn status(&self) -> Value {
        let (status, page) = self.admin("GET", "/status");
        assert_eq!(status, 200, "{page}");
        serde_json::from_str(&page).unwrap()
    }

    /// The value of a metric, by its name and labels as they stand on the page; 0 if it is not there.
    pub fn metric(&self, series: &str) -> f64 {
        let (status, page) = self.admin("GET", "/metrics");
        assert_eq!(status, 200, "{page}");
        page.lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
            .unwrap_or(0.0)
    }

    // Signals.

    pub fn signal(&self, signal: Signal) {
        kill(self.nix_pid(), signal).unwrap();
    }

    fn nix_pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// Sends SIGHUP and waits until the reload is over, whatever its outcome.
    pub async fn reload(&self) {
        let before = self.notified.len();
        self.signal(Signal::SIGHUP);
        self.notified
            .find_after(before, "READY=1 after SIGHUP", |notice| {
                notice.says("READY=1")
            })
            .await;
    }

    /// Replaces the configuration, without a word to the daemon.
    pub fn change(&mut self, change: impl FnOnce(Setup) -> Setup) {
        // A stand-in for the moment in which the setup is taken apart.
        let setup = std::mem::replace(&mut self.setup, Setup::at("http://127.0.0.1:1"));
        self.setup = change(setup);
        self.setup.write();
    }

    /// Replaces the configuration and reloads.
    pub async fn reload_with(&mut self, change: impl FnOnce(Setup) -> Setup) {
        self.change(change);
        self.reload().await;
    }

    /// Sends SIGTERM and waits for the end.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.exit().await
    }

    /// Waits for the end, and for all that was said before it.
    pub async fn exit(&mut self) -> ExitStatus {
        let mut status = self.exited;
        until("the daemon ended", || {
            status = status.or_else(|| self.child.try_wait().unwrap());
            status.is_some()
        })
        .await;
        self.exited = status;
        until("its last words were read", || self.threads[0].is_finished()).await;
        status.unwrap()
    }

    pub fn is_running(&mut self) -> bool {
        if self.exited.is_none() {
            self.exited = self.child.try_wait().unwrap();
        }
        self.exited.is_none()
    }

    // What it says and how it fares.

    /// All it logged so far.
    pub fn text(&self) -> String {
        self.log.all().join("\n")
    }

    /// Waits for a log line that fits and returns its fields.
    #[track_caller]
    pub fn logged(
        &self,
        what: impl Into<String>,
        mut fits: impl FnMut(&Value) -> bool,
    ) -> impl Future<Output = Value> {
        let what = format!("a log line: {}", what.into());
        let found = self.log.find(what, move |line| fits(&fields(line)));
        async move { fields(&found.await) }
    }

    /// Waits until the request with this id is logged.
    #[track_caller]
    pub fn logged_request(&self, id: &str) -> impl Future<Output = Value> {
        let id = id.to_owned();
        self.logged(format!("request {id}"), move |line| {
            line["request_id"] == *id && line["msg"] == "request"
        })
    }

    /// The log lines of requests with this id, once everything that could be among them is there.
    pub async fn requests_logged(&self, id: &str) -> Vec<Value> {
        self.logged_request(id).await;
        // Lines are written in order: when this one has come, so has all before it.
        let last = format!("after-{id}");
        self.ask(Ask::get("/healthz").header("x-request-id", &last))
            .await;
        self.logged_request(&last).await;
        let lines = self.log.all();
        lines
            .iter()
            .map(|line| fields(line))
            .filter(|line| line["request_id"] == *id && line["msg"] == "request")
            .collect()
    }

    /// A value of `/proc/PID/status`, such as `VmHWM`, in KiB where it is a size.
    pub fn proc_status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .and_then(|value| value.split_whitespace().next()?.parse().ok())
            .unwrap()
    }
}

/// A log line's fields; null for what is no JSON.
pub fn fields(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_default()
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = kill(self.nix_pid(), Signal::SIGCONT);
            // A second panic would end all tests.
            let searched: &[&str] = if std::thread::panicking() {
                &[]
            } else {
                &["/status", "/metrics"]
            };
            for page in searched {
                // Asking is searching.
                let _ = admin::ask(&self.admin_socket(), "GET", page);
            }
            if !searched.is_empty()
                && let Ok(environment) = std::fs::read(format!("/proc/{}/environ", self.pid()))
            {
                let environment = String::from_utf8_lossy(&environment);
                secrets::assert_none("the environment", &environment);
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        hang_up(&self.path("notify.sock"));
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let text = self.text();
        if std::thread::panicking() {
            let tail = text.len().saturating_sub(8000);
            eprintln!("the daemon's log:\n{}", text.get(tail..).unwrap_or(&text));
            return;
        }
        for line in text.lines() {
            secrets::assert_none("the log", line);
            assert!(!line.contains("panicked at"), "{text}");
        }
        let audited = std::fs::read(self.path("audit.log")).unwrap_or_default();
        for line in String::from_utf8_lossy(&audited).lines() {
            secrets::assert_none("the audit", line);
        }
        for notice in self.notified.all() {
            secrets::assert_none("a notice to the service manager", &notice.text);
        }
    }
}

fn follow(stderr: ChildStderr, log: Arc<Journal<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            log.push(line);
        }
    })
}

fn listen(manager: UnixDatagram, notified: Arc<Journal<Notice>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(len @ 1..) = manager.recv(&mut buffer) {
            notified.push(Notice {
                at: Instant::now(),
                text: String::from_utf8_lossy(&buffer[..len]).into_owned(),
            });
        }
    })
}

/// An empty datagram ends [`listen`].
fn hang_up(manager: &Path) {
    if let Ok(socket) = UnixDatagram::unbound() {
        let _ = socket.send_to(&[], manager);
    }
}

/// The shell puts its own process id, which will be the daemon's, where systemd puts it.
fn activated(setup: &Setup) -> Command {
    let mut command = process::command(setup.dir());
    let names: Vec<_> = setup
        .inherited
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\""])
        .arg(command.get_program())
        .env_clear()
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("LISTEN_FDS", names.len().to_string())
        .env("LISTEN_FDNAMES", names.join(":"))
        .current_dir(setup.dir())
        .stdin(Stdio::null());
    command = shell;
    let sockets: Vec<OwnedFd> = setup
        .inherited
        .iter()
        .map(|(_, socket)| socket.try_clone().unwrap())
        .collect();
    // SAFETY: only async-signal-safe calls between fork and exec.
    unsafe {
        command.pre_exec(move || {
            // First out of the way: a source may have the number that another is to get.
            let mut moved = [0; 8];
            for (slot, socket) in moved.iter_mut().zip(&sockets) {
                *slot = libc::fcntl(socket.as_raw_fd(), libc::F_DUPFD, 100);
            }
            for (target, source) in (3..).zip(&moved[..sockets.len()]) {
                libc::dup2(*source, target);
                libc::close(*source);
            }
            Ok(())
        });
    }
    command
}

/// A test that is killed leaves no daemon behind.
pub fn die_with_parent(command: &mut Command) {
    // SAFETY: one async-signal-safe call between fork and exec.
    unsafe {
        command.pre_exec(|| {
            #[cfg(target_os = "linux")]
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}

fn limit(command: &mut Command, resource: Resource, limit: u64) {
    // SAFETY: one async-signal-safe call between fork and exec.
    unsafe {
        command.pre_exec(move || Ok(setrlimit(resource, limit, limit)?));
    }
}

/// Waits until something is logged by a daemon that may end meanwhile.
pub async fn ended_with(daemon: &mut Daemon) -> (Option<i32>, String) {
    let status = within("the daemon ended", daemon.exit()).await;
    (status.code(), daemon.text())
}
