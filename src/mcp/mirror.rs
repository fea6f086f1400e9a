//! The headers that mirror a request's body since 2026-07-28 (Streamable HTTP, "Request Metadata").

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};

pub const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
pub const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
pub const METHOD: HeaderName = HeaderName::from_static("mcp-method");
pub const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// Where a request says in its `params._meta` which revision it is written in.
pub const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";

const SENTINEL: (&str, &str) = ("=?base64?", "?=");

/// The parameter that `Mcp-Name` mirrors for a method; the tasks extension adds its own.
pub fn name_source(method: &str) -> Option<&'static str> {
    match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        "tasks/get" | "tasks/update" | "tasks/cancel" => Some("taskId"),
        _ => None,
    }
}

/// A value as it may stand in a header: as it is, or in Base64 between markers.
pub fn encode(value: &str) -> HeaderValue {
    let encoded = if is_plain(value) {
        HeaderValue::from_str(value)
    } else {
        let (open, close) = SENTINEL;
        HeaderValue::try_from(format!("{open}{}{close}", STANDARD.encode(value)))
    };
    // Both arms are visible ASCII; an empty value is what is left of the impossible.
    encoded.unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Whether a value survives a header: no blank at its edge is stripped, nothing is taken for Base64.
fn is_plain(value: &str) -> bool {
    let (open, close) = SENTINEL;
    let is_visible = |byte: u8| byte == b'\t' || (0x20..0x7f).contains(&byte);
    !value.is_empty()
        && value.bytes().all(is_visible)
        && value.trim_matches([' ', '\t']) == value
        && !(value.starts_with(open) && value.ends_with(close))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded_as_the_specification_shows() {
        for (value, header) in [
            ("us-west1", "us-west1"),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
            ("", "=?base64??="),
            ("a\tb", "a\tb"),
        ] {
            assert_eq!(encode(value), header, "{value:?}");
        }
    }
}
