//! What the process asks of the system at start: fewer ways to its memory, more descriptors.

use crate::config::Config;
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

/// Whether more connections are let in than there can be descriptors for; in the operator's words.
pub fn too_few_descriptors(config: &Config) -> Option<String> {
    let most = config.limits.max_connections?;
    let listeners = config.listeners.len();
    let have = descriptors();
    // A client's connection and one to an upstream; besides those the daemon's own.
    let needed = most.saturating_mul(listeners * 2).saturating_add(64);
    (needed > have).then(|| {
        format!(
            "limits.max_connections lets in {most} connections at each of {listeners} listener(s), which may \
             take {needed} descriptors, and this process may have {have}; raise that (LimitNOFILE= of the \
             unit, ulimit -n), or lower max_connections"
        )
    })
}

/// How many files and sockets this process may have open.
pub fn descriptors() -> usize {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| {
        usize::try_from(soft).unwrap_or(usize::MAX)
    })
}
