//! Everything that is wrong, each with its place, in one report.

use std::fmt;
use std::path::PathBuf;

use super::excerpt::{Excerpt, printable};
use super::tree::Origin;

/// One thing that is wrong, or should be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    origin: Origin,
    /// The file's path when the origin is a file.
    path: Option<PathBuf>,
    key: String,
    message: String,
    excerpt: Option<Excerpt>,
}

impl Problem {
    pub(super) fn new(
        origin: Origin,
        path: Option<PathBuf>,
        key: &str,
        message: String,
        excerpt: Option<Excerpt>,
    ) -> Problem {
        // Names and values of the operator's are quoted in messages: they must neither
        // break the one line that a log has for a problem nor drive a terminal.
        let (key, message) = (printable(key), printable(&message));
        Problem {
            origin,
            path,
            key,
            message,
            excerpt,
        }
    }

    /// The key's path in the file, such as `upstream.acme.url`; empty for a whole file.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What is wrong and what to do about it.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Line and column, from 1, when the problem is at a place in a file.
    pub fn position(&self) -> Option<(usize, usize)> {
        match self.origin {
            Origin::File { line, column, .. } if line > 0 => Some((line, column)),
            _ => None,
        }
    }
}

/// One line, for logs: `path:line:column: key: what is wrong; what to do next`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "{}", path.display())?;
        }
        match self.origin {
            Origin::File { line: 0, .. } => f.write_str(": ")?,
            Origin::File { line, column, .. } => write!(f, ":{line}:{column}: ")?,
            // The name says which setting it is; the key in the file would only mislead.
            Origin::Variable(name) | Origin::Flag(name) => {
                return write!(f, "{name}: {}", self.message);
            }
            Origin::Default => {}
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Why there is no configuration: never empty, in the order of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn new(mut list: Vec<Problem>) -> Problems {
        list.sort_by_key(|problem| problem.origin);
        // Two checks may meet over one value and say the same.
        list.dedup();
        Problems(list)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "there is always at least one")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// One line each, for logs and `STATUS=`.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(Problem::to_string)
    }
}

/// For the terminal: each problem, and the line it is in with a caret under the place.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
            if let Some(excerpt) = &problem.excerpt {
                write!(f, "\n{excerpt}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
