//! What the process asks of the system at start: fewer ways to its memory, more descriptors.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// No core file, and (on Linux) no memory or environment for other processes of the same user.
///
/// Best effort: a system that refuses is no worse than before.
pub fn apply() {
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_dumpable(false);
    // The soft limit is for programs that use select(2); a stream takes two descriptors.
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// How many files and sockets this process may have open.
pub fn descriptors() -> usize {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| {
        usize::try_from(soft).unwrap_or(usize::MAX)
    })
}
