//! A process's memory, as whoever may read a core of it would see it.

use std::fs::{File, read_to_string};
use std::io::Result;
use std::os::unix::fs::FileExt;

use super::skipped;

/// Whether it may be read at all; if not, says that nothing is shown.
pub fn is_open(pid: u32) -> bool {
    let is_open = look(pid, &[]).is_ok();
    if !is_open {
        let is_root = nix::unistd::geteuid().is_root();
        skipped("another's memory may not be read here", !is_root);
    }
    is_open
}

/// How often each of these is found in the memory that a process may write to, while both go on.
pub async fn count(pid: u32, needles: &[Vec<u8>]) -> Vec<usize> {
    let needles = needles.to_vec();
    let looking = tokio::task::spawn_blocking(move || look(pid, &needles));
    looking.await.unwrap().unwrap()
}

fn look(pid: u32, needles: &[Vec<u8>]) -> Result<Vec<usize>> {
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
