//! What the reader of stderr wants beside the words.

use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd};

use slog::Level;

/// How lines are dressed; decided once, for stderr does not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// ANSI colours in text.
    pub colour: bool,
    /// journald reads: each line starts with its priority, text without the time.
    pub journal: bool,
}

impl Style {
    pub fn of_stderr() -> Self {
        let env = |name: &str| std::env::var(name).ok();
        Self::of(std::io::stderr().as_fd(), &env)
    }

    /// `JOURNAL_STREAM` counts only if it names this very descriptor: systemd sets it for the
    /// whole service, and whoever redirects stderr to a file does not want prefixes in it.
    pub fn of(fd: BorrowedFd, env: &dyn Fn(&str) -> Option<String>) -> Self {
        let plain = env("NO_COLOR").is_some_and(|value| !value.is_empty());
        let stream =
            nix::sys::stat::fstat(fd).map(|stat| format!("{}:{}", stat.st_dev, stat.st_ino));
        Self {
            colour: fd.is_terminal() && !plain,
            journal: env("JOURNAL_STREAM")
                .is_some_and(|named| stream.is_ok_and(|own| own == named)),
        }
    }
}

/// sd-daemon(3): journald takes the priority of a line from here.
pub(super) fn syslog_prefix(level: Level) -> &'static [u8] {
    match level {
        Level::Critical => b"<2>",
        Level::Error => b"<3>",
        Level::Warning => b"<4>",
        Level::Info => b"<6>",
        Level::Debug | Level::Trace => b"<7>",
    }
}
