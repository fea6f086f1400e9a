//! A private directory in which a socket gets ready.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};

/// What the names of such directories begin with; few others' do.
const PREFIX: &str = ".~";

const SOCKET: &str = "s";

/// Made for one socket; gone when dropped.
pub(super) struct Staging(PathBuf);

impl Staging {
    /// Of `/.xxxx/s`: shorter than most socket names, for the path limit counts here too.
    pub const LENGTH: usize = 8;

    pub fn create(beside: &Path) -> io::Result<Self> {
        let mut tries = 0;
        loop {
            let name: String = (0..3).map(|_| fastrand::alphanumeric()).collect();
            let path = beside.join(format!("{PREFIX}{name}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists && tries < 100 => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes what daemons left that were killed meanwhile. To be called with the lock on
    /// `beside` alone, or it would take a living daemon's.
    pub fn sweep(beside: &Path) {
        let Ok(entries) = fs::read_dir(beside) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let is_ours = name.len() == PREFIX.len() + 3
                && name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
                && entry.file_type().is_ok_and(|kind| kind.is_dir());
            let left = entry.path();
            // Asked of few: a directory may have thousands of entries, and many sockets.
            let holds = || fs::symlink_metadata(left.join(SOCKET));
            // One that holds anything else is not of our making, and stays.
            if is_ours && !holds().is_ok_and(|found| !found.file_type().is_socket()) {
                drop(Self(left));
            }
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.0.join(SOCKET)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.socket());
        let _ = fs::remove_dir(&self.0);
    }
}
