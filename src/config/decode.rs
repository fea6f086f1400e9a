//! From the tree to values, noting every problem and going on.
//!
//! A getter that finds a problem notes it and gives `None`; the caller uses a default
//! and goes on, so one run reports everything. That default never takes effect:
//! with a single problem there is no [`Config`](super::Config).

pub use super::field::Field;
use super::report::Report;
use super::suggest::nearest;
use super::tree::{Origin, Table};

/// A table that is being decoded. The keys that are asked for are the known keys.
pub struct Section<'a> {
    pub report: &'a Report<'a>,
    pub path: String,
    pub origin: Origin,
    table: &'a Table,
    known: Vec<&'static str>,
    /// What is missing: the keys any of which would do, and the sentence that says so.
    missing: Vec<(Vec<&'static str>, String)>,
}

impl<'a> Section<'a> {
    pub fn root(report: &'a Report<'a>, table: &'a Table) -> Section<'a> {
        Section::new(report, String::new(), Origin::Default, table)
    }

    pub(super) fn new(
        report: &'a Report<'a>,
        path: String,
        origin: Origin,
        table: &'a Table,
    ) -> Section<'a> {
        Section {
            report,
            path,
            origin,
            table,
            known: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// The key's value, if it is given.
    pub fn field(&mut self, key: &'static str) -> Option<Field<'a>> {
        self.known.push(key);
        self.table
            .get(key)
            .map(|entry| Field::new(self.report, &self.path, entry))
    }

    /// The key's value; a problem with this advice if it is missing.
    pub fn required(&mut self, key: &'static str, advice: &str) -> Option<Field<'a>> {
        let field = self.field(key);
        if field.is_none() {
            self.missing(&[key], format!("\"{key}\" is missing; {advice}"));
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
            let choice: Vec<String> = keys.iter().map(|key| format!("\"{key}\"")).collect();
            self.missing(
                keys,
                format!("one of {} is missing; {advice}", choice.join(", ")),
            );
        }
        given.pop()
    }

    /// Notes that one of `keys` should be here. Said in the end, and only if no unknown
    /// key looks like one of them: a misspelt key is one mistake, not two.
    pub fn missing(&mut self, keys: &[&'static str], message: String) {
        self.missing.push((keys.to_vec(), message));
    }

    /// Every entry, for tables whose keys are names that the operator chose.
    pub fn entries(&self) -> impl Iterator<Item = Field<'a>> {
        self.table
            .entries()
            .iter()
            .map(|entry| Field::new(self.report, &self.path, entry))
    }

    pub fn warn(&self, message: impl Into<String>) {
        self.report.warn(self.origin, &self.path, message);
    }

    /// Reports what is missing and every key that nobody asked for. A section that is
    /// not finished lets mistakes pass in silence.
    pub fn finish(self) {
        let unknown = self
            .entries()
            .filter(|field| !self.known.contains(&field.key()));
        let mut meant = Vec::new();
        for field in unknown {
            let near = nearest(field.key(), self.known.iter().copied());
            let advice = match near {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("the keys here are {}", self.known.join(", ")),
            };
            field.unknown(&advice);
            meant.extend(near);
        }
        for (keys, message) in &self.missing {
            if !keys.iter().any(|key| meant.contains(key)) {
                self.report
                    .problem(self.origin, &self.path, message.as_str());
            }
        }
    }
}
