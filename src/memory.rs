//! What the allocator keeps of memory that was freed.

/// Gives it back to the system. Takes milliseconds where there is much, so never on an event loop.
///
/// Each thread has a heap of its own: without this every thread that once read a configuration
/// would keep as much for the next time.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn trim() {
    // SAFETY: it takes the allocator's own locks and touches free memory only.
    #[expect(unsafe_code, reason = "no safe interface does it")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other allocators give it back of their own accord.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn trim() {}
