//! Which user, with which groups and by which program, holds the other end of a connection.
//!
//! On a Unix socket the kernel noted user and groups when the peer called connect(2). For a TCP
//! connection within this host its table of sockets names the user; see [`tcp`]. What the kernel
//! does not tell is [`Known::Unknown`], with the reason for the log.

mod program;
#[cfg(target_os = "linux")]
mod tcp;
mod unix;

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};

use super::Peer;
use crate::config::{Known, Who};

/// The owner of a connection's other end.
#[derive(Debug)]
pub struct Owner {
    pub user: Known<u32>,
    /// The primary one and the supplementary ones.
    pub groups: Known<Box<[u32]>>,
    pub program: Known<PathBuf>,
    /// Why something is unknown.
    pub reason: Option<String>,
}

impl Owner {
    /// Of a Unix socket's other end. `with_program`: the program is looked for, which takes
    /// three system calls more.
    pub fn of_unix(stream: &UnixStream, peer: &Peer, with_program: bool) -> Self {
        let Peer::Unix { uid, gid, pid } = *peer else {
            return Self::unknown("it is no Unix socket");
        };
        let mut reason = None;
        let mut unknown = |error: io::Error, what: &str| {
            reason = Some(format!("its {what}: {error}"));
        };
        let groups = match unix::groups(stream, gid) {
            Ok(groups) => Known::Is(groups),
            Err(error) => {
                unknown(error, "groups");
                Known::Unknown
            }
        };
        let program = match pid {
            Some(pid) if with_program => program::of(stream, pid),
            Some(_) => Err(io::Error::other("it connected before a rule asked")),
            None => Err(io::Error::other("its process is in another PID namespace")),
        };
        let program = match program {
            Ok(program) => Known::Is(program),
            Err(error) => {
                unknown(error, "executable");
                Known::Unknown
            }
        };
        Self {
            user: Known::Is(uid),
            groups,
            program,
            reason,
        }
    }

    /// Of a TCP connection, whose ends are `local` and `peer`. Reads the kernel's table and asks
    /// the user database, so it may block: never on an event loop.
    pub fn of_tcp(local: SocketAddr, peer: SocketAddr) -> Self {
        // A host may have more addresses than that of the listener, so that of the peer alone does
        // not tell: whoever is in the table is of this host.
        match tcp_user(local, peer) {
            Ok(Some(uid)) => Self::of_user(uid),
            Ok(None) if is_of_this_host(local, peer) => {
                Self::unknown("its user: no process of this network namespace holds the other end")
            }
            Ok(None) => Self::elsewhere(),
            Err(error) => Self::unknown(&format!("its user: {error}")),
        }
    }

    /// A user of another host, or none at all.
    fn elsewhere() -> Self {
        Self {
            user: Known::IsNot,
            groups: Known::IsNot,
            program: Known::IsNot,
            reason: None,
        }
    }

    pub fn unknown(reason: &str) -> Self {
        Self {
            user: Known::Unknown,
            groups: Known::Unknown,
            program: Known::Unknown,
            reason: Some(reason.to_owned()),
        }
    }

    fn of_user(uid: u32) -> Self {
        let (groups, reason) = match groups_of(uid) {
            Ok(groups) => (
                Known::Is(groups),
                "its executable: TCP does not tell".to_owned(),
            ),
            Err(error) => (Known::Unknown, format!("its groups: {error}")),
        };
        Self {
            user: Known::Is(uid),
            groups,
            program: Known::Unknown,
            reason: Some(reason),
        }
    }

    /// As rules look at it. `client`: who it proved to be.
    pub fn who<'a>(&'a self, client: Option<&'a str>) -> Who<'a> {
        Who {
            user: self.user,
            groups: self.groups.as_ref().map(AsRef::as_ref),
            program: self.program.as_ref().map(PathBuf::as_path),
            client,
        }
    }

    /// Of whom nothing is known but the name of its token or certificate.
    pub fn nobody(client: Option<&str>) -> Who<'_> {
        Who {
            user: Known::Unknown,
            groups: Known::Unknown,
            program: Known::Unknown,
            client,
        }
    }

    pub fn uid(&self) -> Option<u32> {
        self.user.is()
    }

    pub fn program(&self) -> Option<&Path> {
        self.program.as_ref().map(PathBuf::as_path).is()
    }
}

/// A user's groups by the database: the primary one and those that list it.
fn groups_of(uid: u32) -> io::Result<Box<[u32]>> {
    let user = User::from_uid(Uid::from_raw(uid))?
        .ok_or_else(|| io::Error::other(format!("there is no user {uid} in the user database")))?;
    #[cfg(target_os = "linux")]
    let groups = {
        let name = std::ffi::CString::new(user.name).map_err(io::Error::other)?;
        nix::unistd::getgrouplist(&name, user.gid)?
    };
    #[cfg(not(target_os = "linux"))]
    let groups = [user.gid];
    Ok(groups.iter().map(|group| group.as_raw()).collect())
}

/// By its address alone; others may be too.
fn is_of_this_host(local: SocketAddr, peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback() || peer.ip() == local.ip()
}

#[cfg(target_os = "linux")]
fn tcp_user(local: SocketAddr, peer: SocketAddr) -> io::Result<Option<u32>> {
    tcp::user(local, peer)
}

#[cfg(not(target_os = "linux"))]
fn tcp_user(local: SocketAddr, peer: SocketAddr) -> io::Result<Option<u32>> {
    if is_of_this_host(local, peer) {
        return Err(io::Error::other("this system does not tell for TCP"));
    }
    Ok(None)
}
