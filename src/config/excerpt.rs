//! The source line under a problem, unless a secret might be in it.
//!
//! Reports end up in journals, tickets and chats. A line is shown only if nothing
//! about it suggests a secret; otherwise the key is shown and its value left out.

use std::fmt;

use super::files::Document;
use super::parse::Format;
use super::tree::Origin;

/// Words in a key that make its value, and any line that mentions them, private.
const PRIVATE: [&str; 8] = [
    "secret",
    "token",
    "value",
    "password",
    "passwd",
    "credential",
    "key_id",
    "api_key",
];

/// The keys a line with a syntax error may begin with to be shown. The parser could
/// not say which key a broken line belongs to, so only known harmless ones pass.
const HARMLESS: [&str; 24] = [
    "url",
    "endpoint",
    "request_timeout",
    "connect_timeout",
    "ca_file",
    "client_cert",
    "client_key",
    "http_version",
    "upstream_401",
    "sse_fallback",
    "unix",
    "tcp",
    "mode",
    "owner",
    "group",
    "allowed_hosts",
    "allowed_origins",
    "path",
    "strip_prefix",
    "upstream",
    "level",
    "format",
    "max_body",
    "replay_buffer",
];

/// Longer lines are not shown: nobody finds a caret in them.
const MAX_LINE: usize = 160;

/// A line, its number, and the column the caret goes under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    line: usize,
    column: usize,
    text: String,
}

impl Excerpt {
    /// The line of a problem with the value of `key` (a path such as `upstream.a.url`).
    /// `hide_value` is for values that must not be shown whatever their key is.
    pub fn of_value(
        document: &Document,
        origin: Origin,
        key: &str,
        hide_value: bool,
    ) -> Option<Excerpt> {
        let (line, column, text) = line_of(document, origin)?;
        let private = hide_value || mentions_private(key) || may_hold_secret(text);
        if (private && !is_header(text)) || text.len() > MAX_LINE {
            let assign = if document.format == Format::Toml {
                " = …"
            } else {
                ": …"
            };
            let last = key.rsplit('.').next().unwrap_or(key);
            let text = format!("{}{assign}", printable(last));
            return Some(Excerpt {
                line,
                column: 1,
                text,
            });
        }
        Some(Excerpt {
            line,
            column,
            text: printable(text),
        })
    }

    /// The line of a syntax error, if it is certain that it holds no secret.
    pub fn of_fault(document: &Document, origin: Origin) -> Option<Excerpt> {
        let (line, column, text) = line_of(document, origin)?;
        let start = text.trim_start_matches([' ', '\t', '-', '{', '"']);
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let key = start.split(|c| !word(c)).next().unwrap_or_default();
        let header = document.format == Format::Toml && start.starts_with('[');
        let harmless = header || HARMLESS.contains(&key);
        if !harmless || may_hold_secret(text) || text.len() > MAX_LINE {
            return None;
        }
        Some(Excerpt {
            line,
            column,
            text: printable(text),
        })
    }
}

fn line_of(document: &Document, origin: Origin) -> Option<(usize, usize, &str)> {
    let Origin::File { line, column, .. } = origin else {
        return None;
    };
    let text = document.text.lines().nth(line.checked_sub(1)?)?;
    Some((line, column, text))
}

/// `[a.b]` or `b:` alone: names, and no value that could be secret.
fn is_header(line: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "[]_-.: ".contains(c);
    let toml = line.starts_with('[') && line.ends_with(']');
    line.chars().all(plain) && (toml || line.ends_with(':'))
}

/// A line can hold more than the key in question: an inline table, a whole JSON file.
/// An `@` may end a password inside a URL.
fn may_hold_secret(line: &str) -> bool {
    mentions_private(line) || line.contains('@')
}

fn mentions_private(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    PRIVATE.iter().any(|word| text.contains(word))
}

/// Control characters would let a file drive the operator's terminal; a tab would
/// move the caret from its place.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>5} | {}", self.line, self.text)?;
        write!(f, "      | {:>width$}", "^", width = self.column)
    }
}
