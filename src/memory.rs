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

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    const BLOCK: usize = 8 * 1024;
    const BLOCKS: usize = 8 * 1024;

    fn own_kib() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number
            .and_then(|number| number.parse().ok())
            .expect("a size")
    }

    #[test]
    fn what_lies_free_between_what_is_in_use_is_given_back() {
        let mut blocks: Vec<_> = (0..BLOCKS).map(|_| Some(vec![1_u8; BLOCK])).collect();
        let full = own_kib();
        // One in eight stays, so that the arena's end stays where it is.
        for (number, block) in blocks.iter_mut().enumerate() {
            if number % 8 != 0 {
                *block = None;
            }
        }
        super::trim();
        let freed = full.saturating_sub(own_kib());
        assert!(freed > BLOCK * BLOCKS / 2 / 1024, "{freed} KiB");
        drop(blocks);
    }
}
