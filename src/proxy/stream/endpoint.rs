//! The `endpoint` event, with which the 2024-11-05 transport tells a client where to POST.
//!
//! It is the first event of a stream. One that names the upstream's own origin
//! would lead the client around the proxy, so it is made to lead through it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::Uri;

use crate::proxy::respond::{self, through_proxy};
use crate::snapshot::{Snapshot, Upstream};

const EVENT: &[u8] = b"event:";
const NAME: &[u8] = b"endpoint";
const DATA: &[u8] = b"data:";

/// A first event longer than this is passed on as it is.
const MAX_EVENT: usize = 16 * 1024;

/// Looks at the beginning of a stream, and at nothing more.
pub struct Endpoint {
    snapshot: Arc<Snapshot>,
    route: usize,
    /// Who sends it.
    upstream: Arc<Upstream>,
    held: BytesMut,
}

/// What becomes of the bytes given so far.
pub enum Seen {
    /// It may still be an endpoint event.
    Held,
    /// To be passed on; nothing more needs to be looked at.
    Done(Bytes),
}

impl Endpoint {
    pub fn new(snapshot: Arc<Snapshot>, route: usize, upstream: Arc<Upstream>) -> Self {
        Self {
            snapshot,
            route,
            upstream,
            held: BytesMut::new(),
        }
    }

    pub fn look(&mut self, data: Bytes) -> Seen {
        if self.held.is_empty() && !may_be_endpoint(&data) {
            return Seen::Done(data);
        }
        self.held.extend_from_slice(&data);
        if !may_be_endpoint(&self.held) || self.held.len() > MAX_EVENT {
            return Seen::Done(self.release());
        }
        let Some(end) = end_of_event(&self.held) else {
            return Seen::Held;
        };
        match self.rewritten(end, &self.upstream) {
            Some(event) => {
                let mut all = BytesMut::from(&event[..]);
                all.extend_from_slice(&self.held[end..]);
                Seen::Done(all.freeze())
            }
            None => Seen::Done(self.release()),
        }
    }

    fn release(&mut self) -> Bytes {
        std::mem::take(&mut self.held).freeze()
    }

    fn rewritten(&self, end: usize, upstream: &Upstream) -> Option<Vec<u8>> {
        let event = &self.held[..end];
        let data = event
            .split(|&byte| byte == b'\n')
            .find(|line| line.starts_with(DATA))?;
        let target = std::str::from_utf8(&data[DATA.len()..]).ok()?.trim();
        let route = &self.snapshot.config.routes[self.route];
        let target =
            through_proxy(target, route, upstream).or_else(|| through_nowhere(target, upstream))?;
        Some(format!("event: endpoint\ndata: {target}\n\n").into_bytes())
    }
}

/// The path alone of a place that no path of the route leads to: the client is refused
/// here, and told so, rather than led around us.
fn through_nowhere(target: &str, upstream: &Upstream) -> Option<String> {
    let uri: Uri = target.parse().ok()?;
    respond::own_path(&uri, target, upstream).map(str::to_owned)
}

/// Whether `bytes` are, or could become, the beginning of an endpoint event.
fn may_be_endpoint(bytes: &[u8]) -> bool {
    let common = bytes.len().min(EVENT.len());
    if bytes[..common] != EVENT[..common] {
        return false;
    }
    let name = bytes[common..].trim_ascii_start();
    let common = name.len().min(NAME.len());
    name[..common] == NAME[..common]
}

fn end_of_event(bytes: &[u8]) -> Option<usize> {
    let after = |mark: &[u8]| {
        bytes
            .windows(mark.len())
            .position(|window| window == mark)
            .map(|at| at + mark.len())
    };
    [after(b"\n\n"), after(b"\r\n\r\n")]
        .into_iter()
        .flatten()
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_become_an_endpoint_event_is_looked_at() {
        for begin in [
            "",
            "e",
            "event:",
            "event: ",
            "event: end",
            "event:endpoint\nda",
        ] {
            assert!(may_be_endpoint(begin.as_bytes()), "{begin:?}");
        }
        for other in [
            ":ok\n\n",
            "data: 1\n",
            "event: message\n",
            "id: 1\nevent: endpoint",
            "eventually",
        ] {
            assert!(!may_be_endpoint(other.as_bytes()), "{other:?}");
        }
    }

    #[test]
    fn an_event_ends_behind_its_empty_line() {
        assert_eq!(end_of_event(b"event: endpoint\ndata: /m\n\nrest"), Some(26));
        assert_eq!(
            end_of_event(b"event: endpoint\r\ndata: /m\r\n\r\n"),
            Some(29)
        );
        assert_eq!(end_of_event(b"event: endpoint\ndata: /m\n"), None);
    }
}
