//! Loopback TCP.

use std::io;
use std::net::{SocketAddr, TcpListener};

use super::{ListenError, Stream};

/// std sets `SO_REUSEADDR`: connections of the daemon before us do not keep the port.
pub(super) fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let open = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        super::socket::deepen_backlog(&listener)?;
        Ok(listener)
    };
    open().map_err(|source| ListenError::Tcp { address, source })
}

pub(super) fn accept(listener: &TcpListener) -> io::Result<Stream> {
    let (stream, peer) = listener.accept()?;
    stream.set_nonblocking(true)?;
    // An event of a stream must not wait for the acknowledgement of the one before.
    stream.set_nodelay(true)?;
    // A dual-stack socket shows 127.0.0.1 as ::ffff:127.0.0.1.
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    Ok(Stream::Tcp(stream, peer))
}
