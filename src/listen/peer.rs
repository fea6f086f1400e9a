//! Who is at the other end.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;

/// The client of a connection, as the kernel knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Unix {
        uid: u32,
        gid: u32,
        /// `None` where the kernel does not say, as for a process of another container.
        pid: Option<i32>,
    },
    Tcp(SocketAddr),
}

impl Peer {
    /// Who called connect(2): the kernel noted it then, so it cannot change later.
    #[cfg(target_os = "linux")]
    pub fn of_unix(stream: &UnixStream) -> io::Result<Self> {
        use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
        let known = getsockopt(stream, PeerCredentials)?;
        Ok(Self::Unix {
            uid: known.uid(),
            gid: known.gid(),
            pid: (known.pid() != 0).then_some(known.pid()),
        })
    }

    /// The user and the primary group, where the kernel knows them.
    pub fn user(&self) -> Option<(u32, u32)> {
        match self {
            Self::Unix { uid, gid, .. } => Some((*uid, *gid)),
            Self::Tcp(_) => None,
        }
    }

    #[cfg(target_os = "macos")]
    pub fn of_unix(stream: &UnixStream) -> io::Result<Self> {
        use nix::sys::socket::{getsockopt, sockopt::LocalPeerPid};
        let (uid, gid) = nix::unistd::getpeereid(stream)?;
        Ok(Self::Unix {
            uid: uid.as_raw(),
            gid: gid.as_raw(),
            pid: getsockopt(stream, LocalPeerPid).ok(),
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix {
                uid,
                pid: Some(pid),
                ..
            } => write!(f, "uid={uid} pid={pid}"),
            Self::Unix { uid, pid: None, .. } => write!(f, "uid={uid}"),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}
