//! Listening sockets handed over: systemd's `LISTEN_FDS` (sd_listen_fds(3)), launchd's by name.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{SocketAddr as UnixSocketAddr, UnixListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, SockType, SockaddrLike, SockaddrStorage, getsockname, getsockopt, sockopt,
};

use super::{ListenError, Socket};
use crate::config::{ListenAddress, UnixAddress};

#[cfg(target_os = "macos")]
mod launchd;

const FIRST: RawFd = 3;

/// A listening socket that somebody else opened for us.
#[derive(Debug)]
pub struct Inherited {
    /// From `FileDescriptorName=`; systemd's own default is the socket unit's name.
    pub name: String,
    pub(super) address: ListenAddress,
    pub(super) socket: Socket,
}

impl Inherited {
    /// Takes all that was handed over, in order. The second call finds nothing: the
    /// descriptors have their owner then.
    ///
    /// Call it before anything opens sockets: the announcement counts descriptors from 3.
    pub fn take(env: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Self>, ListenError> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Ordering::SeqCst) {
            return Ok(Vec::new());
        }
        let mut handed = Vec::new();
        for (fd, name) in announced(env)? {
            handed.push(Self::adopt(claim(fd, &name)?, name)?);
        }
        #[cfg(target_os = "macos")]
        for (fd, name) in launchd::activated() {
            handed.push(Self::adopt(fd, name)?);
        }
        Ok(handed)
    }

    /// Where it listens.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Whether it listens at `address`; mode, owner and group do not count.
    pub fn serves(&self, address: &ListenAddress) -> bool {
        super::same(&self.address, address)
    }

    fn adopt(fd: OwnedFd, name: String) -> Result<Self, ListenError> {
        match prepare(fd) {
            Ok((socket, address)) => Ok(Self {
                name,
                address,
                socket,
            }),
            Err(source) => Err(refused(&name, format!("cannot be used: {source}"))),
        }
    }
}

fn refused(name: &str, problem: impl Into<String>) -> ListenError {
    ListenError::Inherited {
        what: format!("the socket `{name}`"),
        problem: problem.into(),
    }
}

/// The descriptors meant for this very process, with their names.
fn announced(env: &dyn Fn(&str) -> Option<String>) -> Result<Vec<(RawFd, String)>, ListenError> {
    let wrong = |variable: &str, problem: &str| ListenError::Inherited {
        what: variable.into(),
        problem: problem.into(),
    };
    let (Some(count), Some(pid)) = (env("LISTEN_FDS"), env("LISTEN_PID")) else {
        return Ok(Vec::new());
    };
    // A parent's leftovers: what was meant for it is not ours.
    if pid != std::process::id().to_string() {
        return Ok(Vec::new());
    }
    let count: u16 = count
        .parse()
        .map_err(|_| wrong("LISTEN_FDS", "is no count"))?;
    let fds = FIRST..FIRST + RawFd::from(count);
    let names: Vec<String> = match env("LISTEN_FDNAMES") {
        Some(names) => names.split(':').map(str::to_owned).collect(),
        None => vec!["unknown".to_owned(); fds.len()],
    };
    if names.len() != fds.len() && count > 0 {
        return Err(wrong(
            "LISTEN_FDNAMES",
            "does not have one name for each of LISTEN_FDS",
        ));
    }
    Ok(fds.zip(names).collect())
}

/// Becomes the owner of an announced descriptor, but only if it is what it should be: where the
/// announcement is wrong, the number may belong to something of our own.
fn claim(fd: RawFd, name: &str) -> Result<OwnedFd, ListenError> {
    // SAFETY: F_GETFD only asks whether the number is an open descriptor.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(refused(name, format!("is not open (descriptor {fd})")));
    }
    // SAFETY: it is open, and borrowed for this one question.
    check(unsafe { BorrowedFd::borrow_raw(fd) }).map_err(|problem| refused(name, problem))?;
    // SAFETY: it is an open listening socket that the service manager passed to this process, and
    // `take`, which runs once and before we listen ourselves, is the only one to claim it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A connected or a datagram socket would make the accept loop fail for ever.
fn check(fd: BorrowedFd) -> Result<(), &'static str> {
    let kind = getsockopt(&fd, sockopt::SockType).map_err(|_| "is no socket")?;
    if kind != SockType::Stream || !getsockopt(&fd, sockopt::AcceptConn).unwrap_or(false) {
        return Err("is not listening for streams");
    }
    Ok(())
}

fn prepare(fd: OwnedFd) -> io::Result<(Socket, ListenAddress)> {
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    let name: SockaddrStorage = getsockname(fd.as_raw_fd())?;
    match name.family() {
        Some(AddressFamily::Unix) => {
            let listener = UnixListener::from(fd);
            listener.set_nonblocking(true)?;
            let path = path(&listener.local_addr()?);
            // The permissions are the socket unit's business.
            let address = UnixAddress {
                path,
                mode: 0,
                owner: None,
                group: None,
            };
            Ok((Socket::Unix(listener), ListenAddress::Unix(address)))
        }
        Some(AddressFamily::Inet | AddressFamily::Inet6) => {
            let listener = TcpListener::from(fd);
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((Socket::Tcp(listener), ListenAddress::Tcp(address)))
        }
        _ => Err(io::Error::other("it is neither a Unix nor a TCP socket")),
    }
}

/// The file's path; `@name` for Linux's abstract namespace; empty for a socket without a name.
fn path(address: &UnixSocketAddr) -> PathBuf {
    #[cfg(target_os = "linux")]
    {
        use std::os::linux::net::SocketAddrExt;
        if let Some(name) = address.as_abstract_name() {
            return format!("@{}", String::from_utf8_lossy(name)).into();
        }
    }
    address.as_pathname().map(PathBuf::from).unwrap_or_default()
}

#[cfg(test)]
mod tests;
