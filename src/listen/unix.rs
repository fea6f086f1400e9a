//! A Unix socket that nobody can reach before its permissions are in force.
//!
//! It is bound in a private directory beside its final path, gets its mode, owner
//! and group there, listens, and is then renamed into place. A stale socket is thus
//! replaced without a moment in which there is none.
//!
//! The check for a living predecessor and the rename happen under a lock on the
//! parent directory, so that of two daemons started at once the second sees the
//! first, and neither removes the other's socket.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::ListenError;
use crate::config::UnixAddress;

mod connect;
mod file;
mod probe;
mod staging;

pub use connect::connect_within;
pub(super) use file::SocketFile;
use file::permit;
use staging::Staging;

/// What `sun_path` holds beside the closing NUL.
const PATH_LIMIT: usize = if cfg!(target_os = "macos") { 103 } else { 107 };

/// How long to wait for another daemon that opens a socket in the same directory.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) fn bind(address: &UnixAddress) -> Result<(UnixListener, SocketFile), ListenError> {
    let path = &address.path;
    let fail = |doing| failed(path, doing);
    let directory = parent(path);
    check_length(path, directory)?;
    create_missing(directory).map_err(fail("create the directory of"))?;

    let lock = lock(directory);
    refuse_occupied(path)?;
    if lock.is_some() {
        Staging::sweep(directory);
    }
    let staging = Staging::create(directory).map_err(fail("prepare"))?;
    let listener = UnixListener::bind(staging.socket()).map_err(fail("open"))?;
    listener.set_nonblocking(true).map_err(fail("open"))?;
    super::socket::deepen_backlog(&listener).map_err(fail("open"))?;
    permit(&staging.socket(), address).map_err(fail("set mode, owner and group of"))?;
    let file = SocketFile::new(path, &staging.socket()).map_err(fail("open"))?;
    fs::rename(staging.socket(), path).map_err(fail("move into place"))?;
    Ok((listener, file))
}

fn failed(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> ListenError {
    move |source| ListenError::Unix {
        path: path.to_owned(),
        doing,
        source,
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

fn check_length(path: &Path, directory: &Path) -> Result<(), ListenError> {
    let length = path.as_os_str().len();
    let staged = directory.as_os_str().len() + Staging::LENGTH;
    if length.max(staged) <= PATH_LIMIT {
        return Ok(());
    }
    let limit = PATH_LIMIT - staged.saturating_sub(length);
    Err(ListenError::TooLong {
        path: path.to_owned(),
        limit,
    })
}

/// A system's directory lets others through to the socket, whose mode decides; a user's does not.
fn create_missing(directory: &Path) -> io::Result<()> {
    let system = nix::unistd::geteuid().is_root();
    let mode = if system { 0o755 } else { 0o700 };
    let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing: Vec<_> = directory.ancestors().take_while(missing).collect();
    for path in missing.into_iter().rev() {
        match DirBuilder::new().mode(0o700).create(path) {
            // The umask must not decide who reaches the socket.
            Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode))?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Held until dropped. The directory itself is locked: nothing is left behind.
///
/// `None` after a second: whoever may read the directory may lock it, and must not be able to
/// keep the daemon from starting. Without the lock only the race of two starts is open.
fn lock(directory: &Path) -> Option<Flock<File>> {
    let deadline = Instant::now() + PATIENCE;
    let mut file = File::open(directory).ok()?;
    while Instant::now() < deadline {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Some(lock),
            Err((again, Errno::EAGAIN | Errno::EINTR)) => file = again,
            Err(_) => return None,
        }
        thread::sleep(Duration::from_millis(10));
    }
    None
}

/// Passes if nothing is at `path`, or a socket that nobody serves.
fn refuse_occupied(path: &Path) -> Result<(), ListenError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(path, "look at")(error)),
        Ok(found) if !found.file_type().is_socket() => {
            Err(ListenError::NotASocket(path.to_owned()))
        }
        Ok(_) => match probe::answers(path) {
            Ok(false) => Ok(()),
            Ok(true) => Err(ListenError::InUse(path.to_owned())),
            Err(error) => Err(failed(path, "tell whether anybody serves")(error)),
        },
    }
}
