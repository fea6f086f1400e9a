//! From a file's text to a [`Table`]: one parser per format, one result.

mod json;
mod toml;
mod yaml;

use std::path::Path;

use super::tree::{Entry, Node, Origin, Table};

/// No sensible configuration nests deeper; a hostile one would exhaust the stack.
const MAX_DEPTH: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Toml,
    Yaml,
    Json,
}

impl Format {
    /// By the name's ending; anything unknown is TOML.
    pub fn of(path: &Path) -> Format {
        match path.extension().and_then(|e| e.to_str()) {
            Some("yaml" | "yml") => Format::Yaml,
            Some("json") => Format::Json,
            _ => Format::Toml,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Format::Toml => "TOML",
            Format::Yaml => "YAML",
            Format::Json => "JSON",
        }
    }
}

/// A place where the text is not what its format demands.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    pub origin: Origin,
    pub message: String,
}

/// Parses one file. `file` is the index that origins carry.
///
/// # Errors
/// Every fault the format's parser can tell apart; never an empty list.
pub fn parse(text: &str, format: Format, file: usize) -> Result<Table, Vec<Fault>> {
    let mut parser = Parsing {
        lines: Lines::new(text, file),
        faults: Vec::new(),
    };
    let table = match format {
        Format::Toml => toml::parse(text, &mut parser),
        Format::Yaml => yaml::parse(text, &mut parser),
        Format::Json => json::parse(text, &mut parser),
    };
    if parser.faults.is_empty() {
        Ok(table)
    } else {
        Err(parser.faults)
    }
}

/// What the three parsers share: positions and the list of faults.
struct Parsing<'t> {
    lines: Lines<'t>,
    faults: Vec<Fault>,
}

impl Parsing<'_> {
    fn fault(&mut self, origin: Origin, message: impl Into<String>) {
        self.faults.push(Fault {
            origin,
            message: message.into(),
        });
    }

    fn insert(&mut self, table: &mut Table, key: String, key_origin: Origin, node: Node) {
        let shown = format!("{key:?}");
        if let Err(first) = table.insert(Entry {
            key,
            key_origin,
            node,
        }) {
            let line = match first {
                Origin::File { line, .. } => line,
                _ => 0,
            };
            self.fault(
                key_origin,
                format!("the key {shown} is already there in line {line}; keep one of the two"),
            );
        }
    }
}

/// Byte offsets to lines and columns.
struct Lines<'t> {
    text: &'t str,
    file: usize,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str, file: usize) -> Lines<'t> {
        let after_newlines = text
            .bytes()
            .enumerate()
            .filter(|(_, b)| *b == b'\n')
            .map(|(i, _)| i + 1);
        Lines {
            text,
            file,
            starts: std::iter::once(0).chain(after_newlines).collect(),
        }
    }

    fn origin(&self, offset: usize) -> Origin {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts[line - 1];
        let column = self.text[start..offset].chars().count() + 1;
        Origin::File {
            file: self.file,
            line,
            column,
        }
    }
}
