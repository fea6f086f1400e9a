//! Reading on the event loop, without a mode that others who share the descriptor would notice.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::BUFFER;
use super::lines::{Line, Lines};

pub struct Ready {
    input: AsyncFd<File>,
    buffer: Box<[u8]>,
    /// What of the buffer has been read and not been taken.
    left: Range<usize>,
    lines: Lines,
    is_over: bool,
}

impl Ready {
    /// # Errors
    /// Gives back what cannot tell when a read would not wait: a file, a terminal.
    pub fn new(input: File, limit: usize) -> Result<Self, File> {
        let tells = input.metadata().is_ok_and(|metadata| {
            let kind = metadata.file_type();
            kind.is_fifo() || kind.is_socket()
        });
        if !tells {
            return Err(input);
        }
        // SAFETY: a file keeps one open descriptor for as long as it lives, and it lives in here.
        #[expect(unsafe_code, reason = "tokio has no safe way for files")]
        let input = unsafe { AsyncFd::register_with_interest(input, Interest::READABLE) };
        Ok(Self {
            input: input.map_err(|error| error.into_parts().0)?,
            buffer: vec![0; BUFFER].into(),
            left: 0..0,
            lines: Lines::new(limit),
            is_over: false,
        })
    }

    pub async fn next(&mut self) -> Option<Line> {
        loop {
            let mut piece = &self.buffer[self.left.clone()];
            let line = self.lines.take(&mut piece);
            self.left.start = self.left.end - piece.len();
            if line.is_some() {
                return line;
            }
            if self.is_over {
                return self.lines.finish();
            }
            self.is_over = self.fill().await.is_err();
        }
    }

    /// Reads what is there; an error at the end of input, too.
    async fn fill(&mut self) -> io::Result<()> {
        loop {
            let mut readiness = self.input.readable_mut().await?;
            let file = readiness.get_inner_mut();
            // The descriptor may be shared, so it stays one that waits: a read must be known not to.
            if !would_not_wait(file) {
                readiness.clear_ready();
                continue;
            }
            match file.read(&mut self.buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    self.left = 0..length;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Somebody else made it one that does not wait.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => readiness.clear_ready(),
                Err(error) => return Err(error),
            }
        }
    }
}

fn would_not_wait(file: &File) -> bool {
    let mut polled = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut polled, PollTimeout::ZERO), Ok(1..))
}
