use jsonc_parser::ast::{Object, Value as Json};
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use super::{MAX_DEPTH, Parsing};
use crate::config::tree::{Node, Table, Value};

/// JSON as RFC 8259 has it; the parser's JSONC liberties are all switched off.
const STRICT: ParseOptions = ParseOptions {
    allow_comments: false,
    allow_loose_object_property_names: false,
    allow_trailing_commas: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

pub(super) fn parse(text: &str, p: &mut Parsing<'_>) -> Table {
    let value = match parse_to_ast(text, &CollectOptions::default(), &STRICT) {
        Ok(result) => result.value,
        Err(error) => {
            let place = p.lines.origin(error.range().start);
            let message = error
                .kind()
                .to_string()
                .to_lowercase()
                .replace("json", "JSON");
            p.fault(place, format!("{message}; correct the JSON syntax here"));
            return Table::default();
        }
    };
    match value {
        Some(Json::Object(object)) => convert_object(object, p, 0),
        other => {
            let place = p.lines.origin(other.map_or(0, |value| value.start()));
            p.fault(place, "the file must hold one JSON object; write { … }");
            Table::default()
        }
    }
}

fn convert_object(object: Object<'_>, p: &mut Parsing<'_>, depth: usize) -> Table {
    let mut table = Table::default();
    for property in object.properties {
        let key_origin = p.lines.origin(property.range.start);
        let node = convert(property.value, p, depth + 1);
        p.insert(&mut table, property.name.into_string(), key_origin, node);
    }
    table
}

fn convert(value: Json<'_>, p: &mut Parsing<'_>, depth: usize) -> Node {
    let origin = p.lines.origin(value.start());
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
    let value = match value {
        Json::StringLit(text) => Value::string(&text.value),
        Json::NumberLit(number) => match number.value.parse() {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other("a decimal number"),
        },
        Json::BooleanLit(b) => Value::Bool(b.value),
        Json::Object(object) => Value::Table(convert_object(object, p, depth)),
        Json::Array(array) => Value::Array(
            array
                .elements
                .into_iter()
                .map(|item| convert(item, p, depth + 1))
                .collect(),
        ),
        Json::NullKeyword(_) => Value::Other("nothing (null)"),
    };
    Node { origin, value }
}
