//! A private directory in which a socket gets ready.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Made for one socket; gone when dropped.
pub(super) struct Staging(PathBuf);

impl Staging {
    /// Of `/.xxxx/s`: shorter than most socket names, for the path limit counts here too.
    pub const LENGTH: usize = 8;

    pub fn create(beside: &Path) -> io::Result<Self> {
        let mut tries = 0;
        loop {
            let name: String = (0..4).map(|_| fastrand::alphanumeric()).collect();
            let path = beside.join(format!(".{name}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists && tries < 100 => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.0.join("s")
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.socket());
        let _ = fs::remove_dir(&self.0);
    }
}
