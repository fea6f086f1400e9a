//! A key's value, read as what the setting needs.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::decode::Section;
use super::report::Report;
use super::tree::{Entry, Node, Origin, Value};

/// The longest time that can be configured.
const MAX_DURATION: Duration = Duration::from_secs(24 * 60 * 60);

/// The largest size that can be configured, in bytes: 1 TiB.
const MAX_SIZE: u64 = 1 << 40;

/// A key and its value.
#[derive(Clone)]
pub struct Field<'a> {
    pub report: &'a Report<'a>,
    pub path: String,
    pub key_origin: Origin,
    pub node: &'a Node,
    key: &'a str,
}

impl<'a> Field<'a> {
    pub(super) fn new(report: &'a Report<'a>, parent: &str, entry: &'a Entry) -> Field<'a> {
        let separator = if parent.is_empty() { "" } else { "." };
        Field {
            report,
            path: format!("{parent}{separator}{}", entry.key),
            key_origin: entry.key_origin,
            node: &entry.node,
            key: &entry.key,
        }
    }

    pub fn key(&self) -> &'a str {
        self.key
    }

    pub fn origin(&self) -> Origin {
        self.node.origin
    }

    /// A problem with the value.
    pub fn problem(&self, message: impl Into<String>) {
        self.report.problem(self.origin(), &self.path, message);
    }

    /// A problem with the key's being there.
    pub fn key_problem(&self, message: impl Into<String>) {
        self.report.problem(self.key_origin, &self.path, message);
    }

    /// A key that nobody knows. Its value stays out of sight: it may be a misspelt `secret`.
    pub fn unknown(&self, advice: &str) {
        let message = format!("unknown key {:?}; {advice}", self.key);
        self.report
            .problem_of_key(self.key_origin, &self.path, message);
    }

    pub fn warn(&self, message: impl Into<String>) {
        self.report.warn(self.origin(), &self.path, message);
    }

    fn expected<T>(&self, what: &str) -> Option<T> {
        self.problem(format!(
            "expected {what}, found {}; correct the value",
            self.node.value.kind()
        ));
        None
    }

    /// Whether the value is this word.
    pub fn is(&self, word: &str) -> bool {
        matches!(&self.node.value, Value::String(text) if text.as_str() == word)
    }

    pub fn text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::String(text) => Some(text),
            Value::Integer(_) | Value::Other("a decimal number") => {
                self.problem("expected a string, found a number; put it in quotes");
                None
            }
            _ => self.expected("a string"),
        }
    }

    /// A string that `parse` understands; its error is a sentence for the operator.
    pub fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        parse(self.text()?)
            .map_err(|message| self.problem(message))
            .ok()
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let words: Vec<String> = choices
            .iter()
            .map(|(word, _)| format!("\"{word}\""))
            .collect();
        self.problem(format!(
            "{text:?} is not a choice here; write one of {}",
            words.join(", ")
        ));
        None
    }

    pub fn boolean(&self) -> Option<bool> {
        match (&self.node.value, self.origin()) {
            (Value::Bool(value), _) => Some(*value),
            // The environment has nothing but strings.
            (Value::String(text), Origin::Variable(_) | Origin::Flag(_)) => {
                match text.to_ascii_lowercase().as_str() {
                    "true" | "1" | "yes" | "on" => Some(true),
                    "false" | "0" | "no" | "off" => Some(false),
                    _ => {
                        self.problem(format!(
                            "{:?} is no boolean; write true or false",
                            text.as_str()
                        ));
                        None
                    }
                }
            }
            _ => self.expected("true or false"),
        }
    }

    pub fn duration(&self) -> Option<Duration> {
        match &self.node.value {
            Value::Integer(number) => {
                self.problem(format!(
                    "a time needs its unit; write \"{number}s\" or \"{number}ms\""
                ));
                None
            }
            Value::String(_) => self.parse(duration),
            _ => self.expected("a time such as \"15s\""),
        }
    }

    /// A moment, in UTC (RFC 3339).
    pub fn time(&self) -> Option<SystemTime> {
        if let Value::Other("a date") = self.node.value {
            self.problem("a date needs quotes; write \"2026-12-31T12:00:00Z\"");
            return None;
        }
        self.parse(|text| {
            humantime::parse_rfc3339(text).map_err(|_| {
                format!("{text:?} is no time of a day in UTC; write one such as \"2026-12-31T12:00:00Z\"")
            })
        })
    }

    /// A whole number in this range.
    pub fn number(&self, least: u32, most: u32) -> Option<u32> {
        let number = match &self.node.value {
            Value::Integer(number) => u32::try_from(*number).ok(),
            _ => None,
        };
        let number = number.filter(|number| (least..=most).contains(number));
        if number.is_none() {
            self.problem(format!(
                "not a whole number from {least} to {most}; write one"
            ));
        }
        number
    }

    /// A number of bytes: an integer, or a string with a unit.
    pub fn size(&self) -> Option<u64> {
        let size = match &self.node.value {
            Value::Integer(bytes) => u64::try_from(*bytes).ok(),
            Value::String(text) => text
                .parse::<bytesize::ByteSize>()
                .ok()
                .map(|size| size.as_u64()),
            _ => return self.expected("a size such as \"64MiB\""),
        };
        if size.is_none_or(|size| size > MAX_SIZE) {
            self.problem(
                "not a size up to 1 TiB; write bytes as a number, or a unit: \"512KiB\", \"64MiB\"",
            );
            return None;
        }
        size
    }

    pub fn section(&self) -> Option<Section<'a>> {
        match &self.node.value {
            Value::Table(table) => Some(Section::new(
                self.report,
                self.path.clone(),
                self.key_origin,
                table,
            )),
            _ => self.expected("a table"),
        }
    }

    pub fn is_list(&self) -> bool {
        matches!(self.node.value, Value::Array(_))
    }

    /// The items of an array, with the array's key and their index from 1.
    pub fn items(&self) -> Option<Vec<Field<'a>>> {
        let Value::Array(items) = &self.node.value else {
            return self.expected("an array");
        };
        let item = |(index, node): (usize, &'a Node)| Field {
            report: self.report,
            path: format!("{}[{}]", self.path, index + 1),
            key_origin: node.origin,
            node,
            key: self.key,
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// The items of an array, or none after a problem.
    pub fn listed(&self) -> Vec<Field<'a>> {
        self.items().unwrap_or_default()
    }

    /// Where it is written, for a log that speaks of it later.
    pub fn place(&self) -> String {
        self.report.place(self.origin(), Origin::Default)
    }

    /// A path; a relative one starts at the directory of the file it is written in,
    /// because a daemon's working directory is nobody's choice.
    pub fn path(&self) -> Option<PathBuf> {
        let text = self.text()?;
        if text.is_empty() {
            self.problem("the path is empty; name a file");
            return None;
        }
        if text.starts_with("~/") {
            self.problem("\"~\" means nothing outside a shell; write the whole path");
            return None;
        }
        let beside = self
            .report
            .document(self.origin())
            .and_then(|document| document.path.parent());
        Some(beside.unwrap_or(Path::new("")).join(text))
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let example = "write a number and a unit, such as \"250ms\", \"15s\", \"2m\" or \"1h\"";
    let trimmed = text.trim();
    if !trimmed.is_empty() && trimmed.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!(
            "a time needs its unit; write \"{trimmed}s\" or \"{trimmed}ms\""
        ));
    }
    let value = humantime::parse_duration(trimmed)
        .map_err(|error| format!("{text:?} is no time ({error}); {example}"))?;
    if value.is_zero() || value > MAX_DURATION {
        return Err(format!(
            "{text:?} is out of range; write a time above zero and up to 24h"
        ));
    }
    Ok(value)
}
