//! Byte streams to upstreams.

use tokio::io::{AsyncRead, AsyncWrite};

/// A connected byte stream: TCP, TLS over TCP, or a Unix socket.
pub type Io = Box<dyn Transport>;

pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}
