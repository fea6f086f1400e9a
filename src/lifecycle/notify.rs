//! The service manager's end of the line: sd_notify(3).
//!
//! The words are sd-notify's. The sending is ours: sd-notify looks the environment
//! up for each message, though the daemon wipes it after the start, and it does
//! not reach the abstract sockets that container managers use.

use std::fmt::Write;
use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;
use slog::{Logger, warn};

/// A manager that does not read must not stop the event loop that feeds its watchdog.
const PATIENCE: Duration = Duration::from_millis(250);

pub struct Notifier {
    /// `None` when no service manager wants to know.
    manager: Option<Manager>,
    watchdog: Option<Duration>,
    log: Logger,
}

struct Manager {
    socket: UnixDatagram,
    /// Looked up for each message, so that a manager that opened its socket anew is found.
    address: SocketAddr,
}

impl Notifier {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`, once.
    pub fn from_env(env: &dyn Fn(&str) -> Option<String>, log: Logger) -> Self {
        let manager = env("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let manager = manager.and_then(|name| {
            Manager::new(&name)
                .inspect_err(
                    |error| warn!(log, "NOTIFY_SOCKET is unusable"; "socket" => &name, "error" => %error),
                )
                .ok()
        });
        Self {
            manager,
            watchdog: watchdog(env),
            log,
        }
    }

    /// Tells nobody.
    pub fn none() -> Self {
        Self {
            manager: None,
            watchdog: None,
            log: Logger::root(slog::Discard, slog::o!()),
        }
    }

    pub(super) fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog
    }

    pub(super) fn send(&self, states: &[NotifyState]) {
        let Some(manager) = &self.manager else { return };
        let mut message = String::new();
        for state in states {
            let _ = writeln!(message, "{state}");
        }
        if let Err(error) = manager
            .socket
            .send_to_addr(message.as_bytes(), &manager.address)
        {
            warn!(self.log, "the service manager cannot be told";
                "message" => message.trim_end(), "error" => %error);
        }
    }
}

impl Manager {
    fn new(name: &str) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            socket,
            address: address(name)?,
        })
    }
}

/// `@name` is Linux's abstract namespace, everything else must be an absolute path.
fn address(name: &str) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = name.strip_prefix('@') {
        use std::os::linux::net::SocketAddrExt;
        return SocketAddr::from_abstract_name(name);
    }
    if !name.starts_with('/') {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "neither an absolute path nor an abstract socket",
        ));
    }
    SocketAddr::from_pathname(name)
}

/// Half the time within which systemd wants to hear from us, as sd_watchdog_enabled(3) advises.
fn watchdog(env: &dyn Fn(&str) -> Option<String>) -> Option<Duration> {
    let micros: u64 = env("WATCHDOG_USEC")?.parse().ok()?;
    let ours = env("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
    (ours && micros > 1).then(|| Duration::from_micros(micros) / 2)
}
