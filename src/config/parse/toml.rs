use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};
use zeroize::Zeroizing;

use super::{MAX_DEPTH, Parsing};
use crate::config::tree::{Node, Table, Value};

pub(super) fn parse(text: &str, p: &mut Parsing<'_>) -> Table {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let offset = error.span().map_or(0, |span| span.start);
        p.fault(p.lines.origin(offset), message(error.message()));
    }
    if p.faults.is_empty() {
        convert_table(table.into_inner(), p, 0)
    } else {
        Table::default()
    }
}

fn message(from_parser: &str) -> String {
    let advice = match from_parser {
        "duplicate key" => "keep one of the two",
        m if m.starts_with("string values must be quoted") => "put it in double quotes",
        _ => "correct the TOML syntax here",
    };
    format!("{from_parser}; {advice}")
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
