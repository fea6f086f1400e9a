//! Writing without waiting, and without a mode that others who share the descriptor would notice.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileTypeExt;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};

/// A pipe that takes anything takes this much whole (POSIX: PIPE_BUF is at least 512; Linux and macOS differ).
const PIPE_ROOM: usize = if cfg!(target_os = "linux") { 4096 } else { 512 };

/// stdout, where it can tell whether it has room.
pub struct Direct {
    file: File,
    kind: Kind,
}

enum Kind {
    Pipe,
    Socket,
}

impl Direct {
    /// `None` for files and terminals.
    pub fn of(file: &File) -> Option<Self> {
        let kind = file.metadata().ok()?.file_type();
        let kind = match () {
            () if kind.is_fifo() => Kind::Pipe,
            () if kind.is_socket() => Kind::Socket,
            () => return None,
        };
        let file = file.try_clone().ok()?;
        Some(Self { file, kind })
    }

    /// How many bytes of `line` were written; 0 when there is no room, or an error that the
    /// waiting writer will meet as well.
    pub fn write(&mut self, line: &[u8]) -> usize {
        let written = match self.kind {
            Kind::Socket => {
                // No SIGPIPE to fear: Rust has it ignored, and macOS has no flag for it.
                send(self.file.as_raw_fd(), line, MsgFlags::MSG_DONTWAIT).ok()
            }
            Kind::Pipe if line.len() <= PIPE_ROOM && self.has_room() => self.file.write(line).ok(),
            Kind::Pipe => None,
        };
        written.unwrap_or(0)
    }

    fn has_room(&self) -> bool {
        let mut polled = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
        poll(&mut polled, PollTimeout::ZERO).is_ok()
            && polled[0].revents() == Some(PollFlags::POLLOUT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::OwnedFd;

    fn direct(writer: impl Into<OwnedFd>) -> Direct {
        Direct::of(&File::from(writer.into())).unwrap()
    }

    #[test]
    fn a_full_pipe_and_a_full_socket_take_nothing_and_hold_nobody_up() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut pipe = direct(writer);
        let mut sent = 0;
        while pipe.write(&[b'x'; 1000]) > 0 {
            sent += 1000;
        }
        assert!(sent > 0);
        assert_eq!(pipe.write(b"y"), 0);
        reader.read_exact(&mut vec![0; sent]).unwrap();
        assert_eq!(pipe.write(b"y"), 1);

        let (_other, one) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut socket = direct(one);
        while socket.write(&[b'x'; 1000]) > 0 {}
    }

    #[test]
    fn what_a_pipe_might_take_in_parts_is_left_to_the_writer_that_waits() {
        let (_reader, writer) = std::io::pipe().unwrap();
        assert_eq!(direct(writer).write(&vec![b'x'; PIPE_ROOM + 1]), 0);
    }

    #[test]
    fn files_have_no_room_to_ask_for() {
        assert!(Direct::of(&tempfile::tempfile().unwrap()).is_none());
    }
}
