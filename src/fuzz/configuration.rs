//! Configuration files: a meaning is the same in every format, and a fault has its place.

use std::fmt::Write;

use crate::config::parse::{Format, parse};
use crate::config::tree::{Origin, Table, Value};

const FORMATS: [Format; 3] = [Format::Toml, Format::Yaml, Format::Json];

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let lines = text.split('\n').count();
    let is_place = |origin: Origin| matches!(origin, Origin::File { file: 3, line, column } if line <= lines && (line == 0 || column > 0));
    for format in FORMATS {
        match parse(text, format, 3) {
            Ok(table) => {
                for entry in table.entries() {
                    assert!(is_place(entry.key_origin) && is_place(entry.node.origin));
                }
                let Some(json) = json(&table) else { continue };
                for other in FORMATS {
                    let text = if other == Format::Toml {
                        toml(&table)
                    } else {
                        json.clone()
                    };
                    let Ok(again) = parse(&text, other, 3) else {
                        panic!(
                            "{} refuses what {} says: {text}",
                            other.name(),
                            format.name()
                        );
                    };
                    assert_eq!(
                        self::json(&again).as_ref(),
                        Some(&json),
                        "read as {}",
                        other.name()
                    );
                }
            }
            Err(faults) => {
                assert!(!faults.is_empty());
                for fault in faults {
                    assert!(is_place(fault.origin), "{:?}", fault.origin);
                    assert!(!fault.message.is_empty());
                }
            }
        }
    }
}

/// `None` if there is a value in it that only some formats can write.
fn json(table: &Table) -> Option<String> {
    let mut out = "{".to_owned();
    for (index, entry) in table.entries().iter().enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        write!(
            out,
            "{comma}{}: {}",
            quoted(&entry.key),
            value(&entry.node.value, json)?
        )
        .ok()?;
    }
    out.push('}');
    Some(out)
}

/// One line for each key; what is below is written inline.
fn toml(table: &Table) -> String {
    let mut out = String::new();
    for entry in table.entries() {
        let value = value(&entry.node.value, inline).unwrap_or_default();
        let _ = writeln!(out, "{} = {value}", quoted(&entry.key));
    }
    out
}

fn inline(table: &Table) -> Option<String> {
    let entries = table.entries().iter();
    let entries = entries.map(|entry| {
        Some(format!(
            "{} = {}",
            quoted(&entry.key),
            value(&entry.node.value, inline)?
        ))
    });
    Some(format!(
        "{{{}}}",
        entries.collect::<Option<Vec<_>>>()?.join(", ")
    ))
}

fn value(value: &Value, table: fn(&Table) -> Option<String>) -> Option<String> {
    Some(match value {
        Value::Bool(value) => value.to_string(),
        Value::Integer(value) => value.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(items) => {
            let items = items.iter().map(|item| self::value(&item.value, table));
            format!("[{}]", items.collect::<Option<Vec<_>>>()?.join(", "))
        }
        Value::Table(inner) => table(inner)?,
        Value::Other(_) => return None,
    })
}

/// In double quotes, with escapes that all three formats know.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
