//! The groups of a Unix socket's peer, supplementary ones included.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

/// Room for the groups of nearly everybody; who has more costs a second call.
#[cfg(target_os = "linux")]
const COMMON: usize = 32;

/// `SO_PEERGROUPS`: those that the process had when it connected.
#[cfg(target_os = "linux")]
pub fn groups(stream: &UnixStream, primary: u32) -> io::Result<Box<[u32]>> {
    let mut groups: Vec<libc::gid_t> = vec![0; COMMON];
    loop {
        let mut length = libc::socklen_t::try_from(size_of_val(&groups[..])).unwrap_or(0);
        // SAFETY: the kernel writes at most `length` bytes into `groups`, which has as many, and
        // the number it has into `length`. nix has no option of this name.
        let result = unsafe {
            libc::getsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = length as usize / size_of::<libc::gid_t>();
        if result == 0 {
            groups.truncate(count);
            groups.insert(0, primary);
            return Ok(groups.into());
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

/// `LOCAL_PEERCRED`: those that the process had when it connected, if there are fewer than 16. The
/// kernel cuts the list there, and who is denied by a group that was cut off must not get in.
#[cfg(target_os = "macos")]
pub fn groups(stream: &UnixStream, primary: u32) -> io::Result<Box<[u32]>> {
    // SAFETY: all zeroes is a value of this plain structure.
    let mut known: libc::xucred = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&known) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `known`, which has as many. nix reads
    // the same structure, and hides how many of its groups are valid.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_LOCAL,
            libc::LOCAL_PEERCRED,
            (&raw mut known).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let count = usize::try_from(known.cr_ngroups).unwrap_or(0);
    if count >= known.cr_groups.len() {
        return Err(io::Error::other("there may be more than the system tells"));
    }
    let valid = known.cr_groups.iter().take(count).copied();
    Ok(std::iter::once(primary).chain(valid).collect())
}
