//! Reading small regular files, with no way to hang and no way to fill the memory.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use zeroize::Zeroizing;

/// What a file held and who may look at it.
pub struct Contents {
    /// Wiped when dropped: every file read here may hold a secret.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Permission bits of the file that was actually opened.
    pub mode: u32,
}

/// What tells one state of a file from another: device, inode, size, and when it was changed;
/// `None` if it cannot be seen.
pub type Print = Option<(u64, u64, u64, i64, i64)>;

/// The state of the file that `path` leads to.
pub fn print(path: &Path) -> Print {
    let meta = std::fs::metadata(path).ok()?;
    Some((
        meta.dev(),
        meta.ino(),
        meta.size(),
        meta.ctime(),
        meta.ctime_nsec(),
    ))
}

/// Why a file could not be read. `Display` completes the sentence "FILE …".
#[derive(Debug)]
pub enum ReadError {
    Missing,
    /// The daemon's own walls are in the way.
    Hidden,
    /// This user may not read it.
    Denied(u32),
    NotRegular(&'static str),
    /// More bytes than this.
    TooLarge(usize),
    Io(io::Error),
}

/// What was read, by the name it was asked for.
static READ: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// All directories from which something was read so far, absolute: by the name that was asked
/// for, whose links may lead elsewhere tomorrow, and by their own.
pub fn directories() -> Vec<PathBuf> {
    let read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    let names = read
        .iter()
        .flat_map(|path| [std::path::absolute(path), path.canonicalize()]);
    let parents = names
        .flatten()
        .filter_map(|path| path.parent().map(Path::to_owned));
    parents.collect::<BTreeSet<_>>().into_iter().collect()
}

/// What was read so far and may no longer be, since this process became somebody else.
pub fn no_longer_readable() -> Vec<(PathBuf, ReadError)> {
    let read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    let denied = |path: &PathBuf| match open(path) {
        Err(error @ (ReadError::Denied(_) | ReadError::Hidden)) => Some((path.clone(), error)),
        _ => None,
    };
    read.iter().filter_map(denied).collect()
}

fn note(path: &Path) {
    let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    read.insert(path.to_owned());
}

/// The directories that this process may still read from, once it is behind walls of its own.
static CONFINED_TO: OnceLock<Vec<PathBuf>> = OnceLock::new();

/// Takes note of it, so that errors tell what lies elsewhere from what permissions forbid.
pub fn confined_to(directories: Vec<PathBuf>) {
    let _ = CONFINED_TO.set(directories);
}

/// Whether the walls keep us from `path`, whatever its permissions say.
fn is_hidden(path: &Path) -> bool {
    let Some(readable) = CONFINED_TO.get() else {
        return false;
    };
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    !readable.iter().any(|directory| path.starts_with(directory))
}

/// Reads at most `limit` bytes of a regular file. Links are followed; a FIFO, a
/// socket or a device is refused without waiting for its other end.
pub fn read(path: &Path, limit: usize) -> Result<Contents, ReadError> {
    note(path);
    let mut file = open(path)?;
    let meta = file.metadata().map_err(ReadError::Io)?;
    if let Some(kind) = irregular(meta.file_type()) {
        return Err(ReadError::NotRegular(kind));
    }
    // Never grown in place: that would leave copies of a secret behind. One more than there should
    // be tells whether that was all.
    let expected = usize::try_from(meta.len()).map_or(limit, |length| length.min(limit));
    let mut bytes = Zeroizing::new(vec![0; expected + 1]);
    let mut length = fill(&mut file, &mut bytes).map_err(ReadError::Io)?;
    if length > expected && expected < limit {
        // It has grown meanwhile, or it is one of those that tell no size, as in /proc.
        let mut whole = Zeroizing::new(vec![0; limit + 1]);
        whole[..length].copy_from_slice(&bytes);
        length += fill(&mut file, &mut whole[length..]).map_err(ReadError::Io)?;
        bytes = whole;
    }
    if length > limit {
        return Err(ReadError::TooLarge(limit));
    }
    bytes.truncate(length);
    Ok(Contents {
        bytes,
        mode: meta.mode() & 0o7777,
    })
}

fn open(path: &Path) -> Result<File, ReadError> {
    // O_NONBLOCK: opening a FIFO would otherwise wait for a writer that may never come.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ReadError::Missing,
        io::ErrorKind::PermissionDenied if is_hidden(path) => ReadError::Hidden,
        io::ErrorKind::PermissionDenied => ReadError::Denied(nix::unistd::geteuid().as_raw()),
        _ if error.raw_os_error() == Some(libc::ENXIO) => ReadError::NotRegular("a socket"),
        _ => ReadError::Io(error),
    })
}

fn irregular(kind: std::fs::FileType) -> Option<&'static str> {
    match kind {
        k if k.is_file() => None,
        k if k.is_dir() => Some("a directory"),
        k if k.is_fifo() => Some("a FIFO"),
        k if k.is_socket() => Some("a socket"),
        _ => Some("a device"),
    }
}

fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Missing => write!(f, "does not exist; create it or correct the path"),
            ReadError::Hidden => write!(
                f,
                "is out of the daemon's sight, which is limited to the directories it knew when it \
                 started; restart it (server.sandbox)"
            ),
            ReadError::Denied(uid) => {
                write!(
                    f,
                    "may not be read by uid {uid}, which this process runs as; "
                )?;
                write!(
                    f,
                    "let that user, or a group of its, read the file and enter its directory"
                )
            }
            ReadError::NotRegular(kind) => write!(f, "is {kind}; name a regular file"),
            ReadError::TooLarge(limit) => {
                write!(
                    f,
                    "is larger than {} KiB; name the right file or shorten it",
                    limit / 1024
                )
            }
            ReadError::Io(error) => write!(f, "cannot be read ({error}); see to the file system"),
        }
    }
}

/// A path as a POSIX shell takes it, for commands an operator copies from a message.
pub fn shell_quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &Path, limit: usize) -> String {
        match read(path, limit) {
            Ok(_) => panic!("{} was read", path.display()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_fifo_is_refused_without_waiting_for_a_writer() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(refused(&fifo, 10), "is a FIFO; name a regular file");
    }

    #[test]
    fn sockets_devices_and_directories_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(refused(&socket, 10), "is a socket; name a regular file");
        assert_eq!(
            refused(Path::new("/dev/zero"), 10),
            "is a device; name a regular file"
        );
        assert_eq!(
            refused(dir.path(), 10),
            "is a directory; name a regular file"
        );
    }

    #[test]
    fn the_limit_is_the_largest_length_that_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, vec![b'x'; 1024]).unwrap();
        assert_eq!(read(&path, 1024).unwrap().bytes.len(), 1024);
        std::fs::write(&path, vec![b'x'; 1025]).unwrap();
        assert!(refused(&path, 1024).starts_with("is larger than 1 KiB"));
    }

    #[test]
    fn a_small_file_takes_little_memory_and_one_that_tells_no_size_is_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for length in [0, 1, 100] {
            std::fs::write(&path, vec![b'x'; length]).unwrap();
            let bytes = read(&path, 1024 * 1024).unwrap().bytes;
            assert_eq!(bytes.len(), length);
            assert!(bytes.capacity() <= 200, "{}", bytes.capacity());
        }
        if cfg!(target_os = "linux") {
            let path = Path::new("/proc/self/status");
            assert!(read(path, 64 * 1024).unwrap().bytes.ends_with(b"\n"));
            assert!(refused(path, 100).starts_with("is larger than"));
        }
    }

    #[test]
    fn a_quoted_path_survives_the_shell() {
        assert_eq!(shell_quoted(Path::new("/etc/a-b.c")), "/etc/a-b.c");
        assert_eq!(shell_quoted(Path::new("/a b's")), r"'/a b'\''s'");
    }
}
