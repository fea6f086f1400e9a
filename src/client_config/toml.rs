//! TOML: a table in, a table out, and not a byte elsewhere.

use std::ops::Range;

use serde_json::{Map, Value, json};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::entry::{Body, Entry};
use super::text::{Fault, Splice, chomp, line_end, line_start, newline, spliced};

type Item<'f, 'a> = (&'f Spanned<DeString<'a>>, &'f Spanned<DeValue<'a>>);

pub struct File<'a> {
    text: &'a str,
    root: DeTable<'a>,
    servers: &'a str,
}

impl<'a> File<'a> {
    /// # Errors
    /// What is no TOML, or has something else where the servers' table should be.
    pub fn parse(text: &'a str, servers: &'a str) -> Result<File<'a>, Fault> {
        let root = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            Fault::new(
                at,
                format!("{}; correct the TOML syntax here", error.message()),
            )
        })?;
        let file = File {
            text,
            root: root.into_inner(),
            servers,
        };
        match item(&file.root, servers) {
            Some((key, value)) if !matches!(value.get_ref(), DeValue::Table(_)) => {
                let message = format!("{servers} has to be a table");
                Err(Fault::new(key.span().start, message))
            }
            _ => Ok(file),
        }
    }

    pub fn value(&self) -> Value {
        table_value(&self.root)
    }

    fn entry(&self, name: &str) -> Option<Item<'_, 'a>> {
        let (_, servers) = item(&self.root, self.servers)?;
        let DeValue::Table(servers) = servers.get_ref() else {
            return None;
        };
        item(servers, name)
    }

    pub fn place(&self, name: &str) -> usize {
        self.entry(name).map_or(0, |(key, _)| key.span().start)
    }

    /// The lines of the server `name`, if they are together.
    pub fn raw(&self, name: &str) -> Option<&'a str> {
        let (key, value) = self.entry(name)?;
        match &self.blocks(key, value)[..] {
            [block] => Some(&self.text[block.clone()]),
            _ => None,
        }
    }

    /// The file with a table more, at its end.
    pub fn put(&self, name: &str, body: Body<'_>) -> String {
        let text = self.text;
        let newline = newline(text);
        let block = match body {
            Body::Entry(entry) => self.render(name, entry),
            Body::Verbatim(block) => block.to_owned(),
        };
        if text.is_empty() {
            format!("{block}{newline}")
        } else if text.ends_with('\n') {
            format!("{text}{newline}{block}{newline}")
        } else {
            format!("{text}{newline}{newline}{block}")
        }
    }

    /// The table's lines, without the last one's end.
    fn render(&self, name: &str, entry: &Entry) -> String {
        let mut block = format!("[{}.{name}]", self.servers);
        for (key, field) in &entry.fields {
            block.push_str(newline(self.text));
            block.push_str(&format!("{key} = {}", field.literal()));
        }
        block
    }

    /// The file with the fields of `entry` in the server `name`, whose other keys stay.
    pub fn update(&self, name: &str, entry: &Entry) -> String {
        let Some((key, value)) = self.entry(name) else {
            return self.text.to_owned();
        };
        let DeValue::Table(table) = value.get_ref() else {
            return self.text.to_owned();
        };
        let mut splices = Vec::new();
        let mut missing = String::new();
        for (key, field) in &entry.fields {
            match item(table, key) {
                Some((_, value)) if entry_value(value) != json_of(&field.literal()) => {
                    splices.push(Splice(value.span(), field.literal()));
                }
                Some(_) => {}
                None => {
                    let line = format!("{}{key} = {}", newline(self.text), field.literal());
                    missing.push_str(&line);
                }
            }
        }
        let header = line_end(self.text, key.span().start);
        splices.push(Splice(header..header, missing));
        let found = table_value(table);
        let obsolete = found.as_object().map(|found| entry.obsolete(found));
        for key in obsolete.unwrap_or_default() {
            let Some((key, value)) = item(table, key) else {
                continue;
            };
            for block in self.blocks(key, value) {
                let end = self.next_line(block.end);
                splices.push(Splice(block.start..end, String::new()));
            }
        }
        spliced(self.text, splices)
    }

    /// The file without the server `name` and the tables below it.
    pub fn remove(&self, name: &str) -> String {
        let Some((key, value)) = self.entry(name) else {
            return self.text.to_owned();
        };
        let text = self.text;
        let mut splices: Vec<Splice> = Vec::new();
        for block in self.blocks(key, value) {
            let before = &text[..block.start];
            let end = self.next_line(block.end);
            let mut start = block.start;
            let above = chomp(before);
            if above.ends_with('\n') {
                // The blank line above went in with the table.
                start = above.len();
                if end == text.len() && !text.ends_with('\n') {
                    start = chomp(above).len();
                }
            }
            let taken = splices.last().map_or(0, |Splice(range, _)| range.end);
            // The blank line above may have gone as the line below the block before.
            splices.push(Splice(start.max(taken)..end, String::new()));
        }
        spliced(text, splices)
    }

    fn next_line(&self, at: usize) -> usize {
        let end = line_end(self.text, at);
        self.text[end..]
            .find('\n')
            .map_or(self.text.len(), |n| end + n + 1)
    }

    /// The lines of a key and of all below it: one range for each header, in the file's order.
    /// Their last newline is not in them.
    fn blocks(
        &self,
        key: &Spanned<DeString<'a>>,
        value: &Spanned<DeValue<'a>>,
    ) -> Vec<Range<usize>> {
        let mut blocks = Vec::new();
        self.collect(key, value, &mut blocks);
        blocks.sort_by_key(|block| (block.start, block.end));
        // One line may be the header of several: [a.b.c] begins b and c.
        let mut merged: Vec<Range<usize>> = Vec::new();
        for block in blocks {
            match merged.last_mut() {
                Some(last) if block.start <= last.end => last.end = last.end.max(block.end),
                _ => merged.push(block),
            }
        }
        merged
    }

    fn collect(
        &self,
        key: &Spanned<DeString<'a>>,
        value: &Spanned<DeValue<'a>>,
        blocks: &mut Vec<Range<usize>>,
    ) {
        let start = line_start(self.text, key.span().start);
        let is_header = self.is_header(key);
        let mut end = line_end(self.text, key.span().end);
        match value.get_ref() {
            DeValue::Table(table) if !self.is_inline(value) => {
                for (key, value) in table {
                    let mut below = Vec::new();
                    self.collect(key, value, &mut below);
                    if is_header && !self.is_header(key) {
                        end = below.iter().map(|b| b.end).fold(end, usize::max);
                    } else {
                        blocks.append(&mut below);
                    }
                }
                if is_header {
                    blocks.push(start..end);
                }
            }
            _ => blocks.push(start..line_end(self.text, value.span().end)),
        }
    }

    fn is_header(&self, key: &Spanned<DeString<'a>>) -> bool {
        let line = &self.text[line_start(self.text, key.span().start)..];
        line.trim_start_matches([' ', '\t']).starts_with('[')
    }

    fn is_inline(&self, value: &Spanned<DeValue<'a>>) -> bool {
        self.text[value.span().start..].starts_with('{')
    }
}

fn item<'f, 'a>(table: &'f DeTable<'a>, name: &str) -> Option<Item<'f, 'a>> {
    table.iter().find(|(key, _)| key.get_ref() == name)
}

fn table_value(table: &DeTable<'_>) -> Value {
    let pairs = table.iter();
    let pairs = pairs.map(|(key, value)| (key.get_ref().to_string(), entry_value(value)));
    Value::Object(pairs.collect::<Map<_, _>>())
}

/// Numbers and dates as they are written: they are only compared.
fn entry_value(value: &Spanned<DeValue<'_>>) -> Value {
    match value.get_ref() {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Boolean(boolean) => (*boolean).into(),
        DeValue::Integer(number) => json!({ "number": format!("{number:?}") }),
        DeValue::Float(number) => json!({ "number": format!("{number:?}") }),
        DeValue::Datetime(time) => json!({ "time": time.to_string() }),
        DeValue::Array(items) => items.iter().map(entry_value).collect(),
        DeValue::Table(table) => table_value(table),
    }
}

fn json_of(literal: &str) -> Value {
    serde_json::from_str(literal).unwrap_or_default()
}
