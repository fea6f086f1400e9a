//! Event streams: no byte is lost, and where the bytes were cut does not change what they say.

use bytes::Bytes;

use super::{pieces, seeded};
use crate::sse::{self, Splitter};

pub fn check(data: &[u8]) {
    let (seed, data) = seeded(data);
    let (events, rest) = split(&[data]);
    let (cut_events, cut_rest) = split(&pieces(seed, data));
    assert_eq!(
        [events.concat(), rest.to_vec()].concat(),
        data,
        "bytes are lost or made up"
    );
    assert_eq!(
        [cut_events.concat(), cut_rest.to_vec()].concat(),
        data,
        "bytes are lost in a cut"
    );
    let said = |events: &[Bytes]| -> Vec<Vec<u8>> {
        let said = events.iter().filter_map(|event| sse::message(event));
        said.map(|message| message.to_vec()).collect()
    };
    assert_eq!(
        said(&events),
        said(&cut_events),
        "a cut changes what is said"
    );
    assert_eq!(
        said(&events),
        reference(data),
        "it is read otherwise than by WHATWG's rules"
    );
    for event in &events {
        replaced(event);
    }
}

fn split(pieces: &[&[u8]]) -> (Vec<Bytes>, Bytes) {
    let mut splitter = Splitter::default();
    let mut events = Vec::new();
    for piece in pieces {
        splitter.push(piece);
        events.extend(std::iter::from_fn(|| splitter.next_event()));
    }
    (events, splitter.take_pending())
}

/// The messages by WHATWG HTML, section 9.2.6, line by line.
fn reference(data: &[u8]) -> Vec<Vec<u8>> {
    let mut said = Vec::new();
    let (mut lines, mut kind): (Vec<Vec<u8>>, Vec<u8>) = Default::default();
    let mut is_first = true;
    let mut rest = data;
    while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
        let line = &rest[..end];
        rest = rest[end..]
            .strip_prefix(b"\r\n")
            .unwrap_or(&rest[end + 1..]);
        if line.is_empty() {
            let data = lines.join(&b'\n');
            if !data.is_empty() && matches!(&kind[..], b"" | b"message") {
                said.push(data);
            }
            (lines, kind, is_first) = (Vec::new(), Vec::new(), true);
            continue;
        }
        // The mark belongs to the beginning of the stream; we forgive it before each event.
        let line = line
            .strip_prefix(sse::BYTE_ORDER_MARK)
            .filter(|_| is_first)
            .unwrap_or(line);
        is_first = false;
        let colon = line
            .iter()
            .position(|byte| *byte == b':')
            .unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &line[..colon] {
            b"data" => lines.push(value.to_vec()),
            b"event" => kind = value.to_vec(),
            _ => {}
        }
    }
    said
}

/// Other data in an event says that data, and leaves the other fields.
fn replaced(event: &[u8]) {
    let with = sse::with_message(event, b"{}");
    let (events, rest) = split(&[&with]);
    assert!(
        events.len() == 1 && rest.is_empty(),
        "one event became {}",
        events.len()
    );
    let others = |event: &[u8]| -> Vec<(Vec<u8>, Vec<u8>)> {
        let fields = sse::fields(event)
            .filter(|(name, _)| *name != b"data" && !name.starts_with(sse::BYTE_ORDER_MARK));
        fields
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect()
    };
    assert_eq!(others(event), others(&with));
    if sse::message(event).is_some() {
        assert_eq!(sse::message(&with).as_deref(), Some(&b"{}"[..]));
    }
}
