//! One JSON object per line: `time`, `level`, `msg`, the record's values, the logger's.
//!
//! slog-json serialises; [`Ordered`] tells it what and marks where each field begins.
//! A value of `None` leaves its key out.

use std::cell::Cell;
use std::fmt;
use std::sync::LazyLock;
use std::time::SystemTime;

use slog::{BorrowedKV, Drain, KV, Key, Level, OwnedKVList, Record, Serializer};

use super::fields::{Fields, Scratch};

pub(super) fn render(record: &Record, values: &OwnedKVList, scratch: &mut Scratch) {
    let Scratch { line, body, fields } = scratch;
    let ordered = Ordered {
        record,
        values,
        fields,
        of_record: Cell::new(0),
    };
    let json = slog_json::Json::new(&*fields).set_newlines(false).build();
    let nothing = format_args!("");
    let whole = slog::record!(Level::Info, "", &nothing, BorrowedKV(&ordered));
    // Writing to memory cannot fail.
    let _ = json.log(&whole, &NO_VALUES);

    *body = line.len() + TIME;
    let end = fields.bytes().len() - 1; // the closing brace
    line.extend_from_slice(&fields.bytes()[..fields.start().min(end)]);
    fields.in_order(ordered.of_record.get(), end, line);
    line.push(b'}');
    escape_unseen(line);
}

/// JSON may hold what drives a terminal or turns text around; whoever follows the log shall not see it act.
fn escape_unseen(line: &mut Vec<u8>) {
    if line.iter().all(|byte| (b' '..0x7f).contains(byte)) {
        return;
    }
    let Ok(text) = std::str::from_utf8(line) else {
        return;
    };
    if !text.contains(is_unseen) {
        return;
    }
    let mut escaped = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        // All of them are in the basic plane: one escape each (RFC 8259, section 7).
        match is_unseen(c) {
            true => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => escaped.push(c),
        }
    }
    *line = escaped.into_bytes();
}

/// Control characters that JSON does not escape, line separators, and marks of direction.
fn is_unseen(c: char) -> bool {
    matches!(c, '\u{7f}'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// `{"time":"2006-01-02T15:04:05.000000Z"`.
const TIME: usize = 37;

/// Made once: a new one would cost every line two allocations.
static NO_VALUES: LazyLock<OwnedKVList> = LazyLock::new(|| slog::o!().into());

fn word(level: Level) -> &'static str {
    match level {
        Level::Critical => "critical",
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

struct Ordered<'a> {
    record: &'a Record<'a>,
    values: &'a OwnedKVList,
    fields: &'a Fields,
    of_record: Cell<usize>,
}

impl KV for Ordered<'_> {
    fn serialize(&self, _: &Record, out: &mut dyn Serializer) -> slog::Result {
        let now = humantime::format_rfc3339_micros(SystemTime::now());
        out.emit_arguments("time", &format_args!("{now}"))?;
        out.emit_str("level", word(self.record.level()))?;
        match self.record.msg().as_str() {
            Some(fixed) => out.emit_str("msg", fixed)?,
            None => out.emit_arguments("msg", self.record.msg())?,
        }
        let mut marking = Marking {
            out,
            fields: self.fields,
        };
        // A value that fails costs itself, not the line.
        let _ = self.record.kv().serialize(self.record, &mut marking);
        self.of_record.set(self.fields.count());
        let _ = self.values.serialize(self.record, &mut marking);
        Ok(())
    }
}

struct Marking<'a> {
    out: &'a mut dyn Serializer,
    fields: &'a Fields,
}

macro_rules! mark_and_forward {
    ($($method:ident: $type:ty),* $(,)?) => {
        $(fn $method(&mut self, key: Key, value: $type) -> slog::Result {
            self.fields.mark();
            self.out.$method(key, value)
        })*
    };
}

impl Serializer for Marking<'_> {
    mark_and_forward! {
        emit_bool: bool, emit_char: char, emit_str: &str,
        emit_u8: u8, emit_u16: u16, emit_u32: u32, emit_u64: u64, emit_u128: u128, emit_usize: usize,
        emit_i8: i8, emit_i16: i16, emit_i32: i32, emit_i64: i64, emit_i128: i128, emit_isize: isize,
        emit_f32: f32, emit_f64: f64,
        emit_arguments: &fmt::Arguments<'_>,
        emit_serde: &dyn slog::SerdeValue,
    }

    fn emit_unit(&mut self, key: Key) -> slog::Result {
        self.fields.mark();
        self.out.emit_unit(key)
    }

    fn emit_none(&mut self, key: Key) -> slog::Result {
        self.fields.none(key);
        Ok(())
    }
}
