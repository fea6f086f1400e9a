//! A connection's byte stream.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use super::{Connection, tls};
use crate::config::ServerTls;
use crate::listen;

/// How long a peer may go on sending after its answer.
pub const LINGER: Duration = Duration::from_secs(2);

pub enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Registers an accepted stream with the current thread's event loop.
    pub fn adopt(stream: listen::Stream) -> io::Result<Self> {
        Ok(match stream {
            listen::Stream::Unix(stream) => Self::Unix(UnixStream::from_std(stream)?),
            listen::Stream::Tcp(stream, _) => {
                let stream = TcpStream::from_std(stream)?;
                stream.set_nodelay(true)?;
                Self::Tcp(stream)
            }
        })
    }

    /// Behind the handshake that a TCP listener with TLS wants.
    pub async fn secure(
        self,
        tls: Option<&ServerTls>,
        connection: &Connection,
    ) -> io::Result<Self> {
        match (self, tls) {
            (Self::Tcp(stream), Some(tls)) => {
                tls::accept(stream, tls, connection).await.map(Self::Tls)
            }
            (stream, _) => Ok(stream),
        }
    }

    /// What the TLS handshake settled (RFC 7301), if it did.
    pub fn agreed_protocol(&self) -> Option<&[u8]> {
        match self {
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol(),
            Self::Unix(_) | Self::Tcp(_) => None,
        }
    }

    /// Whether the peer has closed its end, though what it sent before is not read yet.
    pub fn has_left(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let ready = match self {
            Self::Unix(stream) => pin!(stream.ready(Interest::READABLE)).poll(&mut cx),
            Self::Tcp(stream) => pin!(stream.ready(Interest::READABLE)).poll(&mut cx),
            Self::Tls(stream) => pin!(stream.get_ref().0.ready(Interest::READABLE)).poll(&mut cx),
        };
        matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }
}

/// Ends a stream in order. `lingers`: reads on until the peer has seen our end, or for
/// [`LINGER`]; closing on one that still sends would reset the connection, and take the
/// answer with it.
pub async fn end(mut stream: Stream, lingers: bool) {
    let ending = async {
        stream.shutdown().await?;
        let mut discarded = vec![0; if lingers { 16 * 1024 } else { 0 }];
        while lingers && stream.read(&mut discarded).await? > 0 {}
        io::Result::Ok(())
    };
    // How it ends is nobody's concern any more.
    let _ = tokio::time::timeout(LINGER, ending).await;
}

/// Calls a method on whichever stream it is.
macro_rules! either {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Unix($inner) => $call,
            Stream::Tcp($inner) => $call,
            Stream::Tls($inner) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self.get_mut(), s => Pin::new(s).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), s => Pin::new(s).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), s => Pin::new(s).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), s => Pin::new(s).poll_shutdown(cx))
    }

    fn is_write_vectored(&self) -> bool {
        either!(self, s => s.is_write_vectored())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), s => Pin::new(s).poll_write_vectored(cx, bufs))
    }
}

/// What hyper serves HTTP/2 on: a stream whose connection is told of its progress.
pub struct Watched {
    /// Read before it was known what is spoken.
    front: Bytes,
    stream: Stream,
    connection: Arc<Connection>,
}

impl Watched {
    pub fn new(front: Bytes, stream: Stream, connection: Arc<Connection>) -> Self {
        Self {
            front,
            stream,
            connection,
        }
    }

    fn note_write<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.connection.activity.wrote(polled.is_pending());
        polled
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.front.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let length = this.front.len().min(buf.remaining());
        buf.put_slice(&this.front[..length]);
        this.front.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.note_write(polled)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.connection.is_suspected() && this.stream.has_left() {
            this.connection.leave();
        }
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.note_write(polled)
    }
}
