//! Changes to a text that leave every other byte alone.

use std::ops::Range;

/// Why a file was not understood or not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Offset in bytes.
    pub at: usize,
    pub message: String,
}

impl Fault {
    pub fn new(at: usize, message: impl Into<String>) -> Fault {
        let message = message.into();
        Fault { at, message }
    }

    /// Line and column, from 1; columns count characters.
    pub fn place(&self, text: &str) -> (usize, usize) {
        let before = String::from_utf8_lossy(&text.as_bytes()[..self.at.min(text.len())]);
        let line = before.rfind('\n').map_or(0, |newline| newline + 1);
        (
            before.matches('\n').count() + 1,
            before[line..].chars().count() + 1,
        )
    }
}

/// What to put where.
#[derive(Debug)]
pub struct Splice(pub Range<usize>, pub String);

/// Carries out splices that do not overlap, in any order.
pub fn spliced(text: &str, mut splices: Vec<Splice>) -> String {
    splices.sort_by_key(|Splice(range, _)| range.start);
    let mut result = String::with_capacity(text.len() + 256);
    let mut from = 0;
    for Splice(range, new) in splices {
        result.push_str(&text[from..range.start]);
        result.push_str(&new);
        from = range.end;
    }
    result.push_str(&text[from..]);
    result
}

/// How the text ends its lines.
pub fn newline(text: &str) -> &'static str {
    match text.find('\n') {
        Some(at) if text[..at].ends_with('\r') => "\r\n",
        _ => "\n",
    }
}

pub fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

/// The end of the line that `at` is in, before its newline.
pub fn line_end(text: &str, at: usize) -> usize {
    let end = text[at..].find('\n').map_or(text.len(), |n| at + n);
    if text[at..end].ends_with('\r') {
        end - 1
    } else {
        end
    }
}

/// The blanks that the line of `at` begins with.
pub fn indent(text: &str, at: usize) -> &str {
    let line = &text[line_start(text, at)..at];
    &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
}

/// `text` without the newline at its end.
pub fn chomp(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}
