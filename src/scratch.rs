//! The one buffer per thread that sockets are read through.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};

/// The most that is read at a time, and so the most of a body that waits for a slow reader.
const MAX_READ: usize = 64 * 1024;

thread_local! {
    /// Whoever reads has bytes the next moment or waits: a buffer of its own for each
    /// connection would do nothing but lie there, thousands of times for event streams.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; MAX_READ].into());
}

/// Reads what is there and appends it to `into`; 0 at the end.
pub fn poll_read<T: AsyncRead + Unpin + ?Sized>(
    io: &mut T,
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
