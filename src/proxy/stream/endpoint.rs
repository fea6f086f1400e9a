//! The `endpoint` event, with which the 2024-11-05 transport tells a client where to POST.
//!
//! It is the first event of a stream that has data; comments, ids and the like may come before
//! it. One that names the upstream's own origin would lead the client around the proxy, so it is
//! made to lead through it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::Uri;

use crate::proxy::respond::{self, through_proxy};
use crate::snapshot::{Snapshot, Upstream};
use crate::sse::{self, Splitter};

/// A first event longer than this is passed on as it is.
const MAX_EVENT: usize = 16 * 1024;

/// Looks at the beginning of a stream, and at nothing more.
pub struct Endpoint {
    snapshot: Arc<Snapshot>,
    route: usize,
    splitter: Splitter,
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
    pub fn new(snapshot: Arc<Snapshot>, route: usize) -> Self {
        Self {
            snapshot,
            route,
            splitter: Splitter::default(),
        }
    }

    /// Another stream begins: what was held of the one before is no part of it.
    pub fn begin(&mut self) {
        self.splitter = Splitter::default();
    }

    pub fn look(&mut self, data: &[u8]) -> Seen {
        let route = &self.snapshot.config.routes[self.route];
        let upstream = &self.snapshot.upstreams[route.upstream];
        look(&mut self.splitter, data, |target| {
            through_proxy(target, route, upstream).or_else(|| through_nowhere(target, upstream))
        })
    }
}

fn look(splitter: &mut Splitter, data: &[u8], lead: impl Fn(&str) -> Option<String>) -> Seen {
    splitter.push(data);
    let mut out = BytesMut::new();
    let mut is_done = false;
    while !is_done && let Some(event) = splitter.next_event() {
        let endpoint = endpoint(&event);
        let target = endpoint.and_then(|data| lead(std::str::from_utf8(data).ok()?.trim()));
        match target {
            Some(target) => out.extend_from_slice(&sse::with_message(&event, target.as_bytes())),
            None => out.extend_from_slice(&event),
        }
        is_done = sse::fields(&event).any(|(name, _)| name == b"data");
    }
    if is_done || splitter.pending() > MAX_EVENT {
        out.extend_from_slice(&splitter.take_pending());
        return Seen::Done(out.freeze());
    }
    Seen::Begun(out.freeze())
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
    respond::own_path(&uri, target, upstream).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(target: &str) -> Option<String> {
        let path = target.strip_prefix("https://up.example")?;
        Some(format!("/through{path}"))
    }

    fn led(pieces: &[&str]) -> (String, bool) {
        let mut splitter = Splitter::default();
        let mut all = String::new();
        for piece in pieces {
            match look(&mut splitter, piece.as_bytes(), lead) {
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
    }
}
