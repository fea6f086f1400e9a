//! From the tree to values, noting every problem and going on.
//!
//! A getter that finds a problem notes it and gives `None`; the caller uses a default
//! and goes on, so one run reports everything. That default never takes effect:
//! with a single problem there is no [`Config`](super::Config).

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::Problem;
use super::excerpt::Excerpt;
use super::files::Document;
use super::tree::{Entry, Node, Origin, Table, Value};
use crate::env::Env;

/// The longest time that can be configured.
const MAX_DURATION: Duration = Duration::from_secs(24 * 60 * 60);

/// The largest size that can be configured, in bytes: 1 TiB.
const MAX_SIZE: u64 = 1 << 40;

/// What is found out while decoding, and what decoding needs to know.
pub struct Report<'a> {
    pub env: &'a Env,
    documents: &'a [Document],
    pub problems: RefCell<Vec<Problem>>,
    pub warnings: RefCell<Vec<Problem>>,
    /// Environment variables that secrets were read from.
    pub secret_variables: RefCell<BTreeSet<String>>,
}

impl<'a> Report<'a> {
    pub fn new(env: &'a Env, documents: &'a [Document]) -> Report<'a> {
        Report {
            env,
            documents,
            problems: RefCell::default(),
            warnings: RefCell::default(),
            secret_variables: RefCell::default(),
        }
    }

    pub fn document(&self, origin: Origin) -> Option<&'a Document> {
        match origin {
            Origin::File { file, .. } => self.documents.get(file),
            _ => None,
        }
    }

    /// The main file, if one was read.
    pub fn first_document(&self) -> Option<&'a Document> {
        self.documents.first()
    }

    pub fn problem(&self, origin: Origin, key: &str, message: impl Into<String>) {
        self.note(&self.problems, origin, key, message.into(), false);
    }

    pub fn warn(&self, origin: Origin, key: &str, message: impl Into<String>) {
        self.note(&self.warnings, origin, key, message.into(), false);
    }

    /// A place where a file is malformed: no key is known there.
    pub fn fault(&self, origin: Origin, message: String) {
        let document = self.document(origin);
        let excerpt = document.and_then(|document| Excerpt::of_fault(document, origin));
        let path = document.map(|document| document.path.clone());
        self.problems
            .borrow_mut()
            .push(Problem::new(origin, path, "", message, excerpt));
    }

    fn note(
        &self,
        list: &RefCell<Vec<Problem>>,
        origin: Origin,
        key: &str,
        message: String,
        hide_value: bool,
    ) {
        let document = self.document(origin);
        let excerpt =
            document.and_then(|document| Excerpt::of_value(document, origin, key, hide_value));
        let path = document.map(|document| document.path.clone());
        list.borrow_mut()
            .push(Problem::new(origin, path, key, message, excerpt));
    }

    /// Says where something is, for a message about something else: "line 4", with the
    /// file's path if it is another file.
    pub fn place(&self, origin: Origin, seen_from: Origin) -> String {
        match (origin, seen_from) {
            (Origin::File { file: a, line, .. }, Origin::File { file: b, .. }) if a == b => {
                format!("line {line}")
            }
            (Origin::File { file, line, .. }, _) => {
                let path = self
                    .documents
                    .get(file)
                    .map(|document| document.path.display());
                path.map_or_else(String::new, |path| format!("{path}:{line}"))
            }
            (Origin::Variable(name) | Origin::Flag(name), _) => name.to_owned(),
            (Origin::Default, _) => "the defaults".to_owned(),
        }
    }
}

/// A table that is being decoded. The keys that are asked for are the known keys.
pub struct Section<'a> {
    pub report: &'a Report<'a>,
    pub path: String,
    pub origin: Origin,
    table: &'a Table,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    pub fn root(report: &'a Report<'a>, table: &'a Table) -> Section<'a> {
        let origin = Origin::Default;
        Section {
            report,
            path: String::new(),
            origin,
            table,
            known: Vec::new(),
        }
    }

    /// The key's value, if it is given.
    pub fn field(&mut self, key: &'static str) -> Option<Field<'a>> {
        self.known.push(key);
        self.table.get(key).map(|entry| self.wrap(entry))
    }

    /// The key's value; a problem with this advice if it is missing.
    pub fn required(&mut self, key: &'static str, advice: &str) -> Option<Field<'a>> {
        let field = self.field(key);
        if field.is_none() {
            self.problem(format!("\"{key}\" is missing; {advice}"));
        }
        field
    }

    /// The one of these keys that is given; a problem if none or several are.
    pub fn exactly_one(&mut self, keys: &[&'static str], advice: &str) -> Option<Field<'a>> {
        let mut given: Vec<Field<'a>> = keys.iter().filter_map(|key| self.field(key)).collect();
        if let [first, .., last] = given.as_slice() {
            let place = self.report.place(first.key_origin, last.key_origin);
            let (a, b) = (first.key(), last.key());
            last.key_problem(format!(
                "\"{b}\" and \"{a}\" ({place}) exclude each other; keep one"
            ));
            return None;
        }
        if given.is_empty() {
            let choice = keys
                .iter()
                .map(|key| format!("\"{key}\""))
                .collect::<Vec<_>>();
            self.problem(format!("one of {} is missing; {advice}", choice.join(", ")));
        }
        given.pop()
    }

    /// Every entry, for tables whose keys are names that the operator chose.
    pub fn entries(&self) -> impl Iterator<Item = Field<'a>> {
        self.table.entries().iter().map(|entry| self.wrap(entry))
    }

    pub fn problem(&self, message: impl Into<String>) {
        self.report.problem(self.origin, &self.path, message);
    }

    pub fn warn(&self, message: impl Into<String>) {
        self.report.warn(self.origin, &self.path, message);
    }

    /// Reports every key that nobody asked for.
    pub fn finish(self) {
        for field in self
            .entries()
            .filter(|field| !self.known.contains(&field.key()))
        {
            let advice = match nearest(field.key(), self.known.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("the keys here are {}", self.known.join(", ")),
            };
            let message = format!("unknown key {:?}; {advice}", field.key());
            let (origin, report) = (field.key_origin, field.report);
            // The value stays out of sight: this may be a misspelt "secret".
            report.note(&report.problems, origin, &field.path, message, true);
        }
    }

    fn wrap(&self, entry: &'a Entry) -> Field<'a> {
        let separator = if self.path.is_empty() { "" } else { "." };
        Field {
            report: self.report,
            path: format!("{}{separator}{}", self.path, entry.key),
            key_origin: entry.key_origin,
            node: &entry.node,
            key: &entry.key,
        }
    }
}

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
            Value::Table(table) => Some(Section {
                report: self.report,
                path: self.path.clone(),
                origin: self.key_origin,
                table,
                known: Vec::new(),
            }),
            _ => self.expected("a table"),
        }
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

/// The known word that somebody most likely meant.
pub fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let distance = |candidate: &&str| {
        let (a, b) = (
            word.to_ascii_lowercase().replace('-', "_"),
            candidate.replace('-', "_"),
        );
        let within = a.len() >= 4 && (b.contains(&a) || a.contains(&b));
        let edits = strsim::damerau_levenshtein(&a, &b);
        if within { edits.min(1) } else { edits }
    };
    let close = known.map(|candidate| (distance(&candidate), candidate));
    close
        .filter(|(edits, k)| *edits <= (k.len() / 3).clamp(1, 3))
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, k)| k)
}
