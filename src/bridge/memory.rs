//! A large message's memory goes back to the system with it: the allocator would keep as much for the next one.

use std::sync::atomic::{AtomicBool, Ordering};

/// Below this there is nothing to gain.
const LARGE: usize = 1024 * 1024;

static SEEN_LARGE: AtomicBool = AtomicBool::new(false);

/// Takes note of a message's length.
pub fn passes(length: usize) {
    if length >= LARGE {
        SEEN_LARGE.store(true, Ordering::Relaxed);
    }
}

/// Gives back what large messages have left behind, if there were any.
pub fn tidy() {
    if SEEN_LARGE.swap(false, Ordering::Relaxed) {
        // The small pieces that it came in.
        crate::memory::trim();
    }
}

/// Large pieces are mapped on their own from the start, and unmapped with the message.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn prepare() {
    const THRESHOLD: libc::c_int = 256 * 1024;
    // SAFETY: it sets a number under the allocator's own lock.
    #[expect(unsafe_code, reason = "no safe interface sets it")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, THRESHOLD);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn prepare() {}
