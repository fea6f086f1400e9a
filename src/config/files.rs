//! Finding and reading the main file and the fragments beside it.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::Sources;
use super::parse::{Fault, Format, parse};
use super::tree::{Origin, Table};
use crate::{file, paths};

/// The largest configuration file that is read, in bytes.
const MAX_FILE: usize = 1024 * 1024;

/// Arrays that a fragment adds to; every other array it replaces.
const APPENDED: [&str; 2] = ["listener", "route"];

/// A file that was read, kept for showing lines of it until loading ends.
pub struct Document {
    pub path: PathBuf,
    /// Wiped when dropped: it may hold secrets in plain text.
    pub text: Zeroizing<String>,
    pub format: Format,
    /// Any user of the host may read it.
    pub world_readable: bool,
}

/// What the files say together, and every place where one is unreadable or malformed.
#[derive(Default)]
pub struct Files {
    pub documents: Vec<Document>,
    pub tree: Table,
    pub faults: Vec<Fault>,
    /// A file in a default place that this user may not read and does not need.
    pub skipped: Option<PathBuf>,
    /// The variables that any of them takes a secret from, overridden later or not.
    pub secret_variables: Vec<String>,
}

impl Files {
    pub fn read(sources: &Sources) -> Files {
        let mut files = Files::default();
        match sources.main_file() {
            Ok(Some(main)) if sources.can_do_without(&main) => files.skipped = Some(main),
            Ok(Some(main)) => {
                files.add(&main);
                for fragment in files.fragments(&main) {
                    files.add(&fragment);
                }
            }
            Ok(None) => {}
            Err(fault) => files.faults.push(fault),
        }
        files
    }

    fn add(&mut self, path: &Path) {
        let index = self.documents.len();
        let mut document = Document {
            path: path.to_path_buf(),
            text: Zeroizing::default(),
            format: Format::of(path),
            world_readable: false,
        };
        match read(&mut document, index) {
            Ok(table) => {
                table.secret_variables(&mut self.secret_variables);
                self.tree.merge(table, &APPENDED);
            }
            Err(faults) => self.faults.extend(faults),
        }
        self.documents.push(document);
    }

    /// The fragments in `conf.d/` beside the main file, in name order.
    fn fragments(&mut self, main: &Path) -> Vec<PathBuf> {
        let directory = main.parent().unwrap_or(Path::new("")).join("conf.d");
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                let message = format!(
                    "{} cannot be listed ({error}); mend or remove it",
                    directory.display()
                );
                self.faults.push(Fault {
                    origin: Origin::whole_file(0),
                    message,
                });
                return Vec::new();
            }
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| is_fragment(path));
        paths.sort();
        paths
    }
}

/// Hidden files, and what editors and package managers leave beside a file
/// (`x.toml~`, `.x.toml.swp`, `x.toml.dpkg-old`), are no fragments.
fn is_fragment(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let extension = path.extension().and_then(|e| e.to_str());
    !name.starts_with(b".") && matches!(extension, Some("toml" | "yaml" | "yml" | "json"))
}

fn read(document: &mut Document, index: usize) -> Result<Table, Vec<Fault>> {
    let whole = |message: String| {
        vec![Fault {
            origin: Origin::whole_file(index),
            message,
        }]
    };
    let contents = file::read(&document.path, MAX_FILE)
        .map_err(|error| whole(format!("the configuration file {error}")))?;
    document.world_readable = contents.mode & 0o004 != 0;
    let text = match std::str::from_utf8(&contents.bytes) {
        Ok(text) => text,
        Err(error) => {
            let before = &contents.bytes[..error.valid_up_to()];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            return Err(whole(format!(
                "line {line} is not UTF-8; save the file as UTF-8"
            )));
        }
    };
    document.text = Zeroizing::new(text.to_owned());
    parse(&document.text, document.format, index)
}

impl Sources {
    /// Whether an upstream is given outside the files.
    pub(super) fn gives_upstream(&self) -> bool {
        self.flags.upstream_url.is_some() || self.env.bytes("MCP_UPSTREAM_URL").is_some()
    }

    /// The system's file is often for the system's daemon alone. A user whose environment
    /// says everything starts a daemon of its own all the same.
    fn can_do_without(&self, main: &Path) -> bool {
        let named = self.file.is_some() || self.env.bytes("MCP_CONFIG").is_some();
        let denied = || matches!(file::read(main, MAX_FILE), Err(file::ReadError::Denied(_)));
        !named && self.gives_upstream() && denied()
    }

    /// The main file: the one that is named, else the one that is found. A named file
    /// need not exist; reading it says so.
    pub(super) fn main_file(&self) -> Result<Option<PathBuf>, Fault> {
        if let Some(path) = &self.file {
            return Ok(Some(path.clone()));
        }
        match self.env.bytes("MCP_CONFIG") {
            None => Ok(paths::config_file(&self.env)),
            Some(_) => match self.env.get("MCP_CONFIG") {
                Some(path) if !path.is_empty() => Ok(Some(PathBuf::from(path))),
                _ => Err(Fault {
                    origin: Origin::Variable("MCP_CONFIG"),
                    message: "is no file name; name the configuration file or unset it".into(),
                }),
            },
        }
    }
}
