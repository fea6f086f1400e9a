//! Byte streams to upstreams, and the one buffer they are read through.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connected byte stream: TCP, TLS over TCP, or a Unix socket.
pub type Io = Box<dyn Transport>;

pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

/// The most that is read at a time, and so the most of a body that waits for a slow client.
const MAX_READ: usize = 64 * 1024;

thread_local! {
    /// Whoever reads has bytes the next moment or waits: a buffer of its own for each
    /// connection would do nothing but lie there, thousands of times for event streams.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; MAX_READ].into());
}

/// Reads what is there and appends it to `into`; 0 at the end.
pub fn poll_read(
    io: &mut Io,
    into: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buffer = ReadBuf::new(scratch);
        let polled = Pin::new(io).poll_read(cx, &mut buffer);
        polled.map_ok(|()| {
            into.extend_from_slice(buffer.filled());
            buffer.filled().len()
        })
    })
}
