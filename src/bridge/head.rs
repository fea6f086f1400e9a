//! The headers of what the bridge sends: the session's before 2026-07-28, the mirrored ones since.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::message::{Kind, Message};
use super::relay::Relay;
use super::session::Sight;
use crate::mcp::mirror;

pub const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const EITHER: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");

/// For a POST of a message.
pub fn for_message(relay: &Relay, message: &Message, sight: &Sight) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, JSON);
    headers.insert(header::ACCEPT, EITHER);
    headers.insert(header::USER_AGENT, relay.user_agent.clone());
    match &message.kind {
        Kind::Request(request) if request.version.is_some() => mirror(relay, message, &mut headers),
        Kind::Request(request) if &*request.method == "initialize" => {}
        Kind::Notification { method, .. } => match relay.session.modern() {
            Some(version) => {
                headers.insert(mirror::PROTOCOL_VERSION, mirror::encode(&version));
                headers.insert(mirror::METHOD, mirror::encode(method));
            }
            None => add_session(&mut headers, sight),
        },
        _ => add_session(&mut headers, sight),
    }
    headers
}

/// For a GET, which opens or resumes a stream, and for a DELETE.
pub fn for_stream(relay: &Relay, sight: &Sight, last_event_id: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, EVENTS);
    headers.insert(header::USER_AGENT, relay.user_agent.clone());
    add_session(&mut headers, sight);
    // An id that no header can hold could only be sent wrong.
    if let Some(id) = last_event_id.and_then(|id| HeaderValue::from_str(id).ok()) {
        headers.insert(LAST_EVENT_ID, id);
    }
    headers
}

fn add_session(headers: &mut HeaderMap, sight: &Sight) {
    if let Some(id) = &sight.id {
        headers.insert(SESSION_ID, id.clone());
    }
    if let Some(version) = &sight.version {
        headers.insert(mirror::PROTOCOL_VERSION, version.clone());
    }
}

fn mirror(relay: &Relay, message: &Message, headers: &mut HeaderMap) {
    let Kind::Request(request) = &message.kind else {
        return;
    };
    if let Some(version) = &request.version {
        headers.insert(mirror::PROTOCOL_VERSION, mirror::encode(version));
    }
    headers.insert(mirror::METHOD, mirror::encode(&request.method));
    let Some(name) = &request.name else { return };
    headers.insert(mirror::NAME, mirror::encode(name));
    if &*request.method == "tools/call" {
        let arguments = message.arguments().unwrap_or("{}");
        headers.extend(relay.catalog().headers(name, arguments));
    }
}
