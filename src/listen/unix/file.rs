//! The file of a socket of ours: its permissions, and its end.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use super::{ListenError, failed, lock, parent};
use crate::config::UnixAddress;

/// Removed when dropped, unless somebody put another in its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    /// The file now at `staged`, which is going to `path`.
    pub(super) fn new(path: &Path, staged: &Path) -> io::Result<Self> {
        let identity = identity(&fs::symlink_metadata(staged)?);
        Ok(Self {
            path: path.to_owned(),
            identity,
        })
    }

    fn is_ours(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.identity)
    }

    pub fn set_permissions(&self, wanted: &UnixAddress) -> Result<(), ListenError> {
        let fail = failed(&self.path, "set mode, owner and group of");
        if !self.is_ours() {
            return Err(fail(io::Error::other(
                "it is no longer the socket this daemon opened",
            )));
        }
        permit(&self.path, wanted).map_err(fail)
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Without the lock a successor could move its socket in between the look and the removal.
        let _lock = lock(parent(&self.path));
        if self.is_ours() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Narrows the mode first and widens it last, so that a change of group lets nobody in meanwhile.
pub(super) fn permit(path: &Path, wanted: &UnixAddress) -> io::Result<()> {
    let now = fs::symlink_metadata(path)?;
    // Not for nothing: whoever gave up root, or is in a sandbox, may be forbidden a call that changes nothing.
    let differs = |wanted: Option<u32>, now| wanted.is_some_and(|wanted| wanted != now);
    let is_anothers = differs(wanted.owner, now.uid()) || differs(wanted.group, now.gid());
    if !is_anothers && now.mode() & 0o7777 == wanted.mode {
        return Ok(());
    }
    fs::set_permissions(
        path,
        Permissions::from_mode(now.mode() & 0o7777 & wanted.mode),
    )?;
    if is_anothers {
        lchown(path, wanted.owner, wanted.group)?;
    }
    fs::set_permissions(path, Permissions::from_mode(wanted.mode))
}
