use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};
use zeroize::Zeroizing;

use super::{MAX_DEPTH, Parsing};
use crate::config::tree::{Node, Origin, Table, Value};

pub(super) fn parse(text: &str, p: &mut Parsing<'_>) -> Table {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut last_line = 0;
    for error in errors {
        let offset = error.span().map_or(0, |span| span.start);
        let origin = p.lines.origin(offset);
        let Origin::File { line, .. } = origin else {
            continue;
        };
        // What follows the first error in a line is mostly its echo.
        if line != last_line {
            p.fault(origin, message(error.message(), text.lines().nth(line - 1)));
        }
        last_line = line;
    }
    if p.faults.is_empty() {
        convert_table(table.into_inner(), p, 0)
    } else {
        Table::default()
    }
}

/// The parser takes bare text for a broken number or date, which helps nobody with the
/// commonest mistake of all.
fn message(from_parser: &str, line: Option<&str>) -> String {
    let value = line
        .and_then(|line| line.split_once('='))
        .map(|(_, value)| value.trim());
    let bare = value.is_some_and(|v| !v.is_empty() && !v.starts_with(['"', '\'', '[', '{']));
    match from_parser {
        "duplicate key" => "the key is already there; keep one of the two".to_owned(),
        _ if bare => "text needs quotes in TOML; write the value in double quotes".to_owned(),
        other => format!("{other}; correct the TOML syntax here"),
    }
}

fn convert_table(table: DeTable<'_>, p: &mut Parsing<'_>, depth: usize) -> Table {
    let mut entries: Vec<_> = table.into_iter().collect();
    // The parser sorts by name; listeners, routes and problems follow the file.
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut out = Table::default();
    for (key, value) in entries {
        let key_origin = p.lines.origin(key.span().start);
        let mut node = convert(value, p, depth + 1);
        if let Value::Table(_) = node.value {
            // A header's span covers less than its table: the key is the better place.
            node.origin = key_origin;
        }
        p.insert(&mut out, key.into_inner().into_owned(), key_origin, node);
    }
    out
}

fn convert(value: Spanned<DeValue<'_>>, p: &mut Parsing<'_>, depth: usize) -> Node {
    let origin = p.lines.origin(value.span().start);
    if depth > MAX_DEPTH {
        p.fault(
            origin,
            format!("nested deeper than {MAX_DEPTH} levels; flatten it"),
        );
        return Node {
            origin,
            value: Value::Other("too much nesting"),
        };
    }
    let value = match value.into_inner() {
        DeValue::String(text) => Value::String(Zeroizing::new(text.into_owned())),
        DeValue::Boolean(b) => Value::Bool(b),
        DeValue::Integer(i) => integer(&i),
        DeValue::Float(_) => Value::Other("a decimal number"),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(items) => Value::Array(
            items
                .into_iter()
                .map(|item| convert(item, p, depth + 1))
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(convert_table(table, p, depth)),
    };
    Node { origin, value }
}

fn integer(text: &DeInteger<'_>) -> Value {
    match i64::from_str_radix(text.as_str(), text.radix()) {
        Ok(number) => Value::Integer(number),
        Err(_) => Value::Other("a number that is out of range"),
    }
}
