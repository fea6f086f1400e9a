//! Loopback TCP.

use std::net::{SocketAddr, TcpListener};

use super::ListenError;

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
