//! To the daemon's sockets, as its own commands connect.

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

/// Connects within `patience`: a daemon that hangs takes nobody out of its queue, and connect(2)
/// would wait at the end of a full one for ever.
///
/// # Errors
/// As connect(2); [`ErrorKind::TimedOut`] when the queue stays full.
pub fn connect_within(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let end = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::empty(),
        None,
    )?;
    fcntl(&end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    let seconds = i64::try_from(patience.as_secs()).unwrap_or(i64::MAX).max(1);
    // socket(7): on Linux this is connect's deadline too; elsewhere a full queue refuses at once.
    setsockopt(&end, sockopt::SendTimeout, &TimeVal::new(seconds, 0))?;
    match connect(end.as_raw_fd(), &UnixAddr::new(path)?) {
        Ok(()) => {}
        Err(Errno::EAGAIN) => {
            let message = "it takes no connections; its queue is full";
            return Err(io::Error::new(ErrorKind::TimedOut, message));
        }
        Err(error) => return Err(error.into()),
    }
    let stream = UnixStream::from(end);
    stream.set_write_timeout(None)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_socket_that_nobody_accepts_at_costs_a_while_and_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let begun = Instant::now();
        let mut queued = Vec::new();
        let refused = loop {
            match connect_within(&path, Duration::from_secs(1)) {
                Ok(stream) => queued.push(stream),
                Err(error) => break error,
            }
            assert!(queued.len() < 100, "the queue has no end");
        };
        if cfg!(target_os = "linux") {
            assert_eq!(refused.kind(), ErrorKind::TimedOut);
        }
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
