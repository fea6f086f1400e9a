//! The `endpoint` event, with which the 2024-11-05 transport tells a client where to POST.
//!
//! It is the first event of a stream that has data; comments, ids and the like may come before
//! it. One that names the upstream's own origin would lead the client around the proxy, so it is
//! made to lead through it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::Uri;

use crate::proxy::location::{own_path, through_proxy};
use crate::snapshot::{Snapshot, Upstream};
use crate::sse::{self, Splitter};

/// A first event longer than this is passed on as it is.
const MAX_EVENT: usize = 16 * 1024;

/// Looks at the beginning of a stream, and at nothing more.
pub struct Endpoint {
    snapshot: Arc<Snapshot>,
    route: usize,
    /// Who sends it.
    upstream: Arc<Upstream>,
    front: Front,
}

/// What becomes of the bytes given so far: what can be passed on of them, if anything.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// An endpoint event may still come.
    Begun(Bytes),
    /// Nothing more needs to be looked at.
    Done(Bytes),
}

impl Endpoint {
    pub fn new(snapshot: Arc<Snapshot>, route: usize, upstream: Arc<Upstream>) -> Self {
        Self {
            snapshot,
            route,
            upstream,
            front: Front::default(),
        }
    }

    /// Another stream begins: what was held of the one before is no part of it.
    pub fn begin(&mut self) {
        self.front = Front::default();
    }

    pub fn look(&mut self, data: &[u8]) -> Seen {
        let route = &self.snapshot.config.routes[self.route];
        let upstream = &self.upstream;
        look(&mut self.front, data, |target| {
            through_proxy(target, route, upstream).or_else(|| through_nowhere(target, upstream))
        })
    }
}

/// The events at the front of a stream.
#[derive(Default)]
struct Front {
    splitter: Splitter,
    /// Bytes of the incomplete event that were passed on.
    passed: usize,
}

fn look(front: &mut Front, data: &[u8], lead: impl Fn(&str) -> Option<String>) -> Seen {
    front.splitter.push(data);
    let mut out = BytesMut::new();
    let mut is_done = false;
    while !is_done && let Some(event) = front.splitter.next_event() {
        let passed = std::mem::take(&mut front.passed);
        let endpoint = endpoint(&event);
        let target = endpoint.and_then(|data| lead(std::str::from_utf8(data).ok()?.trim()));
        match target {
            Some(target) => {
                let at = telling(&event).max(passed);
                out.extend_from_slice(&event[passed..at]);
                out.extend_from_slice(&sse::with_message(&event[at..], target.as_bytes()));
            }
            None => out.extend_from_slice(&event[passed..]),
        }
        is_done = sse::fields(&event).any(|(name, _)| name == b"data");
    }
    let passed = front.passed;
    if is_done || front.splitter.pending() > MAX_EVENT {
        front.passed = 0;
        out.extend_from_slice(&front.splitter.take_pending()[passed..]);
        return Seen::Done(out.freeze());
    }
    // What says neither what kind of event this is nor what is in it need not wait for its end.
    let pending = front.splitter.incomplete();
    front.passed = telling(pending).max(passed);
    out.extend_from_slice(&pending[passed..front.passed]);
    Seen::Begun(out.freeze())
}

/// Where the first line begins that is a `data` or `event` field, or may become one.
fn telling(event: &[u8]) -> usize {
    let may_be_mark = event.len() < sse::BYTE_ORDER_MARK.len() + 1
        && (sse::BYTE_ORDER_MARK.starts_with(event)
            || sse::BYTE_ORDER_MARK.starts_with(event.strip_prefix(b"\n").unwrap_or(event)));
    if may_be_mark {
        return 0;
    }
    let mut at = event.len() - sse::unmarked(event).len();
    let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
    for line in event[at..].split_inclusive(is_end) {
        let tells = |name: &[u8]| {
            line.starts_with(name) || !line.last().is_some_and(is_end) && name.starts_with(line)
        };
        if tells(b"data") || tells(b"event") {
            break;
        }
        at += line.len();
    }
    at
}

/// The data of an event that is one.
fn endpoint(event: &[u8]) -> Option<&[u8]> {
    let last = |wanted: &[u8]| {
        let fields = sse::fields(event).filter(|(name, _)| *name == wanted);
        fields.last().map(|(_, value)| value)
    };
    (last(b"event")? == b"endpoint")
        .then(|| last(b"data"))
        .flatten()
}

/// The path alone of a place that no path of the route leads to: the client is refused
/// here, and told so, rather than led around us.
fn through_nowhere(target: &str, upstream: &Upstream) -> Option<String> {
    let uri: Uri = target.parse().ok()?;
    own_path(&uri, target, upstream).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(target: &str) -> Option<String> {
        let path = target.strip_prefix("https://up.example")?;
        Some(format!("/through{path}"))
    }

    fn led(pieces: &[&str]) -> (String, bool) {
        let mut front = Front::default();
        let mut all = String::new();
        for piece in pieces {
            match look(&mut front, piece.as_bytes(), lead) {
                Seen::Begun(out) => all.push_str(std::str::from_utf8(&out).unwrap()),
                Seen::Done(out) => {
                    all.push_str(std::str::from_utf8(&out).unwrap());
                    return (all, true);
                }
            }
        }
        (all, false)
    }

    #[test]
    fn the_endpoint_leads_through_us_whatever_comes_before_it() {
        let event = "event: endpoint\ndata: https://up.example/m?s=1\n\n";
        let through = "event: endpoint\ndata: /through/m?s=1\n\n";
        for before in [
            "",
            ":comment\n\n",
            ":\r\rretry: 5\r\r",
            "id: 1\n\n",
            "event: x\n\n",
        ] {
            let whole = format!("{before}{event}data: 1\n\nrest");
            let expected = format!("{before}{through}data: 1\n\nrest");
            assert_eq!(led(&[&whole]), (expected, true), "{before:?}");
            let bytes: Vec<_> = before.split_inclusive(|_| true).collect();
            let pieces = [
                &bytes[..],
                &event.split_inclusive(|_| true).collect::<Vec<_>>(),
            ];
            let expected = format!("{before}{through}");
            assert_eq!(led(&pieces.concat()), (expected, true), "{before:?}");
        }
    }

    #[test]
    fn the_endpoint_leads_through_us_however_it_is_written() {
        for event in [
            "\u{feff}event: endpoint\ndata: https://up.example/m\n\n",
            ":comment\nevent: endpoint\ndata: https://up.example/m\n\n",
            "data: https://up.example/m\nevent: endpoint\n\n",
            "event:endpoint\rdata:https://up.example/m\r\r",
            "event: endpoint\r\ndata: https://up.example/m\r\n\r\n",
        ] {
            let (out, is_done) = led(&[event]);
            assert!(
                is_done && out.contains("data: /through/m\n"),
                "{event:?} {out:?}"
            );
        }
        let (out, _) = led(&["id: 7\nevent: endpoint\ndata: https://up.example/m\n\n"]);
        assert!(out.contains("id: 7\n"), "{out:?}");
    }

    #[test]
    fn every_other_beginning_passes_as_it_is() {
        for text in [
            "data: https://up.example/m\n\nevent: endpoint\ndata: https://up.example/m\n\n",
            "event: message\ndata: 1\n\n",
            "event: endpoint\ndata: https://elsewhere.example/m\n\n",
        ] {
            assert_eq!(led(&[text]), (text.to_owned(), true));
        }
        let long = format!("data: {}", "x".repeat(MAX_EVENT));
        assert_eq!(led(&[&long]), (long.clone(), true));
        assert_eq!(led(&["event: endpoint\ndata: "]), (String::new(), false));
        // What cannot become one does not wait.
        for part in ["a", ": half a com", "id: 1\nret", "\n"] {
            assert_eq!(led(&[part]), (part.to_owned(), false));
        }
    }
}
