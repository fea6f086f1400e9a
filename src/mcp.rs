//! What we understand of MCP: enough to name a request in a log and to answer it in kind.

pub mod agreement;
pub mod cacheable;
pub mod mirror;
pub mod params;
mod reads;
mod scan;
pub mod strict;
mod trace;

pub use reads::only_reads;
pub use trace::{TraceKeys, trace_keys};

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, Method, header};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json;
use strict::Members;

/// First revision without sessions (and without a stream to fall back to).
pub const STATELESS_SINCE: &str = "2026-07-28";

/// Names the session in requests and answers of the revisions from 2025-03-26 to 2025-11-25.
pub const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// What a JSON-RPC message is about. Borrowed from the body.
#[derive(Debug, PartialEq, Eq)]
pub struct Peek<'a> {
    /// `None` for responses and batches.
    pub method: Option<Cow<'a, str>>,
    /// The tool, prompt or resource that is asked for.
    pub name: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
}

/// Reads a message's method and subject; `None` if it is no single JSON-RPC message, or one
/// whose method two parsers could read differently: the log must not name a harmless one.
pub fn peek(body: &[u8]) -> Option<Peek<'_>> {
    let (message, params) = strict::with_params(std::str::from_utf8(body).ok()?, ["name", "uri"])?;
    let [method, _] = message.certain().ok()?;
    let method = method.map(strict::text).transpose().ok()?;
    let name = method
        .as_deref()
        .filter(|method| has_subject(method))
        .and(params)
        .and_then(subject);
    Some(Peek { method, name })
}

fn subject(params: Members<'_, 2>) -> Option<Cow<'_, str>> {
    let [name, uri] = params.certain().ok()?;
    strict::text(name.or(uri)?).ok()
}

fn has_subject(method: &str) -> bool {
    matches!(
        method,
        "tools/call"
            | "prompts/get"
            | "resources/read"
            | "resources/subscribe"
            | "resources/unsubscribe"
    )
}

/// Who waits for an answer to a body that cannot be forwarded.
#[derive(Debug, PartialEq, Eq)]
pub enum Waiting {
    /// One request, with its id as it stood in the body.
    One(Box<str>),
    /// The requests of a batch.
    Batch(Vec<Box<str>>),
    /// Somebody, most likely, but the body was not read.
    Unread,
    /// A notification, a response, or no JSON-RPC at all.
    Nobody,
}

/// The requests in `body`, each of which is owed exactly one answer.
pub fn waiting(body: &[u8]) -> Waiting {
    if body.trim_ascii_start().first() == Some(&b'[') {
        let messages: Vec<Message<'_>> = json::objects(body).unwrap_or_default();
        let ids: Vec<_> = messages.iter().filter_map(request_id).collect();
        return if ids.is_empty() {
            Waiting::Nobody
        } else {
            Waiting::Batch(ids)
        };
    }
    json::object::<Message<'_>>(body)
        .ok()
        .as_ref()
        .and_then(request_id)
        .map_or(Waiting::Nobody, Waiting::One)
}

fn request_id(message: &Message<'_>) -> Option<Box<str>> {
    message.method.as_ref()?;
    let id = message.id?.get();
    // MCP knows string and number ids; anything else is not echoed.
    (id.starts_with('"') || id.starts_with(|c: char| c == '-' || c.is_ascii_digit()))
        .then(|| id.into())
}

/// Whether a request can carry JSON-RPC: a POST of JSON.
pub fn may_be_json_rpc(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::POST
        && crate::message::is_media_type(headers.get(header::CONTENT_TYPE), "application/json")
}

/// Whether a GET asks for the standalone event stream of the transports before 2026-07-28.
pub fn asks_for_legacy_stream(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::GET && accepts_event_stream(headers) && !is_stateless(headers)
}

fn accepts_event_stream(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|range| {
            range
                .split(';')
                .next()
                .unwrap_or("")
                .trim()
                .eq_ignore_ascii_case("text/event-stream")
        })
}

/// Whether the client names protocol version 2026-07-28 or later. Versions are dates: they sort as text.
pub fn is_stateless(headers: &HeaderMap) -> bool {
    headers
        .get(mirror::PROTOCOL_VERSION)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|version| version.trim() >= STATELESS_SINCE)
}

pub fn has_session(headers: &HeaderMap) -> bool {
    headers.contains_key(SESSION_ID)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_tool_call_is_named() {
        let body = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{"name":"no"},"name":"echo"}}"#;
        let peek = peek(body).unwrap();
        assert_eq!(peek.method.as_deref(), Some("tools/call"));
        assert_eq!(peek.name.as_deref(), Some("echo"));
    }

    #[test]
    fn a_resource_is_named_by_its_uri() {
        let body = br#"{"method":"resources/read","params":{"uri":"file:///a"},"id":"x"}"#;
        assert_eq!(peek(body).unwrap().name.as_deref(), Some("file:///a"));
    }

    #[test]
    fn a_name_is_found_however_its_keys_are_written() {
        let body = br#"{"p\u0061rams":{"n\u0061me":"a\/b"},"m\u0065thod":"tools\/call"}"#;
        let peek = peek(body).unwrap();
        assert_eq!(peek.method.as_deref(), Some("tools/call"));
        assert_eq!(peek.name.as_deref(), Some("a/b"));
    }

    #[test]
    fn parameters_of_an_unexpected_shape_do_not_hide_the_method() {
        let body = br#"{"id":1,"method":"tools/call","params":[1,2]}"#;
        let peek = peek(body).unwrap();
        assert_eq!(
            (peek.method.as_deref(), peek.name),
            (Some("tools/call"), None)
        );
    }

    #[test]
    fn values_without_their_names_are_no_message_and_name_no_tool() {
        assert_eq!(peek(br#"[1,"tools/call",{"name":"echo"}]"#), None);
        let body = br#"{"id":1,"method":"tools/call","params":["echo",null]}"#;
        assert_eq!(peek(body).unwrap().name, None);
    }

    #[test]
    fn what_comes_twice_is_not_named() {
        for twice in [
            r#"{"method":"ping","method":"tools/call"}"#,
            r#"{"method":"ping","m\u0065thod":"tools/call"}"#,
            // Go's parser takes the last of these.
            r#"{"method":"ping","Method":"tools/call"}"#,
        ] {
            assert_eq!(peek(twice.as_bytes()), None, "{twice}");
        }
        let body = br#"{"method":"tools/call","params":{"name":"a","Name":"b"}}"#;
        assert_eq!(peek(body).unwrap().name, None);
    }

    #[test]
    fn ids_are_echoed_as_they_stand() {
        for id in ["0", r#""0""#, "9223372036854775808", "-1", r#""\u00e9""#] {
            let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
            assert_eq!(waiting(body.as_bytes()), Waiting::One(id.into()));
        }
    }

    #[test]
    fn nobody_waits_for_notifications_responses_and_nonsense() {
        for body in [
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":{"a":1},"method":"ping"}"#,
            r#"[1,"ping"]"#,
            r#"[[1,"ping"]]"#,
            "[]",
            "",
            "nonsense",
        ] {
            assert_eq!(waiting(body.as_bytes()), Waiting::Nobody, "{body}");
        }
    }

    #[test]
    fn every_request_of_a_batch_waits() {
        let body = br#" [{"id":1,"method":"a"},{"method":"n"},{"id":"b","method":"c"}]"#;
        assert_eq!(
            waiting(body),
            Waiting::Batch(vec!["1".into(), "\"b\"".into()])
        );
    }

    #[test]
    fn a_stream_is_legacy_unless_the_version_is_2026_07_28_or_later() {
        let mut headers = HeaderMap::new();
        headers.insert(
            "accept",
            HeaderValue::from_static("application/json, text/event-stream"),
        );
        assert!(asks_for_legacy_stream(&Method::GET, &headers));
        assert!(!asks_for_legacy_stream(&Method::POST, &headers));
        headers.insert(
            "mcp-protocol-version",
            HeaderValue::from_static("2025-11-25"),
        );
        assert!(asks_for_legacy_stream(&Method::GET, &headers));
        headers.insert(
            "mcp-protocol-version",
            HeaderValue::from_static("2026-07-28"),
        );
        assert!(!asks_for_legacy_stream(&Method::GET, &headers));
    }
}
