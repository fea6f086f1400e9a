//! Server-sent events as bytes: where one ends, and what stands in it (WHATWG HTML, section 9.2).
//!
//! Events pass through as they came; whoever looks into one leaves the others alone.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};

pub const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Cuts a stream of bytes into events, each with the empty line that ends it.
#[derive(Debug, Default)]
pub struct Splitter {
    held: BytesMut,
    /// Bytes of `held` that have been looked at.
    scanned: usize,
    /// The line that is being looked at has bytes already.
    in_line: bool,
    /// The last byte was a CR: an LF right behind it belongs to the same line end.
    after_cr: bool,
}

impl Splitter {
    pub fn push(&mut self, data: &[u8]) {
        self.held.extend_from_slice(data);
    }

    /// The next event that is complete.
    pub fn next_event(&mut self) -> Option<Bytes> {
        while let Some(&byte) = self.held.get(self.scanned) {
            self.scanned += 1;
            let ends_event = match byte {
                b'\n' if self.after_cr => {
                    self.after_cr = false;
                    continue;
                }
                b'\n' | b'\r' => !std::mem::replace(&mut self.in_line, false),
                _ => {
                    self.skip_line();
                    false
                }
            };
            self.after_cr = byte == b'\r';
            if ends_event {
                self.take_line_feed();
                return Some(
                    self.held
                        .split_to(std::mem::take(&mut self.scanned))
                        .freeze(),
                );
            }
        }
        None
    }

    fn skip_line(&mut self) {
        self.in_line = true;
        let rest = &self.held[self.scanned..];
        self.scanned += memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
    }

    /// The LF of a CRLF that ended an event, if it is here already.
    fn take_line_feed(&mut self) {
        if self.after_cr && self.held.get(self.scanned) == Some(&b'\n') {
            self.scanned += 1;
            self.after_cr = false;
        }
    }

    /// Bytes of an event that is not complete.
    pub fn pending(&self) -> usize {
        self.held.len()
    }

    /// As far as the event has come that is not complete.
    pub fn incomplete(&self) -> &[u8] {
        &self.held
    }

    /// Gives up on the incomplete event and hands out its bytes.
    pub fn take_pending(&mut self) -> Bytes {
        self.scanned = 0;
        self.held.split().freeze()
    }
}

/// An event without the mark before it. Ahead of that may be the LF of a CRLF whose CR, cut off
/// from it, ended the event before.
pub fn unmarked(event: &[u8]) -> &[u8] {
    let event = event.strip_prefix(b"\n").unwrap_or(event);
    event.strip_prefix(BYTE_ORDER_MARK).unwrap_or(event)
}

/// The fields of one event, in order: name and value.
pub fn fields(event: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    unmarked(event)
        .split(|byte| matches!(byte, b'\n' | b'\r'))
        .filter(|line| !line.is_empty() && line[0] != b':')
        .map(|line| match memchr::memchr(b':', line) {
            Some(colon) => {
                let value = &line[colon + 1..];
                (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &b""[..]),
        })
}

/// What an event says, if it says anything: its `data` lines, joined.
///
/// `None` for an event of another kind than `message`, which carries no MCP.
pub fn message(event: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut data: Option<Cow<'_, [u8]>> = None;
    let mut kind: &[u8] = b"message";
    for (name, value) in fields(event) {
        match name {
            b"data" => {
                data = Some(match data {
                    None => Cow::Borrowed(value),
                    Some(before) => {
                        // One buffer for all: a copy for every line would be quadratic.
                        let mut joined = before.into_owned();
                        joined.push(b'\n');
                        joined.extend_from_slice(value);
                        Cow::Owned(joined)
                    }
                });
            }
            b"event" => kind = value,
            _ => {}
        }
    }
    data.filter(|data| !data.is_empty() && matches!(kind, b"" | b"message"))
}

/// The event with other data, which has no line end in it; everything else stays.
pub fn with_message(event: &[u8], message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 64);
    // A name that begins with the mark means nothing, and would become another at the beginning.
    let stays = |(name, _): &(&[u8], _)| *name != b"data" && !name.starts_with(BYTE_ORDER_MARK);
    for (name, value) in fields(event).filter(stays) {
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(message);
    out.extend_from_slice(b"\n\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(chunks: &[&[u8]]) -> (Vec<Bytes>, Bytes) {
        let mut splitter = Splitter::default();
        let mut events = Vec::new();
        for chunk in chunks {
            splitter.push(chunk);
            events.extend(std::iter::from_fn(|| splitter.next_event()));
        }
        (events, splitter.take_pending())
    }

    #[test]
    fn an_event_ends_with_an_empty_line_after_any_line_end() {
        for text in [
            "data: a\n\ndata: b\n\n",
            "data: a\r\n\r\ndata: b\r\n\r\n",
            "data: a\r\rdata: b\r\r",
            "data: a\n\r\ndata: b\r\n\n",
        ] {
            let (events, rest) = split(&[text.as_bytes()]);
            assert_eq!(events.len(), 2, "{text:?}");
            assert_eq!(message(&events[1]).as_deref(), Some(&b"b"[..]), "{text:?}");
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn a_line_end_cut_in_two_is_one_line_end() {
        let (events, rest) = split(&[b"data: a\r", b"\ndata: b\r", b"\n\r", b"\ndata: c"]);
        assert_eq!(events.len(), 1);
        assert_eq!(message(&events[0]).as_deref(), Some(&b"a\nb"[..]));
        assert_eq!(fields(&rest).count(), 1);
    }

    #[test]
    fn only_message_events_say_something() {
        for (event, said) in [
            ("data: {}\n\n", Some("{}")),
            ("event: message\ndata:{}\n\n", Some("{}")),
            ("id: 4\ndata: one\ndata: two\n\n", Some("one\ntwo")),
            ("\u{feff}data: 1\n\n", Some("1")),
            ("\n\u{feff}data: 1\n\n", Some("1")),
            ("event: endpoint\ndata: /m\n\n", None),
            (":keepalive\n\n", None),
            ("id: 4\ndata:\n\n", None),
            ("id: 4\n\n", None),
        ] {
            let found = message(event.as_bytes());
            assert_eq!(found.as_deref(), said.map(str::as_bytes), "{event:?}");
        }
    }

    #[test]
    fn a_million_data_lines_are_joined_in_no_time() {
        let event = "data:\n".repeat(1_000_000) + "\n";
        let begun = std::time::Instant::now();
        let said = message(event.as_bytes()).unwrap();
        assert_eq!(said.len(), 999_999);
        // Copying all of it for each line is 500 GB.
        assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    }

    #[test]
    fn other_data_leaves_the_other_fields() {
        let event = b"id: 7\r\nevent: message\r\ndata: {\r\ndata: }\r\nretry: 5\r\n\r\n";
        let changed = with_message(event, b"[]");
        assert_eq!(
            changed,
            b"id: 7\nevent: message\nretry: 5\ndata: []\n\n".to_vec()
        );
    }

    proptest! {
        #[test]
        fn however_the_bytes_arrive_they_are_cut_the_same_and_none_is_lost(
            text in "(data: x|id: 1|:c|\r\n|\n|\r|é){0,24}",
            cuts in proptest::collection::vec(0usize..64, 0..6),
        ) {
            let bytes = text.as_bytes();
            let mut chunks = Vec::new();
            let mut at = 0;
            let mut cuts = cuts;
            cuts.sort_unstable();
            for cut in cuts.into_iter().filter(|cut| *cut < bytes.len()) {
                chunks.push(&bytes[at..cut.max(at)]);
                at = cut.max(at);
            }
            chunks.push(&bytes[at..]);
            let (whole, whole_rest) = split(&[bytes]);
            let (parts, parts_rest) = split(&chunks);
            let joined: Vec<u8> = parts.concat().into_iter().chain(parts_rest).collect();
            prop_assert_eq!(&joined[..], bytes);
            let said = |events: &[Bytes]| -> Vec<_> {
                events.iter().filter_map(|event| message(event).map(Cow::into_owned)).collect()
            };
            prop_assert_eq!(said(&whole), said(&parts));
            let _ = whole_rest;
        }
    }
}
