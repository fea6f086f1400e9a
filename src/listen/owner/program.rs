//! The executable of the process that connected to a Unix socket.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// `/proc/PID/exe`, provided that PID is still the process that connected (`SO_PEERPIDFD`,
/// Linux 6.5; an older kernel cannot say, and is believed).
///
/// # Errors
/// The process has ended, or is another user's and this one may not look (`CAP_SYS_PTRACE`).
#[cfg(target_os = "linux")]
pub fn of(stream: &UnixStream, pid: i32) -> io::Result<PathBuf> {
    use nix::errno::Errno;
    use nix::sys::socket::{getsockopt, sockopt::PeerPidfd};
    let process = match getsockopt(stream, PeerPidfd) {
        Ok(process) => Some(process),
        Err(Errno::ENOPROTOOPT) => None,
        Err(error) => return Err(error.into()),
    };
    let path = std::fs::read_link(format!("/proc/{pid}/exe")).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("/proc/{pid}/exe cannot be read ({error}); it is another user's, or hidden"),
        )
    })?;
    // Read first, looked at then: if the process lives now, the number was its own all the time.
    if process.is_some_and(|process| has_ended(&process)) {
        return Err(io::Error::other("the process that connected has ended"));
    }
    Ok(path)
}

/// A pidfd becomes readable when its process ends.
#[cfg(target_os = "linux")]
fn has_ended(process: &std::os::fd::OwnedFd) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let mut watched = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    !matches!(poll(&mut watched, PollTimeout::ZERO), Ok(0))
}

/// `proc_pidpath`. The number may be another process's by now: macOS has nothing to hold it by.
///
/// # Errors
/// The process has ended, or may not be looked at.
#[cfg(target_os = "macos")]
pub fn of(_: &UnixStream, pid: i32) -> io::Result<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let mut path = vec![0_u8; libc::PROC_PIDPATHINFO_MAXSIZE as usize];
    // SAFETY: the call writes at most as many bytes as it is told `path` has. nix has none for it.
    let length = unsafe { libc::proc_pidpath(pid, path.as_mut_ptr().cast(), path.len() as u32) };
    let Ok(length @ 1..) = usize::try_from(length) else {
        return Err(io::Error::last_os_error());
    };
    path.truncate(length);
    Ok(std::ffi::OsString::from_vec(path).into())
}
