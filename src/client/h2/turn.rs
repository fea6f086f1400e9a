//! What a connection may read before everybody else on its event loop has had a turn.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::client::io::Io;

/// Bytes in a turn: two frames of the usual largest size.
///
/// The codec keeps interim answers until their request's task takes them, which it can when the turn is over. A few
/// bytes make one that takes a kilobyte.
const LIMIT: usize = 32 * 1024;

pub struct Turns {
    io: Io,
    left: usize,
}

impl Turns {
    pub fn of(io: Io) -> Self {
        Self { io, left: LIMIT }
    }
}

impl AsyncRead for Turns {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        if self.left == 0 {
            self.left = LIMIT;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        self.left = match polled {
            Poll::Ready(_) => self.left.saturating_sub(buffer.filled().len() - before),
            Poll::Pending => LIMIT,
        };
        polled
    }
}

impl AsyncWrite for Turns {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// How many bytes a reader gets until it has to wait, though more are there.
    async fn a_turn(turns: &mut Turns) -> usize {
        let mut got = 0;
        poll_fn(|cx| {
            loop {
                let mut space = [0; 10_000];
                let mut buffer = ReadBuf::new(&mut space);
                match Pin::new(&mut *turns).poll_read(cx, &mut buffer) {
                    Poll::Ready(done) => done.unwrap(),
                    Poll::Pending => return Poll::Ready(got),
                }
                got += buffer.filled().len();
            }
        })
        .await
    }

    #[tokio::test]
    async fn a_flood_is_read_in_turns_and_whole() {
        let (ours, mut theirs) = duplex(1 << 20);
        theirs.write_all(&[7; 100_000]).await.unwrap();
        drop(theirs);
        let mut turns = Turns::of(Box::new(ours));
        assert_eq!(a_turn(&mut turns).await, 40_000);
        assert_eq!(a_turn(&mut turns).await, 40_000);
        // Whoever waits is woken.
        let mut rest = Vec::new();
        turns.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, [7; 20_000]);
    }

    #[tokio::test]
    async fn a_wait_for_the_peer_is_the_end_of_a_turn() {
        let (ours, mut theirs) = duplex(1 << 20);
        let mut turns = Turns::of(Box::new(ours));
        for _ in 0..3 {
            theirs.write_all(&[7; 30_000]).await.unwrap();
            assert_eq!(a_turn(&mut turns).await, 30_000);
        }
    }
}
