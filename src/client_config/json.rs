//! JSON and JSONC: one property in, one property out, and not a byte elsewhere.

mod trivia;

use jsonc_parser::ast::{Object, ObjectProp, Value as Json};
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use serde_json::{Map, Value};

use super::entry::{Body, Entry, quoted};
use super::text::{Fault, Splice, indent, newline, spliced};

use self::trivia::{after_line, comma, content_end, is_line_comment};

/// A file's text and the table of servers in it, if there is one.
pub struct File<'a> {
    text: &'a str,
    root: Option<Object<'a>>,
    servers: &'a str,
}

impl<'a> File<'a> {
    /// # Errors
    /// What is no JSON, or has something else where the servers' table should be.
    pub fn parse(text: &'a str, servers: &'a str, comments: bool) -> Result<File<'a>, Fault> {
        let options = ParseOptions {
            allow_comments: comments,
            allow_trailing_commas: comments,
            allow_loose_object_property_names: false,
            allow_missing_commas: false,
            allow_single_quoted_strings: false,
            allow_hexadecimal_numbers: false,
            allow_unary_plus_numbers: false,
            allow_bare_decimal_point_numbers: false,
            allow_non_finite_numbers: false,
            allow_extended_string_escapes: false,
        };
        let parsed = parse_to_ast(text, &CollectOptions::default(), &options)
            .map_err(|error| Fault::new(error.range().start, syntax(&error.kind().to_string())))?;
        let root = match parsed.value {
            None => None,
            Some(Json::Object(root)) => Some(root),
            Some(other) => {
                let message = "the file holds no object; it has to begin with {";
                return Err(Fault::new(other.start(), message));
            }
        };
        let file = File {
            text,
            root,
            servers,
        };
        file.table()?;
        Ok(file)
    }

    /// All of the file.
    pub fn value(&self) -> Value {
        self.root.as_ref().map_or(Value::Null, object_value)
    }

    /// What the server `name` has between its braces and around them.
    pub fn raw(&self, name: &str) -> Result<Option<&'a str>, Fault> {
        let found = self.entry(name)?;
        Ok(found.map(|prop| prop.value.range().text(self.text)))
    }

    /// Where the server `name` is.
    pub fn place(&self, name: &str) -> usize {
        let entry = self.entry(name).ok().flatten();
        entry.map_or(0, |prop| prop.range.start)
    }

    fn table(&self) -> Result<Option<&Object<'a>>, Fault> {
        let Some(root) = &self.root else {
            return Ok(None);
        };
        match property(root, self.servers)? {
            None => Ok(None),
            Some(prop) => match &prop.value {
                Json::Object(table) => Ok(Some(table)),
                other => {
                    let message = format!("\"{}\" has to be an object", self.servers);
                    Err(Fault::new(other.start(), message))
                }
            },
        }
    }

    fn entry(&self, name: &str) -> Result<Option<&ObjectProp<'a>>, Fault> {
        self.table()?
            .map_or(Ok(None), |table| property(table, name))
    }

    /// The file with the server `name` added, or with its whole entry replaced.
    pub fn put(&self, name: &str, body: Body<'_>) -> Result<String, Fault> {
        let unit = self.unit();
        let newline = newline(self.text);
        if let Some(prop) = self.entry(name)? {
            let lead = self.lead(prop).to_owned();
            let value = render(body, &lead, unit);
            let range = prop.value.range();
            return Ok(spliced(
                self.text,
                vec![Splice(range.start..range.end, value)],
            ));
        }
        if let Some(table) = self.table()? {
            return Ok(self.insert(table, name, |lead| render(body, lead, unit)));
        }
        let table = |lead: &str| {
            let inner = deeper(lead, unit);
            let value = render(body, &inner, unit);
            let end = if inner.is_empty() { "" } else { lead };
            format!("{{{inner}{}: {value}{end}}}", quoted(name))
        };
        if let Some(root) = &self.root {
            return Ok(self.insert(root, self.servers, table));
        }
        let lead = format!("{newline}{unit}");
        let before = match self.text {
            "" => "",
            text if text.ends_with('\n') => "",
            _ => newline,
        };
        let servers = quoted(self.servers);
        let table = table(&lead);
        Ok(format!(
            "{}{before}{{{lead}{servers}: {table}{newline}}}{newline}",
            self.text
        ))
    }

    /// The file with the fields of `entry` in the server `name`, whose other keys stay.
    pub fn update(&self, name: &str, entry: &Entry) -> Result<String, Fault> {
        let mut text = self.text.to_owned();
        for (key, field) in &entry.fields {
            text = self.edited(&text, name, |file, object| {
                let literal = field.literal();
                Ok(match property(object, key)? {
                    Some(prop) if prop_value(&prop.value) == parse_literal(&literal) => {
                        text.clone()
                    }
                    Some(prop) => {
                        let range = prop.value.range();
                        spliced(&text, vec![Splice(range.start..range.end, literal)])
                    }
                    None => file.insert(object, key, |_| literal),
                })
            })?;
        }
        let found = self.value()[self.servers][name].clone();
        let obsolete = found.as_object().map(|found| entry.obsolete(found));
        for key in obsolete.unwrap_or_default() {
            text = self.edited(&text, name, |file, object| file.cut(object, key))?;
        }
        Ok(text)
    }

    /// Parses again after each step, because every step moves what follows it.
    fn edited(
        &self,
        text: &str,
        name: &str,
        step: impl FnOnce(&File<'_>, &Object<'_>) -> Result<String, Fault>,
    ) -> Result<String, Fault> {
        let file = File::parse(text, self.servers, true)?;
        match file.entry(name)?.map(|prop| &prop.value) {
            Some(Json::Object(object)) => step(&file, object),
            _ => Err(Fault::new(0, format!("\"{name}\" has to be an object"))),
        }
    }

    /// The file without the server `name`, and without the table if that is empty then and
    /// `keep_table` does not ask for it.
    pub fn remove(&self, name: &str, keep_table: bool) -> Result<String, Fault> {
        let Some(table) = self.table()? else {
            return Ok(self.text.to_owned());
        };
        let text = self.cut(table, name)?;
        let file = File::parse(&text, self.servers, true)?;
        match (file.table()?, &file.root) {
            (Some(table), Some(root)) if !keep_table && is_bare(&text, table) => {
                file.cut(root, self.servers)
            }
            _ => Ok(text),
        }
    }

    /// The text with a property more, in the manner of its neighbours.
    fn insert(&self, object: &Object<'_>, key: &str, value: impl FnOnce(&str) -> String) -> String {
        let text = self.text;
        let Some(last) = object.properties.last() else {
            return self.insert_first(object, key, value);
        };
        let colon = &text[last.name.range().end..last.value.start()];
        let mut lead = self.lead(last);
        if object.properties.len() == 1 && !lead.contains('\n') {
            // What is before a first one says nothing of what is between two.
            lead = if colon == ":" { "" } else { " " };
        }
        let end = last.range.end;
        let comma = comma(text, end);
        let mut at = comma.map_or(end, |comma| comma + 1);
        if lead.contains('\n') {
            at = after_line(text, at);
        }
        let mut new = format!("{lead}{}: {}", quoted(key), value(lead));
        if comma.is_some() {
            new.push(',');
            return spliced(text, vec![Splice(at..at, new)]);
        }
        if at == end {
            new.insert(0, ',');
            return spliced(text, vec![Splice(at..at, new)]);
        }
        let comma = Splice(end..end, ",".to_owned());
        spliced(text, vec![comma, Splice(at..at, new)])
    }

    fn insert_first(
        &self,
        object: &Object<'_>,
        key: &str,
        value: impl FnOnce(&str) -> String,
    ) -> String {
        let text = self.text;
        let inside = object.range.start + 1..object.range.end - 1;
        let at = content_end(text, inside.start, inside.end);
        if !self.is_in_lines() && !is_line_comment(text, inside.start, at) {
            let new = format!("{}: {}", quoted(key), value(""));
            return spliced(text, vec![Splice(at..at, new)]);
        }
        let outer = format!("{}{}", newline(text), indent(text, object.range.start));
        let lead = deeper(&outer, self.unit());
        let mut new = format!("{lead}{}: {}", quoted(key), value(&lead));
        if !text[at..inside.end].contains('\n') {
            new.push_str(&outer);
        }
        spliced(text, vec![Splice(at..at, new)])
    }

    /// The text without a property; what the property's insertion changed is as it was.
    fn cut(&self, object: &Object<'_>, key: &str) -> Result<String, Fault> {
        let text = self.text;
        let Some(prop) = property(object, key)? else {
            return Ok(text.to_owned());
        };
        let before = object
            .properties
            .iter()
            .take_while(|other| other.range.start < prop.range.start)
            .last();
        let from = before.map_or(object.range.start + 1, |before| before.range.end);
        let mut start = content_end(text, from, prop.range.start);
        let own_comma = comma(text, prop.range.end);
        let mut end = own_comma.map_or(prop.range.end, |comma| comma + 1);
        let mut splices = Vec::new();
        let comma_before = before.and_then(|before| comma(text, before.range.end));
        if own_comma.is_none()
            && let Some(comma) = comma_before
        {
            if comma + 1 == start {
                start = comma;
            } else {
                splices.push(Splice(comma..comma + 1, String::new()));
            }
        }
        if start == object.range.start + 1 {
            let after = &text[end..object.range.end - 1];
            let blanks = after.len() - after.trim_start().len();
            if blanks < after.len() {
                // The next one begins where this one did.
                start = prop.range.start;
            }
            end += blanks;
        }
        let rest = &text[end..];
        let on_line = rest.split('\n').next().unwrap_or_default();
        if is_line_comment(text, from, start) && !on_line.trim().is_empty() {
            // What follows must not become part of the comment.
            start = prop.range.start;
            end += rest.len() - rest.trim_start_matches([' ', '\t']).len();
        }
        splices.push(Splice(start..end, String::new()));
        Ok(spliced(text, splices))
    }

    /// The blanks before a property; of several lines only the last.
    fn lead(&self, prop: &ObjectProp<'_>) -> &'a str {
        let before = &self.text[..prop.range.start];
        let blanks = &before[before.trim_end().len()..];
        match blanks.rfind('\n') {
            Some(at) if blanks[..at].ends_with('\r') => &blanks[at - 1..],
            Some(at) => &blanks[at..],
            None => blanks,
        }
    }

    /// Whether a new first property goes to a line of its own.
    fn is_in_lines(&self) -> bool {
        let first = self.root.as_ref().and_then(|root| root.properties.first());
        first.is_none_or(|first| self.lead(first).contains('\n'))
    }

    /// One level of indentation.
    fn unit(&self) -> &'a str {
        let first = self.root.as_ref().and_then(|root| root.properties.first());
        let lead = first.map_or("", |first| self.lead(first));
        match lead.rsplit_once('\n') {
            Some((_, unit)) if !unit.is_empty() => unit,
            _ => "  ",
        }
    }
}

fn deeper(lead: &str, unit: &str) -> String {
    if lead.contains('\n') {
        format!("{lead}{unit}")
    } else {
        String::new()
    }
}

/// An entry's value, to stand after a key that `lead` is before.
fn render(body: Body<'_>, lead: &str, unit: &str) -> String {
    let entry = match body {
        Body::Entry(entry) => entry,
        Body::Verbatim(text) => return text.to_owned(),
    };
    let fields = entry
        .fields
        .iter()
        .map(|(key, field)| format!("{}: {}", quoted(key), field.literal()));
    let fields: Vec<_> = fields.collect();
    if !lead.contains('\n') {
        return format!("{{{}}}", fields.join(", "));
    }
    let inner = deeper(lead, unit);
    format!("{{{inner}{}{lead}}}", fields.join(&format!(",{inner}")))
}

/// The property `key`; one that is there twice means something else to each reader.
fn property<'o, 'a>(
    object: &'o Object<'a>,
    key: &str,
) -> Result<Option<&'o ObjectProp<'a>>, Fault> {
    let mut found = object
        .properties
        .iter()
        .filter(|prop| prop.name.as_str() == key);
    let first = found.next();
    match found.next() {
        Some(second) => Err(Fault::new(
            second.range.start,
            format!("\"{key}\" is there twice; keep one of the two"),
        )),
        None => Ok(first),
    }
}

/// Whether nothing is between the braces, not even a comment.
fn is_bare(text: &str, object: &Object<'_>) -> bool {
    text[object.range.start + 1..object.range.end - 1]
        .trim()
        .is_empty()
}

fn parse_literal(literal: &str) -> Value {
    serde_json::from_str(literal).unwrap_or_default()
}

fn object_value(object: &Object<'_>) -> Value {
    let pairs = object.properties.iter();
    let pairs = pairs.map(|prop| (prop.name.as_str().to_owned(), prop_value(&prop.value)));
    Value::Object(pairs.collect::<Map<_, _>>())
}

/// Numbers as they are written: they are only compared.
fn prop_value(json: &Json<'_>) -> Value {
    match json {
        Json::StringLit(text) => text.value.as_ref().into(),
        Json::NumberLit(number) => serde_json::json!({ "number": number.value }),
        Json::BooleanLit(boolean) => boolean.value.into(),
        Json::NullKeyword(_) => Value::Null,
        Json::Object(object) => object_value(object),
        Json::Array(array) => array.elements.iter().map(prop_value).collect(),
    }
}

/// The parser's words, with the next step.
fn syntax(kind: &str) -> String {
    let kind = kind.to_lowercase().replace("json", "JSON");
    format!("{kind}; correct the JSON syntax here")
}
