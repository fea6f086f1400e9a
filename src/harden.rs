//! What the process gives up before it holds a secret for long.

use nix::sys::resource::{Resource, setrlimit};

/// No core file, and (on Linux) no memory or environment for other processes of the same user.
///
/// Best effort: a system that refuses is no worse than before.
pub fn apply() {
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_dumpable(false);
}
