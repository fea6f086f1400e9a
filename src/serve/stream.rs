//! A connection's byte stream, with everything that passes noted in its [`Activity`].
//!
//! [`Activity`]: super::activity::Activity

use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

use super::{Connection, tls};
use crate::config::ServerTls;
use crate::listen;

/// How long a peer may go on sending after its answer.
const LINGER: Duration = Duration::from_secs(2);
const PIECES_PER_TURN: usize = 16;

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
}

/// Calls a method on whichever stream it is.
macro_rules! either {
    ($shared:expr, $inner:ident => $call:expr) => {
        match &mut *$shared.lock() {
            Stream::Unix($inner) => $call,
            Stream::Tcp($inner) => $call,
            Stream::Tls($inner) => $call,
        }
    };
}

/// Looks for the end of what comes in, and leaves there what it finds.
macro_rules! left {
    ($stream:expr, $cx:expr) => {
        loop {
            if ready!($stream.poll_read_ready($cx)).is_err() {
                break Poll::Ready(());
            }
            let fd = $stream.as_raw_fd();
            let look = || recv(fd, &mut [0], MsgFlags::MSG_PEEK).map_err(io::Error::from);
            match $stream.try_io(Interest::READABLE, look) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(1..) => break Poll::Pending,
                Ok(0) | Err(_) => break Poll::Ready(()),
            }
        }
    };
}

/// A stream that is served, for whoever looks at it from outside meanwhile.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Stream>>);

impl Shared {
    pub fn new(stream: Stream) -> Self {
        Self(Arc::new(Mutex::new(stream)))
    }

    /// Whether the peer has closed its end and everything it sent before was read.
    ///
    /// Says nothing while bytes wait to be read, and of TLS, whose end is among the bytes.
    pub fn poll_left(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &*self.lock() {
            Stream::Unix(stream) => left!(stream, cx),
            Stream::Tcp(stream) => left!(stream, cx),
            Stream::Tls(_) => Poll::Pending,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Stream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a server reads: its thread alone locks the stream, for the time of one call.
pub struct Watched {
    stream: Shared,
    connection: Arc<Connection>,
    lingering: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    pub fn new(stream: Shared, connection: Arc<Connection>) -> Self {
        Self {
            stream,
            connection,
            lingering: None,
        }
    }

    fn note_write<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.connection.activity.wrote(polled.is_pending());
        polled
    }
}

impl Watched {
    /// Throws away what still comes, until the peer has seen our end or [`LINGER`] is over.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let timer = self
            .lingering
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut discarded = [0; 16 * 1024];
        for _ in 0..PIECES_PER_TURN {
            let mut buf = ReadBuf::new(&mut discarded);
            ready!(either!(self.stream, s => Pin::new(s).poll_read(cx, &mut buf)))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        // Others on this event loop want their turn too.
        cx.waker().wake_by_ref();
        Poll::Pending
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
        ready!(either!(this.stream, s => Pin::new(s).poll_read(cx, buf)))?;
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
        let polled = either!(this.stream, s => Pin::new(s).poll_write(cx, buf));
        this.note_write(polled)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut().stream, s => Pin::new(s).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            ready!(either!(this.stream, s => Pin::new(s).poll_shutdown(cx)))?;
        }
        if this.connection.activity.is_lingering() {
            this.poll_linger(cx)
        } else {
            Poll::Ready(Ok(()))
        }
    }

    fn is_write_vectored(&self) -> bool {
        either!(self.stream, s => s.is_write_vectored())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = either!(this.stream, s => Pin::new(s).poll_write_vectored(cx, bufs));
        this.note_write(polled)
    }
}
