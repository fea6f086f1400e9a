//! launchd keeps sockets by the names in the job's `Sockets` dictionary, and hands them over on request.

use std::ffi::{CString, c_char, c_int};
use std::os::fd::{FromRawFd, OwnedFd};

/// The names our job description uses.
const NAMES: [&str; 3] = ["proxy", "tcp", "admin"];

unsafe extern "C" {
    /// launch.h: fills an array that the caller must free; an errno when the job has no such name.
    fn launch_activate_socket(
        name: *const c_char,
        fds: *mut *mut c_int,
        count: *mut usize,
    ) -> c_int;
}

/// Everything launchd holds for us; nothing when it did not start us.
pub(super) fn activated() -> Vec<(OwnedFd, String)> {
    NAMES
        .iter()
        .flat_map(|name| sockets(name).into_iter().map(|fd| (fd, name.to_string())))
        .collect()
}

fn sockets(name: &str) -> Vec<OwnedFd> {
    let name = CString::new(name).expect("a literal without NUL");
    let (mut fds, mut count) = (std::ptr::null_mut(), 0);
    // SAFETY: all three pointers are valid for the call.
    let errno = unsafe { launch_activate_socket(name.as_ptr(), &mut fds, &mut count) };
    if errno != 0 || fds.is_null() {
        return Vec::new();
    }
    // SAFETY: on success `fds` holds `count` open descriptors, each handed over once and now ours;
    // the array itself came from malloc.
    unsafe {
        let owned = (0..count)
            .map(|i| OwnedFd::from_raw_fd(*fds.add(i)))
            .collect();
        libc::free(fds.cast());
        owned
    }
}
