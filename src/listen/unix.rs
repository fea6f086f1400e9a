//! A Unix socket that nobody can reach before its permissions are in force.
//!
//! It is bound in a private directory beside its final path, gets its mode, owner
//! and group there, listens, and is then renamed into place. A stale socket is thus
//! replaced without a moment in which there is none.
//!
//! The check for a living predecessor and the rename happen under a lock on the
//! parent directory, so that of two daemons started at once the second sees the
//! first, and neither removes the other's socket.

use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, lchown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::ListenError;
use crate::config::UnixAddress;

mod probe;

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

    let _lock = lock(directory).map_err(fail("lock the directory of"))?;
    refuse_occupied(path)?;
    let staging = Staging::create(directory).map_err(fail("prepare"))?;
    let listener = UnixListener::bind(staging.socket()).map_err(fail("open"))?;
    listener.set_nonblocking(true).map_err(fail("open"))?;
    super::deepen_backlog(&listener).map_err(fail("open"))?;
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
    let mode = if nix::unistd::geteuid().is_root() {
        0o755
    } else {
        0o700
    };
    let missing: Vec<_> = directory
        .ancestors()
        .take_while(|path| !path.exists())
        .collect();
    for path in missing
        .into_iter()
        .rev()
        .filter(|path| !path.as_os_str().is_empty())
    {
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
fn lock(directory: &Path) -> io::Result<Flock<File>> {
    let deadline = Instant::now() + PATIENCE;
    let mut file = File::open(directory)?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((again, Errno::EAGAIN | Errno::EINTR)) if Instant::now() < deadline => file = again,
            Err((_, error)) => return Err(error.into()),
        }
        thread::sleep(Duration::from_millis(10));
    }
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

/// Narrows the mode first and widens it last, so that a change of group lets nobody in meanwhile.
fn permit(path: &Path, wanted: &UnixAddress) -> io::Result<()> {
    let now = fs::symlink_metadata(path)?.mode() & 0o7777;
    fs::set_permissions(path, Permissions::from_mode(now & wanted.mode))?;
    if wanted.owner.is_some() || wanted.group.is_some() {
        lchown(path, wanted.owner, wanted.group)?;
    }
    fs::set_permissions(path, Permissions::from_mode(wanted.mode))
}

/// A private directory for one socket, gone when dropped.
struct Staging(PathBuf);

impl Staging {
    /// Of `/.xxxx/s`: shorter than most socket names, for the path limit counts here too.
    const LENGTH: usize = 8;

    fn create(beside: &Path) -> io::Result<Self> {
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

    fn socket(&self) -> PathBuf {
        self.0.join("s")
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.socket());
        let _ = fs::remove_dir(&self.0);
    }
}

/// The file of a socket of ours; removed when dropped, unless somebody put another in its place.
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    /// The file now at `staged`, which is going to `path`.
    fn new(path: &Path, staged: &Path) -> io::Result<Self> {
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
