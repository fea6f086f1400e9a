//! One JSON object per line: `time`, `level`, `msg`, the record's values, the logger's.
//!
//! slog-json serialises; [`Ordered`] tells it what and marks where each field begins.
//! A value of `None` leaves its key out.

use std::cell::Cell;
use std::fmt::{self, Write};
use std::sync::LazyLock;
use std::time::SystemTime;

use slog::{BorrowedKV, Drain, KV, Key, Level, OwnedKVList, Record, Serializer};

use super::fields::{Fields, Scratch};

pub(super) fn render(record: &Record, values: &OwnedKVList, scratch: &mut Scratch) {
    let Scratch { line, fields } = scratch;
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

    let end = fields.bytes().len() - 1; // the closing brace
    line.extend_from_slice(&fields.bytes()[..fields.start().min(end)]);
    fields.in_order(ordered.of_record.get(), end, line);
    line.push(b'}');
    escape_unseen(line);
}

/// JSON may hold what drives a terminal or turns text around; whoever follows the log shall not see it act.
fn escape_unseen(line: &mut Vec<u8>) {
    if all(line, |byte| (b' '..0x7f).contains(&byte)) {
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

/// Like `Iterator::all`, but in steps that the compiler makes vectors of.
fn all(bytes: &[u8], holds: impl Fn(u8) -> bool) -> bool {
    bytes.chunks(32).all(|chunk| {
        chunk
            .iter()
            .fold(true, |so_far, &byte| so_far & holds(byte))
    })
}

/// Control characters that JSON does not escape, line separators, and marks of direction.
fn is_unseen(c: char) -> bool {
    matches!(c, '\u{7f}'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

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
        Clock::with_now(|now| out.emit_str("time", now))?;
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

/// The time as text. Most lines come within the second of the one before.
#[derive(Default)]
struct Clock {
    second: u64,
    text: String,
}

impl Clock {
    /// `YYYY-MM-DDTHH:MM:SS` and a dot: microseconds and `Z` follow.
    const SECONDS: usize = 20;

    fn with_now<T>(tell: impl FnOnce(&str) -> T) -> T {
        thread_local! {
            static CLOCK: Cell<Clock> = const { Cell::new(Clock { second: 0, text: String::new() }) };
        }
        let mut clock = CLOCK.try_with(Cell::take).unwrap_or_default();
        clock.set(SystemTime::now());
        let told = tell(&clock.text);
        let _ = CLOCK.try_with(|cell| cell.set(clock));
        told
    }

    fn set(&mut self, now: SystemTime) {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).ok();
        let second = since.map_or(0, |since| since.as_secs());
        match since {
            Some(since) if second == self.second && !self.text.is_empty() => {
                let micros = since.subsec_micros();
                self.text.truncate(Self::SECONDS);
                for place in [100_000, 10_000, 1000, 100, 10, 1] {
                    self.text
                        .push(char::from(b'0' + (micros / place % 10) as u8));
                }
                self.text.push('Z');
            }
            _ => {
                self.second = second;
                self.text.clear();
                // Beyond the year 9999 there is no such text.
                let _ = write!(self.text, "{}", humantime::format_rfc3339_micros(now));
            }
        }
    }
}

impl Marking<'_> {
    /// Where the place is clear, slog-json's way round need not be taken: a request's line has
    /// fifteen values.
    fn directly<V: serde::Serialize + ?Sized>(&self, key: Key, value: &V) -> slog::Result {
        let mut out = self.fields;
        self.fields.key(key);
        serde_json::to_writer(&mut out, value).map_err(|_| slog::Error::Other)
    }
}

macro_rules! mark_and_forward {
    ($($method:ident: $type:ty),* $(,)?) => {
        $(fn $method(&mut self, key: Key, value: $type) -> slog::Result {
            self.fields.mark();
            self.out.$method(key, value)
        })*
    };
}

macro_rules! write_in_groups {
    ($($method:ident: $type:ty),* $(,)?) => {
        $(fn $method(&mut self, key: Key, value: $type) -> slog::Result {
            if self.fields.is_grouped() {
                return self.directly(key, &value);
            }
            self.fields.mark();
            self.out.$method(key, value)
        })*
    };
}

impl Serializer for Marking<'_> {
    mark_and_forward! {
        emit_char: char, emit_u128: u128, emit_i128: i128, emit_f32: f32,
        emit_arguments: &fmt::Arguments<'_>,
        emit_serde: &dyn slog::SerdeValue,
    }

    write_in_groups! {
        emit_bool: bool,
        emit_u8: u8, emit_u16: u16, emit_u32: u32, emit_u64: u64, emit_usize: usize,
        emit_i8: i8, emit_i16: i16, emit_i32: i32, emit_i64: i64, emit_isize: isize,
        emit_f64: f64,
    }

    fn emit_str(&mut self, key: Key, value: &str) -> slog::Result {
        if !self.fields.is_grouped() {
            self.fields.mark();
            return self.out.emit_str(key, value);
        }
        if all(value.as_bytes(), |byte| {
            byte >= b' ' && byte != b'"' && byte != b'\\'
        }) {
            self.fields.text(key, value);
            return Ok(());
        }
        self.directly(key, value)
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
