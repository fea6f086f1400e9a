//! Secrets: what they are allowed to do, and where they come from.

mod command;

pub use command::{Command, stay_outside};

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::env::Env;
use crate::file::{self, shell_quoted};

/// The longest secret that is accepted, in bytes; keys and tokens are far shorter.
pub const MAX_LENGTH: usize = 64 * 1024;

/// Bytes that must not be seen: no `Display`, no serialisation, a `Debug` that tells
/// nothing, a comparison in constant time, memory wiped when the last clone goes.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<Vec<u8>>>);

impl Secret {
    /// Takes the bytes over, without a copy that would have to be wiped too.
    pub fn new(bytes: impl Into<Zeroizing<Vec<u8>>>) -> Secret {
        Secret(Arc::new(bytes.into()))
    }

    /// Whether both are the same secret in memory, and not just equal.
    pub fn is(&self, other: &Secret) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The bytes themselves. Callers put them into a MAC or a header and nowhere else.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        self.expose().ct_eq(other.expose()).into()
    }
}

impl Eq for Secret {}

/// Where a secret is to be read from, at start and again at each reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    File {
        path: PathBuf,
        /// Accept a file that other users can read.
        insecure_permissions: bool,
    },
    /// The name of an environment variable.
    Env(String),
    /// A file name under `$CREDENTIALS_DIRECTORY`, where systemd puts `LoadCredential=`.
    Credential {
        name: String,
        insecure_permissions: bool,
    },
    /// What a program prints.
    Command(Command),
}

/// Why there is no secret: a sentence that names the source and the next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretError(String);

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SecretError {}

impl Source {
    /// Reads the secret: without its trailing newline, never empty.
    pub fn read(&self, env: &Env) -> Result<Secret, SecretError> {
        match self {
            Source::File {
                path,
                insecure_permissions,
            } => from_file(path, *insecure_permissions),
            Source::Env(name) => from_env(name, env),
            Source::Credential {
                name,
                insecure_permissions,
            } => from_file(&credential_path(name, env)?, *insecure_permissions),
            Source::Command(command) => command.run(env),
        }
    }
}

fn from_file(path: &Path, insecure_permissions: bool) -> Result<Secret, SecretError> {
    let bytes = read_private_file(path, MAX_LENGTH, insecure_permissions)?;
    let secret = without_newline(&bytes);
    if secret.is_empty() {
        return fail(format!(
            "{} is empty; write the secret into it",
            path.display()
        ));
    }
    Ok(Secret::new(secret.to_vec()))
}

fn from_env(name: &str, env: &Env) -> Result<Secret, SecretError> {
    let Some(value) = env.bytes(name) else {
        return fail(format!(
            "the environment variable {name} is not set; set it where the daemon is started, \
             or use {{ file = \"/path/to/it\" }}"
        ));
    };
    let value = without_newline(value);
    if value.is_empty() {
        return fail(format!(
            "the environment variable {name} is empty; put the secret in it"
        ));
    }
    if value.len() > MAX_LENGTH {
        return fail(format!(
            "the environment variable {name} is longer than 64 KiB; shorten it"
        ));
    }
    Ok(Secret::new(value.to_vec()))
}

fn credential_path(name: &str, env: &Env) -> Result<PathBuf, SecretError> {
    if name.is_empty() || name == "." || name.contains('/') || name.contains("..") {
        return fail(format!(
            "{name:?} cannot name a systemd credential; write the name alone, \
             without \"/\" or \"..\", as in LoadCredential=NAME:/path"
        ));
    }
    match env.get("CREDENTIALS_DIRECTORY") {
        Some(directory) if !directory.is_empty() => Ok(Path::new(directory).join(name)),
        _ => fail(format!(
            "CREDENTIALS_DIRECTORY is not set, so there is no credential {name:?}; \
             put LoadCredential={name}:/path/to/it into the systemd unit, or use \
             {{ file = \"/path/to/it\" }}"
        )),
    }
}

/// Reads a file that only its owner and group may read, such as a secret or a private
/// key. The check is on the open file, so it cannot be swapped between the two.
pub fn read_private_file(
    path: &Path,
    limit: usize,
    insecure_permissions: bool,
) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let contents = file::read(path, limit)
        .map_err(|error| SecretError(format!("{} {error}", path.display())))?;
    if contents.mode & 0o006 != 0 && !insecure_permissions {
        let verb = if contents.mode & 0o004 != 0 {
            "read"
        } else {
            "change"
        };
        return fail(format!(
            "every user of this host can {verb} {} (mode {:04o}); type: chmod o-rwx {}",
            path.display(),
            contents.mode,
            shell_quoted(path)
        ));
    }
    Ok(contents.bytes)
}

/// Editors and `echo` end a file with one newline that nobody means; a second one is meant.
fn without_newline(bytes: &[u8]) -> &[u8] {
    match bytes.strip_suffix(b"\n") {
        Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
        None => bytes,
    }
}

fn fail<T>(message: String) -> Result<T, SecretError> {
    Err(SecretError(message))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn no_env() -> Env {
        Env::from_pairs::<&str, &str>([])
    }

    fn file_with(content: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    fn read_file(path: &Path) -> Result<Secret, SecretError> {
        let path = path.to_path_buf();
        Source::File {
            path,
            insecure_permissions: false,
        }
        .read(&no_env())
    }

    #[test]
    fn debug_tells_nothing() {
        assert_eq!(
            format!("{:?}", Secret::new(b"hunter2".to_vec())),
            "[redacted]"
        );
    }

    #[test]
    fn exactly_one_trailing_newline_is_dropped() {
        for (content, secret) in [
            ("a", "a"),
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
            ("a\r", "a\r"),
            (" a ", " a "),
        ] {
            let (_dir, path) = file_with(content, 0o600);
            assert_eq!(
                read_file(&path).unwrap().expose(),
                secret.as_bytes(),
                "{content:?}"
            );
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_command_that_mends_it() {
        let (_dir, path) = file_with("s", 0o644);
        let shown = path.display();
        assert_eq!(
            read_file(&path).unwrap_err().to_string(),
            format!(
                "every user of this host can read {shown} (mode 0644); type: chmod o-rwx {shown}"
            )
        );
        assert!(
            Source::File {
                path,
                insecure_permissions: true
            }
            .read(&no_env())
            .is_ok()
        );
    }

    #[test]
    fn a_file_that_its_group_can_read_is_fine() {
        let (_dir, path) = file_with("s", 0o640);
        assert_eq!(read_file(&path).unwrap(), Secret::new(b"s".to_vec()));
    }

    #[test]
    fn an_empty_or_missing_file_is_named() {
        for content in ["", "\n", "\r\n"] {
            let (_dir, path) = file_with(content, 0o600);
            let message = read_file(&path).unwrap_err().to_string();
            assert_eq!(
                message,
                format!("{} is empty; write the secret into it", path.display())
            );
        }
        let message = read_file(Path::new("/nonexistent/key"))
            .unwrap_err()
            .to_string();
        assert_eq!(
            message,
            "/nonexistent/key does not exist; create it or correct the path"
        );
    }

    #[test]
    fn a_secret_over_the_limit_is_refused() {
        let (_dir, path) = file_with(&"x".repeat(MAX_LENGTH + 1), 0o600);
        assert!(
            read_file(&path)
                .unwrap_err()
                .to_string()
                .contains("larger than 64 KiB")
        );
    }

    #[test]
    fn a_variable_is_read_from_the_snapshot() {
        let env = Env::from_pairs([("KEY", "s3cret\n"), ("EMPTY", "")]);
        assert_eq!(
            Source::Env("KEY".into()).read(&env).unwrap(),
            Secret::new(b"s3cret".to_vec())
        );
        let empty = Source::Env("EMPTY".into())
            .read(&env)
            .unwrap_err()
            .to_string();
        assert!(
            empty.starts_with("the environment variable EMPTY is empty"),
            "{empty}"
        );
        let unset = Source::Env("UNSET".into())
            .read(&env)
            .unwrap_err()
            .to_string();
        assert!(
            unset.starts_with("the environment variable UNSET is not set"),
            "{unset}"
        );
    }

    #[test]
    fn a_systemd_credential_is_a_name_and_never_a_path() {
        let (dir, _path) = file_with("s", 0o400);
        let env = Env::from_pairs([("CREDENTIALS_DIRECTORY", dir.path().to_str().unwrap())]);
        let credential = |name: &str| {
            let name = name.to_owned();
            Source::Credential {
                name,
                insecure_permissions: false,
            }
        };
        assert_eq!(
            credential("key").read(&env).unwrap(),
            Secret::new(b"s".to_vec())
        );
        for name in ["../key", "a/b", "..", "", "."] {
            let message = credential(name).read(&env).unwrap_err().to_string();
            assert!(
                message.contains("cannot name a systemd credential"),
                "{message}"
            );
        }
        let message = credential("key").read(&no_env()).unwrap_err().to_string();
        assert!(message.contains("LoadCredential=key:"), "{message}");
    }
}
