//! Lines for people: time, level, message, `key=value`.
//!
//! Whatever a client sent may stand in a value, so control characters are escaped:
//! it can neither forge a line nor drive the terminal.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::time::SystemTime;

use slog::{KV, Key, Level, OwnedKVList, Record, Serializer};

use super::fields::{Fields, Scratch};
use super::style::Style;

/// Messages are padded to this many characters so that the values line up.
const COLUMN: usize = 32;

pub(super) fn render(record: &Record, values: &OwnedKVList, style: Style, scratch: &mut Scratch) {
    let Scratch { line, body, fields } = scratch;
    let mut text = Text {
        fields,
        colour: style.colour,
        value: String::new(),
    };
    let _ = record.kv().serialize(record, &mut text);
    let of_record = fields.count();
    let _ = values.serialize(record, &mut text);

    // Writing to memory cannot fail.
    let _ = time(style, line);
    *body = line.len();
    let _ = head(record, style, fields.count() > 0, line);
    fields.in_order(of_record, fields.bytes().len(), line);
}

fn time(style: Style, line: &mut Vec<u8>) -> std::io::Result<()> {
    if style.journal {
        return Ok(());
    }
    let now = humantime::format_rfc3339_millis(SystemTime::now());
    write!(line, "{now} ")
}

fn head(record: &Record, style: Style, padded: bool, line: &mut Vec<u8>) -> std::io::Result<()> {
    let (word, ansi) = word(record.level());
    match style.colour {
        true => write!(line, "\x1b[{ansi}m{word}\x1b[0m ")?,
        false => write!(line, "{word} ")?,
    }
    let message = Escaped(&record.msg().to_string()).to_string();
    let width = if padded { COLUMN } else { 0 };
    write!(line, "{message:<width$}")
}

/// Five letters each, and the colour.
fn word(level: Level) -> (&'static str, &'static str) {
    match level {
        Level::Critical => ("CRIT ", "1;31"),
        Level::Error => ("ERROR", "31"),
        Level::Warning => ("WARN ", "33"),
        Level::Info => ("INFO ", "32"),
        Level::Debug => ("DEBUG", "36"),
        Level::Trace => ("TRACE", "90"),
    }
}

struct Text<'a> {
    fields: &'a Fields,
    colour: bool,
    value: String,
}

impl Serializer for Text<'_> {
    fn emit_arguments(&mut self, key: Key, value: &fmt::Arguments<'_>) -> slog::Result {
        self.value.clear();
        self.value.write_fmt(*value)?;
        self.fields.mark();
        match self.colour {
            true => write!(self.fields, " \x1b[2m{key}=\x1b[0m")?,
            false => write!(self.fields, " {key}=")?,
        }
        match needs_quotes(&self.value) {
            true => write!(self.fields, "\"{}\"", self.value.escape_debug())?,
            false => self.fields.write_all(self.value.as_bytes())?,
        }
        Ok(())
    }

    fn emit_none(&mut self, key: Key) -> slog::Result {
        self.fields.none(key);
        Ok(())
    }
}

fn needs_quotes(value: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'=' | b'\\');
    value.is_empty() || !value.bytes().all(plain)
}

/// A message as it is, but for what would break the line or the terminal.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c.is_control() {
                true => write!(f, "{}", c.escape_debug())?,
                false => f.write_char(c)?,
            }
        }
        Ok(())
    }
}
