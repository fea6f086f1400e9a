//! What each thread keeps for reuse: the buffer that sockets are read through, and header tables.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use http::HeaderMap;
use tokio::io::{AsyncRead, ReadBuf};

/// The most that is read at a time, and so the most of a body that waits for a slow reader.
const MAX_READ: usize = 64 * 1024;

thread_local! {
    /// Whoever reads has bytes the next moment or waits: a buffer of its own for each
    /// connection would do nothing but lie there, thousands of times for event streams.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; MAX_READ].into());
}

/// Most header tables kept by a thread, the room of a new one, and of the largest kept, in lines.
const MAX_TABLES: usize = 16;
const ROOM: usize = 24;
const MAX_ROOM: usize = 96;

thread_local! {
    /// A table is large, and made, wiped and given back twice for each request otherwise.
    static TABLES: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

/// An empty table for `lines` headers and some more.
pub fn headers(lines: usize) -> HeaderMap {
    let kept = TABLES.with_borrow_mut(Vec::pop);
    let fits = |table: &HeaderMap| table.capacity() >= lines;
    kept.filter(fits)
        .unwrap_or_else(|| HeaderMap::with_capacity(lines.max(ROOM)))
}

/// Keeps an emptied table for the next message.
pub fn keep(mut table: HeaderMap) {
    table.clear();
    if (ROOM..=MAX_ROOM).contains(&table.capacity()) {
        TABLES.with_borrow_mut(|tables| {
            if tables.len() < MAX_TABLES {
                tables.push(table);
            }
        });
    }
}

/// Reads what is there and appends it to `into`; 0 at the end.
pub fn poll_read<T: AsyncRead + Unpin + ?Sized>(
    io: &mut T,
    into: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buffer = ReadBuf::new(scratch);
        let polled = Pin::new(io).poll_read(cx, &mut buffer);
        polled.map_ok(|()| {
            into.extend_from_slice(buffer.filled());
            // A client's token, perhaps, that nothing might overwrite for hours.
            buffer.filled_mut().fill(0);
            buffer.filled().len()
        })
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::HOST;

    use super::*;

    #[test]
    fn a_table_that_comes_back_is_empty_and_has_its_room() {
        let mut table = headers(3);
        table.insert(HOST, HeaderValue::from_static("a"));
        let room = table.capacity();
        keep(table);
        let again = headers(room);
        assert!(again.is_empty() && again.capacity() == room);
        keep(again);
        assert!(headers(room + 1).capacity() > room);
    }

    #[test]
    fn few_tables_are_kept_and_none_that_is_large() {
        keep(HeaderMap::with_capacity(1000));
        (0..2 * MAX_TABLES).for_each(|_| keep(HeaderMap::with_capacity(ROOM)));
        assert_eq!(TABLES.with_borrow(Vec::len), MAX_TABLES);
        assert!(TABLES.with_borrow(|tables| tables.iter().all(|it| it.capacity() <= MAX_ROOM)));
    }
}
