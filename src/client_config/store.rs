//! The client's file on disk: read whole, replaced whole, with the version before beside it.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::exit;
use crate::file::{self, ReadError};

use super::Failure;

/// Claude Code keeps its history in the same file; more than this is no settings any more.
const LARGEST: usize = 32 * 1024 * 1024;

const BYTE_ORDER_MARK: &str = "\u{feff}";

/// Where a file really is, and what it holds.
pub struct Store {
    /// With links followed: the link stays a link.
    pub path: PathBuf,
    content: Option<Content>,
    /// Whether only its owner may read a file or directory that has to be made.
    private: bool,
}

struct Content {
    bytes: Vec<u8>,
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Store {
    /// # Errors
    /// What is there cannot be read, or is no text.
    pub fn open(path: &Path, private: bool) -> Result<Store, Failure> {
        let real = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(_) if path.is_symlink() => {
                let message = "is a link that leads nowhere; make the file it means, or remove it";
                return Err(Failure::of_file(exit::CONFIG, path, message));
            }
            // It need not be there; any other trouble comes back when it is read.
            Err(_) => path.to_owned(),
        };
        let content = read(&real)?;
        Ok(Store {
            path: real,
            content,
            private,
        })
    }

    /// The text without a byte order mark; `None` if there is no file.
    pub fn text(&self) -> Option<&str> {
        let content = self.content.as_ref()?;
        text_of(&content.bytes)
    }

    fn mark(&self) -> &'static str {
        let bytes = self.content.as_ref().map(|content| &content.bytes[..]);
        match bytes.is_some_and(|bytes| bytes.starts_with(BYTE_ORDER_MARK.as_bytes())) {
            true => BYTE_ORDER_MARK,
            false => "",
        }
    }

    fn backup_path(&self) -> PathBuf {
        beside(&self.path, ".mcp-auth-proxy.bak")
    }

    /// The version before the last change; `None` if there is none, or none that can be read.
    pub fn backup(&self) -> Option<String> {
        let content = read(&self.backup_path()).ok()??;
        text_of(&content.bytes).map(str::to_owned)
    }

    /// Puts `text` in the file's place, and the file as it was beside it. The path of the
    /// backup, if there was anything to keep.
    ///
    /// # Errors
    /// The file stays as it was.
    pub fn write(&self, text: &str) -> Result<Option<PathBuf>, Failure> {
        self.check_unchanged()?;
        let new = format!("{}{text}", self.mark());
        let Some(content) = &self.content else {
            self.make_directories()?;
            self.replace(&self.path, new.as_bytes())?;
            return Ok(None);
        };
        let backup = self.backup_path();
        self.replace(&backup, &content.bytes)?;
        self.replace(&self.path, new.as_bytes())?;
        Ok(Some(backup))
    }

    /// Puts the backup back in the file's place; with `None` for its text the file goes.
    ///
    /// # Errors
    /// The file stays as it was.
    pub fn restore(&self, text: Option<&str>) -> Result<(), Failure> {
        self.check_unchanged()?;
        match text {
            Some(text) => {
                let old = format!("{}{text}", self.mark());
                self.replace(&self.path, old.as_bytes())?;
                remove(&self.backup_path())
            }
            None => remove(&self.path),
        }
    }

    /// Clients write their files too, while they run.
    fn check_unchanged(&self) -> Result<(), Failure> {
        let now = read(&self.path)?;
        let same = |a: &Content, b: &Content| a.bytes == b.bytes;
        match (&self.content, &now) {
            (None, None) => Ok(()),
            (Some(before), Some(now)) if same(before, now) => Ok(()),
            _ => {
                let message = "was changed by another program just now; end that one and try again";
                Err(Failure::of_file(exit::UNAVAILABLE, &self.path, message))
            }
        }
    }

    fn make_directories(&self) -> Result<(), Failure> {
        let Some(directory) = self.path.parent() else {
            return Ok(());
        };
        let mut missing: Vec<&Path> = directory.ancestors().collect();
        missing.retain(|path| !path.as_os_str().is_empty() && !path.exists());
        for path in missing.into_iter().rev() {
            let mode = if self.private { 0o700 } else { 0o777 };
            let made = DirBuilder::new().mode(mode).create(path);
            made.and_then(|()| give_to_owner_of(path.parent(), &File::open(path)?))
                .map_err(|error| Failure::of_io(path, "cannot be made", &error))?;
        }
        Ok(())
    }

    /// All of it or nothing: a client that reads meanwhile sees one version or the other.
    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
        let staged = beside(path, &format!(".{}.tmp", std::process::id()));
        let result = self
            .stage(&staged, bytes)
            .and_then(|()| fs::rename(&staged, path));
        result.map_err(|error| {
            let _ = fs::remove_file(&staged);
            Failure::of_io(path, "cannot be written", &error)
        })
    }

    fn stage(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let private = self.private || self.content.is_some();
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(if private { 0o600 } else { 0o666 })
            .open(path)?;
        match &self.content {
            Some(content) => {
                let own = file.metadata()?;
                if (own.uid(), own.gid()) != (content.uid, content.gid) {
                    fchown(&file, Some(content.uid), Some(content.gid))?;
                }
                file.set_permissions(fs::Permissions::from_mode(content.mode))?;
            }
            None => give_to_owner_of(path.parent(), &file)?,
        }
        file.write_all(bytes)?;
        file.sync_all()
    }
}

/// What root makes in a user's home is the user's.
fn give_to_owner_of(directory: Option<&Path>, file: &File) -> io::Result<()> {
    let Some(directory) = directory.filter(|_| nix::unistd::geteuid().is_root()) else {
        return Ok(());
    };
    let owner = fs::metadata(directory)?;
    fchown(file, Some(owner.uid()), Some(owner.gid()))
}

fn read(path: &Path) -> Result<Option<Content>, Failure> {
    // What is read is allocated whole and wiped: no more than the file needs, and some growth.
    let length = fs::metadata(path).map_or(0, |meta| meta.len());
    let limit = usize::try_from(length).map_or(LARGEST, |length| LARGEST.min(length + 4096));
    let contents = match file::read(path, limit) {
        Ok(contents) => contents,
        Err(ReadError::Missing) => return Ok(None),
        Err(error) => {
            let code = match error {
                ReadError::Denied(_) => exit::NO_PERMISSION,
                ReadError::Io(_) => exit::UNAVAILABLE,
                _ => exit::CONFIG,
            };
            return Err(Failure::of_file(code, path, &error.to_string()));
        }
    };
    let bytes = contents.bytes.to_vec();
    if let Err(error) = std::str::from_utf8(&bytes) {
        let message = format!(
            "is no UTF-8 text (byte {}); save it as UTF-8 and try again",
            error.valid_up_to() + 1
        );
        return Err(Failure::of_file(exit::CONFIG, path, &message));
    }
    let meta = fs::metadata(path).map_err(|e| Failure::of_io(path, "cannot be read", &e))?;
    Ok(Some(Content {
        bytes,
        mode: contents.mode,
        uid: meta.uid(),
        gid: meta.gid(),
    }))
}

fn text_of(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    Some(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text))
}

fn remove(path: &Path) -> Result<(), Failure> {
    fs::remove_file(path).map_err(|error| Failure::of_io(path, "cannot be removed", &error))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push(ending);
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_another_program_writes_meanwhile_keeps_what_that_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for before in [None, Some("{}")] {
            if let Some(before) = before {
                fs::write(&path, before).unwrap();
            }
            let store = Store::open(&path, true).unwrap();
            fs::write(&path, "theirs").unwrap();
            let failure = store.write("ours").unwrap_err();
            assert_eq!(failure.exit, exit::UNAVAILABLE);
            assert!(failure.message.contains("another program"));
            store.restore(None).unwrap_err();
            assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_failed_replacement_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let store = Store::open(&path, true).unwrap();
        fs::create_dir(&path).unwrap();
        // A rename over a directory fails; the staged file is gone again.
        let failure = store.replace(&path, b"x").unwrap_err();
        assert!(failure.message.contains("nothing was changed"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
