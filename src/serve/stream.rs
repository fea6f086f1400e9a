//! A connection's byte stream, with everything that passes noted in its [`Activity`].
//!
//! [`Activity`]: super::activity::Activity

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::Connection;
use crate::listen;

pub enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
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
}

/// Calls a method on whichever stream it is.
macro_rules! either {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Unix($inner) => $call,
            Stream::Tcp($inner) => $call,
        }
    };
}

pub struct Watched {
    stream: Stream,
    connection: Arc<Connection>,
}

impl Watched {
    pub fn new(stream: Stream, connection: Arc<Connection>) -> Self {
        Self { stream, connection }
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
        let before = buf.filled().len();
        ready!(either!(&mut this.stream, s => Pin::new(s).poll_read(cx, buf)))?;
        this.connection.activity.read(&buf.filled()[before..]);
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
        let polled = either!(&mut this.stream, s => Pin::new(s).poll_write(cx, buf));
        this.note_write(polled)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut self.get_mut().stream, s => Pin::new(s).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut self.get_mut().stream, s => Pin::new(s).poll_shutdown(cx))
    }

    fn is_write_vectored(&self) -> bool {
        either!(&self.stream, s => s.is_write_vectored())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = either!(&mut this.stream, s => Pin::new(s).poll_write_vectored(cx, bufs));
        this.note_write(polled)
    }
}
