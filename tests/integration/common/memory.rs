//! A process's memory, as whoever may read a core of it would see it.

use std::fs::{File, read_to_string};
use std::os::unix::fs::FileExt;

/// How often each of these is found in the memory that a process may write to.
///
/// # Errors
/// Where another's memory may not be read.
pub fn count(pid: u32, needles: &[Vec<u8>]) -> std::io::Result<Vec<usize>> {
    let maps = read_to_string(format!("/proc/{pid}/maps"))?;
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut found = vec![0; needles.len()];
    for map in maps.lines().filter(|map| map.contains(" rw")) {
        let range = map.split_whitespace().next().unwrap_or_default();
        let (start, end) = range.split_once('-').unwrap();
        let at = |text: &str| u64::from_str_radix(text, 16).unwrap();
        let mut bytes = vec![0; (at(end) - at(start)) as usize];
        if memory.read_exact_at(&mut bytes, at(start)).is_ok() {
            for (needle, found) in needles.iter().zip(&mut found) {
                *found += memchr::memmem::find_iter(&bytes, needle).count();
            }
        }
    }
    Ok(found)
}
