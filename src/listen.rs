//! Where clients come in: Unix sockets, loopback TCP, sockets handed over by a service manager.
//!
//! A [`Bound`] accepts on the runtime it was made in, but the streams it yields are
//! registered nowhere: they go to whichever worker thread will serve them.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::config::{ListenAddress, UnixAddress};
pub use error::{AcceptError, ListenError};
pub use inherited::Inherited;
pub use owner::Owner;
pub use peer::Peer;
use socket::Socket;
pub use socket::Stream;
use unix::SocketFile;
pub use unix::connect_within;

mod error;
mod inherited;
mod owner;
mod peer;
mod socket;
mod tcp;
mod unix;

/// A listening socket. Dropping it removes the socket file it made, if that is still its own.
#[derive(Debug)]
pub struct Bound {
    address: ListenAddress,
    inherited: bool,
    /// Dropped before `socket`: while the socket lives no other file can get its inode number.
    file: Mutex<Option<SocketFile>>,
    socket: AsyncFd<Socket>,
}

impl Bound {
    /// Opens `address`. Must be called in the context of a tokio runtime; may block for a
    /// second while another daemon opens a socket in the same directory.
    pub fn bind(address: &ListenAddress) -> Result<Self, ListenError> {
        let (socket, file) = match address {
            ListenAddress::Unix(unix) => {
                let (listener, file) = unix::bind(unix)?;
                (Socket::Unix(listener), Some(file))
            }
            ListenAddress::Tcp(tcp) => (Socket::Tcp(tcp::bind(*tcp)?), None),
        };
        Self::new(address.clone(), socket, file, false)
    }

    /// Serves a socket that was handed over; it is never unlinked and keeps its permissions.
    pub fn inherit(handed: Inherited) -> Result<Self, ListenError> {
        Self::new(handed.address, handed.socket, None, true)
    }

    fn new(
        address: ListenAddress,
        socket: Socket,
        file: Option<SocketFile>,
        inherited: bool,
    ) -> Result<Self, ListenError> {
        let file = Mutex::new(file);
        // SAFETY: `Socket` owns its descriptor and always returns the same one; nothing replaces
        // or closes it while the `AsyncFd` holds it, for `get_ref` alone is used.
        match unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) } {
            Ok(socket) => Ok(Self {
                address,
                inherited,
                file,
                socket,
            }),
            Err(error) => Err(ListenError::Register {
                address,
                source: error.into(),
            }),
        }
    }

    /// As configured; port 0 stays 0 here.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// The TCP address in force, with the port the kernel chose.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.socket.get_ref().local_addr()
    }

    pub fn inherited(&self) -> bool {
        self.inherited
    }

    /// Whether this is the socket for `address`; mode, owner and group do not count.
    pub fn serves(&self, address: &ListenAddress) -> bool {
        same(&self.address, address)
            || self
                .local_addr()
                .is_some_and(|own| same(&ListenAddress::Tcp(own), address))
    }

    /// The next connection.
    pub async fn accept(&self) -> Result<Stream, AcceptError> {
        loop {
            let mut ready = self.socket.readable().await.map_err(AcceptError::from)?;
            match ready.try_io(|socket| socket.get_ref().accept()) {
                Ok(accepted) => return accepted.map_err(AcceptError::from),
                Err(_would_block) => continue,
            }
        }
    }

    /// A connection that waits already, for emptying the queue when draining.
    pub fn try_accept(&self) -> Result<Option<Stream>, AcceptError> {
        match self.socket.get_ref().accept() {
            Ok(stream) => Ok(Some(stream)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the socket file now, so that nobody new finds the way while the queue is emptied.
    pub fn withdraw(&self) {
        self.file().take();
    }

    /// Gives the socket file the mode, owner and group of `wanted`; what was handed over keeps its own.
    pub fn set_permissions(&self, wanted: &UnixAddress) -> Result<(), ListenError> {
        self.file()
            .as_ref()
            .map_or(Ok(()), |file| file.set_permissions(wanted))
    }

    fn file(&self) -> MutexGuard<'_, Option<SocketFile>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For logs: the path, or the address in force.
impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.local_addr() {
            Some(address) => write!(f, "{address}"),
            None => write!(f, "{}", self.address),
        }
    }
}

fn same(a: &ListenAddress, b: &ListenAddress) -> bool {
    match (a, b) {
        (ListenAddress::Unix(a), ListenAddress::Unix(b)) => a.path == b.path,
        (ListenAddress::Tcp(a), ListenAddress::Tcp(b)) => a == b,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
