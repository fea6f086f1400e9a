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

/// Lets go of the program's code: what is still called is mapped again at its next call, out of
/// the page cache, and what only the start called is not.
#[cfg(target_os = "linux")]
pub fn forget_code() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, length) in maps.lines().filter_map(code) {
        // SAFETY: these pages can neither be written nor differ from the file that they show, so
        // that whoever runs there finds the same bytes again. A failure changes nothing.
        #[expect(unsafe_code, reason = "no safe interface does it")]
        unsafe {
            libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED);
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub fn forget_code() {}

/// Where code lies that comes from a file, by a line of `/proc/PID/maps` (proc(5)).
#[cfg(target_os = "linux")]
fn code(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let is_code = fields.next()? == "r-xp";
    let is_file = fields.nth(3)?.starts_with('/');
    let address = |digits| usize::from_str_radix(digits, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    (is_code && is_file).then(|| (start, end.saturating_sub(start)))
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
    fn code_is_what_can_be_run_and_lies_in_a_file() {
        let code = "7f00a000-7f00c000 r-xp 00001000 fe:00 42                         /usr/bin/a b";
        assert_eq!(super::code(code), Some((0x7f00_a000, 0x2000)));
        for other in [
            code.replace("r-xp", "r--p"),
            code.replace("r-xp", "rwxp"),
            "7ffd000-7ffd200 r-xp 00000000 00:00 0     [vdso]".into(),
            "7ffd000-7ffd200 r-xp 00000000 00:00 0".into(),
            String::new(),
        ] {
            assert_eq!(super::code(&other), None, "{other}");
        }
        super::forget_code();
        own_kib();
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
