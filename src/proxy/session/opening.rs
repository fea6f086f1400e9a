//! What an upstream says when a session is opened: enough to tell whether another would be the same.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http::header;
use http_body::Frame;
use serde::Deserialize;
use serde_json::Value;

use super::Pending;
use crate::json::{self, Object};
use crate::message::is_media_type;
use crate::proxy::broken::Broken;
use crate::proxy::source::Source;
use crate::sse::{self, Splitter};

/// A longer answer to `initialize` is not understood; most have a few hundred bytes.
pub const MAX_ANSWER: usize = 256 * 1024;

/// What a client builds upon: the version and the capabilities that were agreed.
#[derive(Debug, PartialEq, Eq)]
pub struct Opening(Box<str>);

impl Opening {
    /// Bytes held.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn of(message: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Answer {
            result: Object<Agreed>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Agreed {
            protocol_version: String,
            #[serde(default)]
            capabilities: Value,
        }
        let Answer {
            result: Object(result),
        } = json::object(message).ok()?;
        // Equal objects are written alike: their keys are sorted.
        let text = format!("{}\n{}", result.protocol_version, result.capabilities);
        Some(Self(text.into()))
    }
}

/// Looks for an [`Opening`] in an answer, as JSON or in an event stream.
pub struct Reader {
    is_stream: bool,
    splitter: Splitter,
    whole: Vec<u8>,
}

impl Reader {
    /// `None` where the answer cannot be read as it passes.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let media_type = headers.get(header::CONTENT_TYPE);
        let is_stream = is_media_type(media_type, "text/event-stream");
        let is_clear = !headers.contains_key(header::CONTENT_ENCODING);
        (is_clear && (is_stream || is_media_type(media_type, "application/json"))).then(|| Self {
            is_stream,
            splitter: Splitter::default(),
            whole: Vec::new(),
        })
    }

    /// The opening, once it has come whole; `is_end` says that nothing follows `data`.
    pub fn read(&mut self, data: &[u8], is_end: bool) -> Option<Opening> {
        if self.is_stream {
            self.splitter.push(data);
            let mut events = std::iter::from_fn(|| self.splitter.next_event());
            return events.find_map(|event| Opening::of(&sse::message(&event)?));
        }
        self.whole.extend_from_slice(data);
        // The end may go unseen where the length was announced.
        let may_be_whole = is_end || data.trim_ascii_end().ends_with(b"}");
        may_be_whole.then(|| Opening::of(&self.whole)).flatten()
    }

    /// It has become longer than is worth reading on.
    pub fn is_full(&self) -> bool {
        self.whole.len().max(self.splitter.pending()) > MAX_ANSWER
    }
}

/// The answer to an `initialize`, read on its way to the client.
pub struct Watched {
    inner: Source,
    reader: Reader,
    /// Until the session is known.
    pending: Option<Pending>,
}

impl Watched {
    pub(super) fn new(inner: Source, reader: Reader, pending: Pending) -> Self {
        Self {
            inner,
            reader,
            pending: Some(pending),
        }
    }

    pub fn inner(&self) -> &Source {
        &self.inner
    }

    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let polled = self.inner.poll_frame(cx);
        // Before the client has it: its next request may follow at once.
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let is_end = self.inner.is_end_stream();
                self.look(frame.data_ref().map_or(&[], |data| &data[..]), is_end);
            }
            Poll::Ready(None) => self.look(&[], true),
            Poll::Ready(Some(Err(_))) => self.pending = None,
            Poll::Pending => {}
        }
        polled
    }

    fn look(&mut self, data: &[u8], is_end: bool) {
        let Some(pending) = self.pending.take() else {
            return;
        };
        match self.reader.read(data, is_end) {
            Some(opening) => pending.opened(opening),
            None if is_end || self.reader.is_full() => {}
            None => self.pending = Some(pending),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const ANSWER: &str = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"logging":{}},"serverInfo":{"name":"s","version":"1"}}}"#;

    fn reader(media_type: &'static str) -> Reader {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        Reader::of(&headers).unwrap()
    }

    #[test]
    fn it_is_found_in_json_and_in_an_event_stream_however_they_are_cut() {
        let expected = Opening::of(ANSWER.as_bytes()).unwrap();
        let (front, back) = ANSWER.as_bytes().split_at(40);
        let mut json = reader("application/json");
        assert_eq!(json.read(front, false), None);
        assert_eq!(json.read(back, true).as_ref(), Some(&expected));

        let stream = format!("id: 1\ndata:\n\nevent: message\ndata: {ANSWER}\n\n");
        let (front, back) = stream.as_bytes().split_at(60);
        let mut events = reader("text/event-stream; charset=utf-8");
        assert_eq!(events.read(front, false), None);
        assert_eq!(events.read(back, false), Some(expected));
    }

    #[test]
    fn the_order_of_keys_and_the_servers_own_version_make_no_difference_and_all_else_does() {
        let of = |text: &str| Opening::of(text.as_bytes());
        let reordered = r#"{"id":7,"result":{"serverInfo":{"version":"2"},"capabilities":{"logging":{},"tools":{}},"protocolVersion":"2025-11-25"}}"#;
        assert_eq!(of(ANSWER), of(reordered));
        for other in [
            ANSWER.replace("\"logging\":{}", "\"prompts\":{}"),
            ANSWER.replace("\"tools\":{}", "\"tools\":{\"listChanged\":true}"),
            ANSWER.replace("2025-11-25", "2025-06-18"),
        ] {
            assert_ne!(of(ANSWER), of(&other));
        }
    }

    #[test]
    fn errors_and_other_bodies_open_nothing() {
        for text in [
            r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32600,"message":"no"}}"#,
            r#"{"jsonrpc":"2.0","id":0,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":0,"result":["2025-11-25",{}]}"#,
            r#"[["2025-11-25",{}]]"#,
            "",
        ] {
            assert_eq!(Opening::of(text.as_bytes()), None, "{text}");
        }
        assert!(Reader::of(&HeaderMap::new()).is_none());
    }
}
