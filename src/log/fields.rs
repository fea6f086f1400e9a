//! Key-values in the order they were written.
//!
//! slog hands them over newest first, so each is serialised into a side buffer
//! with a mark where it begins, and the pieces are then copied in reverse.

use std::cell::{Ref, RefCell};
use std::io::{self, Write};

/// Larger than any ordinary line; a buffer that outgrew it is given back.
const KEEP: usize = 16 * 1024;

/// A thread's reusable buffers.
#[derive(Default)]
pub(super) struct Scratch {
    pub line: Vec<u8>,
    pub fields: Fields,
}

impl Scratch {
    pub const fn new() -> Self {
        Self {
            line: Vec::new(),
            fields: Fields::new(),
        }
    }

    pub fn clear(&mut self) {
        self.line.clear();
        self.fields.bytes.get_mut().clear();
        self.fields.marks.get_mut().clear();
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
}

impl Fields {
    const fn new() -> Self {
        Self {
            bytes: RefCell::new(Vec::new()),
            marks: RefCell::new(Vec::new()),
        }
    }

    /// The next field begins here.
    pub fn mark(&self) {
        self.marks.borrow_mut().push(self.bytes.borrow().len());
    }

    /// How many fields there are.
    pub fn count(&self) -> usize {
        self.marks.borrow().len()
    }

    pub fn bytes(&self) -> Ref<'_, Vec<u8>> {
        self.bytes.borrow()
    }

    /// Where the first field begins: what precedes it is in its place already.
    pub fn start(&self) -> usize {
        self.marks
            .borrow()
            .first()
            .copied()
            .unwrap_or(self.bytes.borrow().len())
    }

    /// Appends the record's fields, the first `of_record`, and then the logger's, oldest first,
    /// both ending at `end`.
    pub fn in_order(&self, of_record: usize, end: usize, line: &mut Vec<u8>) {
        let (bytes, marks) = (self.bytes.borrow(), self.marks.borrow());
        let piece = |i: usize| &bytes[marks[i]..marks.get(i + 1).copied().unwrap_or(end)];
        for i in (0..of_record).rev().chain((of_record..marks.len()).rev()) {
            line.extend_from_slice(piece(i));
        }
    }
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
