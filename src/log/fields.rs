//! Key-values in the order they were written.
//!
//! slog's macros hand them over newest first, so each is serialised into a side buffer
//! with a mark where it begins, and the pieces are then copied in reverse.

use std::cell::{Cell, Ref, RefCell};
use std::io::{self, Write};

use slog::{KV, Record, Serializer};

use crate::digits::put_decimal;

/// A `KV` of one's own that emits its fields in the order they are to be read:
/// `info!(log, "request"; InOrder(line))`. Without it they would come out reversed.
pub struct InOrder<T>(pub T);

/// Says that a group of fields begins or ends. Sent as an absent value, which other drains take
/// for one.
const GROUP: &str = "";

impl<T: KV> KV for InOrder<T> {
    fn serialize(&self, record: &Record, out: &mut dyn Serializer) -> slog::Result {
        out.emit_none(GROUP)?;
        let emitted = self.0.serialize(record, out);
        out.emit_none(GROUP)?;
        emitted
    }
}

/// Larger than any ordinary line; a buffer that outgrew it is given back.
const KEEP: usize = 16 * 1024;

/// A thread's reusable buffers.
#[derive(Default)]
pub(super) struct Scratch {
    pub line: Vec<u8>,
    /// Where in `line` the time is over.
    pub body: usize,
    pub fields: Fields,
}

impl Scratch {
    pub const fn new() -> Self {
        Self {
            line: Vec::new(),
            body: 0,
            fields: Fields::new(),
        }
    }

    pub fn clear(&mut self) {
        self.line.clear();
        self.fields.bytes.get_mut().clear();
        self.fields.marks.get_mut().clear();
        self.fields.grouped.set(false);
    }

    pub fn shrink(&mut self) {
        if self.line.capacity() > KEEP || self.fields.bytes.get_mut().capacity() > KEEP {
            *self = Self::new();
        }
    }
}

/// Shared references are enough to write: the serialiser and the one who marks both hold it.
#[derive(Default)]
pub(super) struct Fields {
    bytes: RefCell<Vec<u8>>,
    marks: RefCell<Vec<usize>>,
    /// Within [`InOrder`]: one piece, whatever its fields.
    grouped: Cell<bool>,
}

impl Fields {
    const fn new() -> Self {
        Self {
            bytes: RefCell::new(Vec::new()),
            marks: RefCell::new(Vec::new()),
            grouped: Cell::new(false),
        }
    }

    /// The next field begins here.
    pub fn mark(&self) {
        if self.grouped.get() {
            return;
        }
        self.marks.borrow_mut().push(self.bytes.borrow().len());
    }

    pub fn is_grouped(&self) -> bool {
        self.grouped.get()
    }

    /// The key of a further field of a JSON object, which is plain as all of ours are.
    pub fn key(&self, key: &str) {
        push_key(&mut self.bytes.borrow_mut(), key, 0);
    }

    /// A further field whose text needs no escapes.
    pub fn text(&self, key: &str, text: &str) {
        let bytes = &mut *self.bytes.borrow_mut();
        push_key(bytes, key, text.len() + 2);
        bytes.push(b'"');
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(b'"');
    }

    /// A further field: a number of at most three decimals, and one at least.
    pub fn decimal(&self, key: &str, thousandths: u64) {
        let bytes = &mut *self.bytes.borrow_mut();
        push_key(bytes, key, 24);
        put_decimal(bytes, thousandths / 1000);
        bytes.push(b'.');
        let mut rest = thousandths % 1000;
        let mut place = 100;
        loop {
            bytes.push(b'0' + (rest / place) as u8);
            rest %= place;
            if rest == 0 {
                return;
            }
            place /= 10;
        }
    }

    /// A further field.
    pub fn number(&self, key: &str, number: u64) {
        let bytes = &mut *self.bytes.borrow_mut();
        push_key(bytes, key, 20);
        put_decimal(bytes, number);
    }

    /// A value of `None` leaves its key out, unless it stands for a group's edge.
    pub fn none(&self, key: &str) {
        if key == GROUP {
            let begins = !self.grouped.get();
            if begins {
                self.mark();
            }
            self.grouped.set(begins);
        }
    }

    /// How many pieces there are.
    pub fn count(&self) -> usize {
        self.marks.borrow().len()
    }

    pub fn bytes(&self) -> Ref<'_, Vec<u8>> {
        self.bytes.borrow()
    }

    /// Appends the record's pieces, the first `of_record`, and then the logger's, oldest first,
    /// both ending at `end`.
    pub fn in_order(&self, of_record: usize, end: usize, line: &mut Vec<u8>) {
        let (bytes, marks) = (self.bytes.borrow(), self.marks.borrow());
        let piece = |i: usize| &bytes[marks[i]..marks.get(i + 1).copied().unwrap_or(end)];
        for i in (0..of_record).rev().chain((of_record..marks.len()).rev()) {
            line.extend_from_slice(piece(i));
        }
    }
}

fn push_key(bytes: &mut Vec<u8>, key: &str, and: usize) {
    bytes.reserve(key.len() + 4 + and);
    bytes.extend_from_slice(b",\"");
    bytes.extend_from_slice(key.as_bytes());
    bytes.extend_from_slice(b"\":");
}

impl Write for &Fields {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.borrow_mut().extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
