//! What keeps a listener from opening, and what an accept may meet: in the operator's words.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use nix::errno::Errno;

use crate::config::ListenAddress;

/// Why a listener did not open: what, where, and what to do next.
#[derive(Debug)]
pub enum ListenError {
    /// Something that is no socket is at the path; it was not touched.
    NotASocket(PathBuf),
    /// Somebody answers at the path.
    InUse(PathBuf),
    /// The path does not fit into a socket address.
    TooLong { path: PathBuf, limit: usize },
    Unix {
        path: PathBuf,
        doing: &'static str,
        source: io::Error,
    },
    Tcp {
        address: SocketAddr,
        source: io::Error,
    },
    /// What the service manager handed over cannot be served.
    Inherited { what: String, problem: String },
    /// The event loop refused the socket.
    Register {
        address: ListenAddress,
        source: io::Error,
    },
}

impl ListenError {
    /// Whether it is the operating system that forbids it.
    pub fn is_permission(&self) -> bool {
        match self {
            Self::Unix { source, .. }
            | Self::Tcp { source, .. }
            | Self::Register { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            _ => false,
        }
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotASocket(path) => write!(
                f,
                "{} exists and is no socket, so it was left alone: remove it or choose another path",
                path.display()
            ),
            Self::InUse(path) => write!(
                f,
                "{} is already in use by a running process: stop that or choose another path",
                path.display()
            ),
            Self::TooLong { path, limit } => write!(
                f,
                "the socket path {} is too long for the operating system: choose one of at most {limit} bytes",
                path.display()
            ),
            Self::Unix {
                path,
                doing,
                source,
            } => {
                write!(
                    f,
                    "cannot {doing} {}: {source}{}",
                    path.display(),
                    unix_advice(source)
                )
            }
            Self::Tcp { address, source } => fmt_tcp(*address, source, f),
            Self::Inherited { what, problem } => {
                write!(
                    f,
                    "{what}, handed over by the service manager, {problem}: correct the socket unit"
                )
            }
            Self::Register { address, source } => {
                write!(f, "{address} is open but cannot be watched: {source}")
            }
        }
    }
}

fn unix_advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            ": run the daemon as a user who may do this, or choose another path, owner or group"
        }
        io::ErrorKind::ReadOnlyFilesystem => ": choose a path in a writable directory",
        _ => "",
    }
}

fn fmt_tcp(address: SocketAddr, source: &io::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match source.kind() {
        io::ErrorKind::AddrInUse => write!(
            f,
            "{address} is already in use by another process: stop that, or set MCP_LISTEN_ADDR to another address or to `off`"
        ),
        io::ErrorKind::AddrNotAvailable => write!(
            f,
            "{address} is no address of this host: set MCP_LISTEN_ADDR to another address or to `off`"
        ),
        io::ErrorKind::PermissionDenied => write!(
            f,
            "not allowed to listen on {address}: choose a port from 1024 up, or grant CAP_NET_BIND_SERVICE"
        ),
        _ => write!(f, "cannot listen on {address}: {source}"),
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unix { source, .. }
            | Self::Tcp { source, .. }
            | Self::Register { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// An accept that yielded nothing. Neither kind ends the listener.
#[derive(Debug)]
pub enum AcceptError {
    /// That connection was broken before it began: take the next at once.
    Peer(io::Error),
    /// The host lacks descriptors or memory: log it, wait a moment, go on. At once would spin.
    Exhausted(io::Error),
}

impl From<io::Error> for AcceptError {
    /// accept(2) reports errors that are already pending on the new connection, and says to
    /// treat them like no connection. Anything unheard of counts as exhaustion, which cannot spin.
    fn from(error: io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(
                Errno::ECONNABORTED
                | Errno::ECONNRESET
                | Errno::EINTR
                | Errno::EPERM
                | Errno::EPROTO
                | Errno::ENOPROTOOPT
                | Errno::EOPNOTSUPP
                | Errno::ENETDOWN
                | Errno::ENETUNREACH
                | Errno::EHOSTDOWN
                | Errno::EHOSTUNREACH
                | Errno::ETIMEDOUT,
            ) => Self::Peer(error),
            _ => Self::Exhausted(error),
        }
    }
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(error) => write!(f, "a connection broke before it was accepted: {error}"),
            Self::Exhausted(error) => write!(f, "cannot accept connections for now: {error}"),
        }
    }
}

impl std::error::Error for AcceptError {}
