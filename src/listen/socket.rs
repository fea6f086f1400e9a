//! The listening socket itself, and what it yields.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};

use nix::sys::socket::Backlog;

use super::{Owner, Peer};

/// Connections that wait to be accepted while a worker is busy. The kernel may allow fewer.
const BACKLOG: i32 = 1024;

/// An accepted connection: non-blocking, close-on-exec, registered with no runtime.
#[derive(Debug)]
pub enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream, SocketAddr),
}

impl Stream {
    /// Our own end's address, for TCP.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Unix(_) => None,
            Self::Tcp(stream, _) => stream.local_addr().ok(),
        }
    }

    /// Who holds the other end of a Unix socket; TCP takes longer, see [`Owner::of_tcp`].
    pub fn owner(&self, peer: &Peer, with_program: bool) -> Option<Owner> {
        match self {
            Self::Unix(stream) => Some(Owner::of_unix(stream, peer, with_program)),
            Self::Tcp(..) => None,
        }
    }

    /// Who is at the other end, as the kernel says.
    pub fn peer(&self) -> io::Result<Peer> {
        match self {
            Self::Unix(stream) => Peer::of_unix(stream),
            Self::Tcp(_, address) => Ok(Peer::Tcp(*address)),
        }
    }

    /// A last word, if it can be said at once.
    pub fn try_write(&self, bytes: &[u8]) {
        let _ = match self {
            Self::Unix(stream) => (&*stream).write(bytes),
            Self::Tcp(stream, _) => (&*stream).write(bytes),
        };
    }
}

#[derive(Debug)]
pub(super) enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Socket {
    pub fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok(Stream::Unix(stream))
            }
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                stream.set_nonblocking(true)?;
                // An event of a stream must not wait for the acknowledgement of the one before.
                stream.set_nodelay(true)?;
                // A dual-stack socket shows 127.0.0.1 as ::ffff:127.0.0.1.
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                Ok(Stream::Tcp(stream, peer))
            }
        }
    }

    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Unix(_) => None,
            Self::Tcp(listener) => listener.local_addr().ok(),
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener) => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }
}

/// std's own backlog is 128. Listening again changes it.
pub(super) fn deepen_backlog(listener: &impl AsFd) -> io::Result<()> {
    let backlog = Backlog::new(BACKLOG).unwrap_or(Backlog::MAXCONN);
    Ok(nix::sys::socket::listen(listener, backlog)?)
}
