//! YAML from the parser's events rather than from a document tree: places stay
//! exact, every repeated key is seen, and nesting and aliases have a bound.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::{MAX_DEPTH, Parsing};
use crate::config::tree::{Node, Origin, Table, Value};

/// Nodes that aliases may add to a file: nested aliases multiply ("billion laughs").
const MAX_ALIASED: usize = 10_000;

pub(super) fn parse(text: &str, p: &mut Parsing<'_>) -> Table {
    let mut builder = Builder {
        p,
        open: Vec::new(),
        root: None,
        anchors: HashMap::new(),
        aliased: 0,
    };
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(pair) => pair,
            Err(error) => {
                let place = builder.place(error.marker().line(), error.marker().col());
                builder.p.fault(
                    place,
                    format!("{}; correct the YAML syntax here", error.info()),
                );
                break;
            }
        };
        if builder.event(event, span).is_none() {
            break;
        }
    }
    builder.finish()
}

struct Builder<'p, 't> {
    p: &'p mut Parsing<'t>,
    /// The collections that are not closed yet, outermost first.
    open: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    aliased: usize,
}

struct Open {
    origin: Origin,
    anchor: usize,
    into: Into,
}

enum Into {
    Array(Vec<Node>),
    /// A mapping and the key that waits for its value.
    Table(Table, Option<(String, Origin)>),
}

impl Builder<'_, '_> {
    fn place(&self, line: usize, column: usize) -> Origin {
        // What is missing at the end is reported in the line behind it, which nobody could open.
        if line > self.p.lines.starts.len() {
            return self.p.lines.origin(self.p.lines.text.len());
        }
        Origin::File {
            file: self.p.lines.file,
            line: line.max(1),
            column: column + 1,
        }
    }

    /// `None` ends the parse; the reason is among the faults.
    fn event(&mut self, event: Event<'_>, span: Span) -> Option<()> {
        let origin = self.place(span.start.line(), span.start.col());
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = self.scalar(&text, style, tag.as_deref(), origin)?;
                self.add(Node { origin, value }, anchor, Some(&text))
            }
            Event::SequenceStart(anchor, tag) => {
                self.open(origin, anchor, tag.as_deref(), Into::Array(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => self.open(
                origin,
                anchor,
                tag.as_deref(),
                Into::Table(Table::default(), None),
            ),
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => self.alias(anchor, origin),
            Event::DocumentStart(_) if self.root.is_some() => self.stop(
                origin,
                "a second YAML document begins here; keep one document in the file",
            ),
            _ => Some(()),
        }
    }

    fn stop<T>(&mut self, origin: Origin, message: impl core::convert::Into<String>) -> Option<T> {
        self.p.fault(origin, message);
        None
    }

    fn open(&mut self, origin: Origin, anchor: usize, tag: Option<&Tag>, into: Into) -> Option<()> {
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema()) {
            return self.stop(
                origin,
                format!("the tag {tag} has no meaning here; remove it"),
            );
        }
        if self.open.len() >= MAX_DEPTH {
            return self.stop(
                origin,
                format!("nested deeper than {MAX_DEPTH} levels; flatten it"),
            );
        }
        self.open.push(Open {
            origin,
            anchor,
            into,
        });
        Some(())
    }

    fn close(&mut self) -> Option<()> {
        let Open {
            origin,
            anchor,
            into,
        } = self.open.pop()?;
        let value = match into {
            Into::Array(items) => Value::Array(items),
            Into::Table(table, _) => Value::Table(table),
        };
        self.add(Node { origin, value }, anchor, None)
    }

    fn alias(&mut self, anchor: usize, origin: Origin) -> Option<()> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return self.stop(
                origin,
                "this alias stands inside its own anchor; write the value out",
            );
        };
        self.aliased += size(&node);
        if self.aliased > MAX_ALIASED {
            return self.stop(
                origin,
                "aliases make this file too large; write the values out",
            );
        }
        self.add(node, 0, None)
    }

    /// Puts a finished node where it belongs. `key` is its text if it can be a mapping's key.
    fn add(&mut self, node: Node, anchor: usize, key: Option<&str>) -> Option<()> {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.into) {
            None => self.root = Some(node),
            Some(Into::Array(items)) => items.push(node),
            Some(Into::Table(_, waiting @ None)) => match key {
                Some(key) => *waiting = Some((key.to_owned(), node.origin)),
                None => {
                    return self.stop(node.origin, "a key must be plain text; write it as a word");
                }
            },
            Some(Into::Table(table, waiting)) => {
                let (key, key_origin) = waiting.take()?;
                self.p.insert(table, key, key_origin, node);
            }
        }
        Some(())
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
        origin: Origin,
    ) -> Option<Value> {
        match tag {
            None if style == ScalarStyle::Plain => Some(plain(text)),
            None => Some(Value::string(text)),
            Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => {
                Some(Value::string(text))
            }
            Some(tag) if tag.is_yaml_core_schema() => Some(plain(text)),
            Some(tag) => self.stop(
                origin,
                format!("the tag {tag} has no meaning here; remove it"),
            ),
        }
    }

    fn finish(self) -> Table {
        match self.root {
            Some(Node {
                value: Value::Table(table),
                ..
            }) => table,
            // A file of comments alone is an empty configuration, as it is in TOML.
            None
            | Some(Node {
                value: Value::Other(_),
                ..
            }) => Table::default(),
            Some(node) => {
                let found = node.value.kind();
                let message =
                    format!("the file holds {found}; write keys and values, as in: log: {{…}}");
                if self.p.faults.is_empty() {
                    self.p.fault(node.origin, message);
                }
                Table::default()
            }
        }
    }
}

/// The core schema of YAML 1.2: `yes` and `off` are words, not booleans.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Other("nothing (null)"),
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => integer(text).map_or_else(|| Value::string(text), Value::Integer),
    }
}

fn integer(text: &str) -> Option<i64> {
    let radix = |prefix, radix| i64::from_str_radix(text.strip_prefix(prefix)?, radix).ok();
    radix("0x", 16)
        .or_else(|| radix("0o", 8))
        .or_else(|| text.parse().ok())
}

fn size(node: &Node) -> usize {
    1 + match &node.value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Table(table) => table.entries().iter().map(|entry| size(&entry.node)).sum(),
        _ => 0,
    }
}
