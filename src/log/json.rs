//! One JSON object per line: `time`, `level`, `msg`, the record's values, the logger's.
//!
//! slog-json serialises the values; [`Ordered`] tells it what and marks where each field begins.
//! A value of `None` leaves its key out.

use std::cell::Cell;
use std::fmt::{self, Write};
use std::sync::LazyLock;
use std::time::SystemTime;

use slog::{BorrowedKV, Drain, KV, Key, Level, OwnedKVList, Record, Serializer};

use super::fields::{Fields, Scratch};
use crate::json;

pub(super) fn render(record: &Record, values: &OwnedKVList, scratch: &mut Scratch) {
    let Scratch { line, body, fields } = scratch;
    *body = line.len() + TIME;
    head(record, line);
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
    fields.in_order(ordered.of_record.get(), end, line);
    line.push(b'}');
    escape_unseen(line);
}

/// What every line begins with; of its three values only the message can need escapes.
fn head(record: &Record, line: &mut Vec<u8>) {
    line.extend_from_slice(b"{\"time\":\"");
    Clock::with_now(|now| line.extend_from_slice(now.as_bytes()));
    line.extend_from_slice(b"\",\"level\":\"");
    line.extend_from_slice(word(record.level()).as_bytes());
    line.extend_from_slice(b"\",\"msg\":");
    // Writing to memory cannot fail.
    let _ = match record.msg().as_str() {
        Some(fixed) if json::is_plain(fixed) => {
            line.push(b'"');
            line.extend_from_slice(fixed.as_bytes());
            line.push(b'"');
            Ok(())
        }
        _ => serde_json::to_writer(line, record.msg()),
    };
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
        // slog-json puts a comma before all fields but the first: here they follow the head.
        out.emit_unit("")?;
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

/// Milliseconds are whole microseconds: the shortest digits that stand for such a number, as
/// serde_json looks for them, are known.
fn thousandths(value: f64) -> Option<u64> {
    // Fewer digits than a float can tell apart.
    const MAX: f64 = 1e15;
    let thousandths = (value * 1000.0 + 0.5) as u64;
    let is_exact = thousandths as f64 / 1000.0 == value && value.is_sign_positive();
    (is_exact && value * 1000.0 < MAX).then_some(thousandths)
}

macro_rules! mark_and_forward {
    ($($method:ident: $type:ty),* $(,)?) => {
        $(fn $method(&mut self, key: Key, value: $type) -> slog::Result {
            self.fields.mark();
            self.out.$method(key, value)
        })*
    };
}

macro_rules! count_in_groups {
    ($($method:ident: $type:ty),* $(,)?) => {
        $(fn $method(&mut self, key: Key, value: $type) -> slog::Result {
            if !self.fields.is_grouped() {
                self.fields.mark();
                return self.out.$method(key, value);
            }
            self.fields.number(key, value as u64);
            Ok(())
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

    count_in_groups! {
        emit_u8: u8, emit_u16: u16, emit_u32: u32, emit_u64: u64, emit_usize: usize,
    }

    write_in_groups! {
        emit_bool: bool,
        emit_i8: i8, emit_i16: i16, emit_i32: i32, emit_i64: i64, emit_isize: isize,
    }

    fn emit_f64(&mut self, key: Key, value: f64) -> slog::Result {
        if !self.fields.is_grouped() {
            self.fields.mark();
            return self.out.emit_f64(key, value);
        }
        match thousandths(value) {
            Some(thousandths) => self.fields.decimal(key, thousandths),
            None => self.directly(key, &value)?,
        }
        Ok(())
    }

    fn emit_str(&mut self, key: Key, value: &str) -> slog::Result {
        if !self.fields.is_grouped() {
            self.fields.mark();
            return self.out.emit_str(key, value);
        }
        if json::is_plain(value) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(value: f64) -> Option<String> {
        let fields = Fields::default();
        fields.decimal("k", thousandths(value)?);
        let bytes = fields.bytes().clone();
        let text = String::from_utf8(bytes).unwrap();
        Some(text.strip_prefix(",\"k\":").unwrap().to_owned())
    }

    #[test]
    fn milliseconds_are_written_as_serde_json_writes_them() {
        for micros in
            (0..30_000_u64).chain([999_999, 1_000_000, 86_400_000_000, 999_999_999_999_999])
        {
            let value = micros as f64 / 1000.0;
            let written = serde_json::to_string(&value).unwrap();
            assert_eq!(decimal(value), Some(written), "{micros}");
        }
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..20_000 {
            let bits = random.u32(1..50);
            let value = random.u64(..1 << bits) as f64 / 1000.0;
            let written = serde_json::to_string(&value).unwrap();
            assert_eq!(decimal(value).unwrap_or_else(|| written.clone()), written);
        }
        for other in [
            -0.0,
            -1.0,
            0.0005,
            1.0 / 3.0,
            1e15,
            1e300,
            f64::NAN,
            f64::INFINITY,
        ] {
            assert_eq!(decimal(other), None, "{other}");
        }
    }
}
