//! A response that is no success: whose words they are, and what they mean for the session.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap};

use super::body;
use super::link::{Answered, Link};
use super::message::{self, Incoming};
use super::problem::Problem;
use crate::auth::{Added, redact};
use crate::message::is_media_type;

const MAX_BODY: usize = 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);

/// How much of a plain text is repeated, in characters.
const MAX_QUOTE: usize = 200;

/// Set by the daemon on errors of its own.
const PROXY_ERROR: &str = "x-mcp-auth-proxy-error";

/// Codes that only a server of 2026-07-28 or later gives (Streamable HTTP, "Backward Compatibility").
const MODERN_CODES: [i64; 5] = [-32020, -32021, -32022, -32601, -32602];
const HEADER_MISMATCH: i64 = -32020;

pub struct Refusal {
    status: StatusCode,
    headers: HeaderMap,
    pub body: Bytes,
    signed: Added,
}

impl Refusal {
    /// Without the credential that the request carried, for servers repeat what they were sent.
    pub async fn read((response, signed): Answered) -> Self {
        let (head, body) = response.into_parts();
        let body = body::quote(body, MAX_BODY, PATIENCE).await;
        Self {
            status: head.status,
            headers: head.headers,
            body: without(&signed, body),
            signed,
        }
    }

    fn is_the_daemons(&self) -> bool {
        self.headers.contains_key(PROXY_ERROR)
    }

    fn error(&self) -> Option<(i64, String)> {
        message::error_of(&self.body)
    }

    /// Whether the body is an answer that may be passed on.
    pub fn is_json_rpc(&self) -> bool {
        matches!(
            message::read(&self.body),
            Some(Incoming::Response(_) | Incoming::Batch(_))
        )
    }

    /// A 404 to a request with a session id, or the 400 that some servers give instead.
    pub fn says_session_is_gone(&self) -> bool {
        match self.status {
            _ if self.is_the_daemons() => false,
            StatusCode::NOT_FOUND => true,
            StatusCode::BAD_REQUEST => self.error().is_some_and(|(code, words)| {
                (-32001..=-32000).contains(&code) && words.to_ascii_lowercase().contains("session")
            }),
            _ => false,
        }
    }

    /// Whether the server may know nothing but the transport of 2024-11-05.
    pub fn may_be_old_transport(&self) -> bool {
        let is_candidate = matches!(
            self.status,
            StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED
        );
        let is_modern = self
            .error()
            .is_some_and(|(code, _)| MODERN_CODES.contains(&code));
        is_candidate && !is_modern && !self.is_the_daemons()
    }

    pub fn is_header_mismatch(&self) -> bool {
        self.status == StatusCode::BAD_REQUEST
            && self
                .error()
                .is_some_and(|(code, _)| code == HEADER_MISMATCH)
    }

    pub fn problem(&self, link: &Link) -> Problem {
        let status = self.status.as_u16();
        let words = self.words();
        let said = if words.is_empty() {
            String::new()
        } else {
            format!(", saying: {words}")
        };
        match self.status {
            StatusCode::UNAUTHORIZED if link.signs() => Problem::new(
                "upstream_rejected_credential",
                format!(
                    "the upstream refused the configured credential{said}; check key, secret and clock"
                ),
            ),
            StatusCode::UNAUTHORIZED => Problem::new(
                "unauthorized",
                format!(
                    "the server wants credentials (401){said}; let the daemon sign: see `mcp-auth-proxy stdio --help`"
                ),
            ),
            status if status.is_redirection() => Problem::new(
                "redirected",
                format!(
                    "the server points elsewhere ({status}), which is never followed; use the final URL"
                ),
            ),
            _ if !words.is_empty() && self.is_the_daemons() => Problem::new("refused", words),
            _ => Problem::new(
                "refused",
                format!("the server refused the request with {status}{said}"),
            ),
        }
    }

    /// What a person can read of the body, in one line.
    fn words(&self) -> String {
        let content_type = self.headers.get(CONTENT_TYPE);
        let text = if let Some((_, words)) = self.error() {
            words
        } else if is_media_type(content_type, "application/problem+json") {
            let problem =
                serde_json::from_slice::<serde_json::Value>(&self.body).unwrap_or_default();
            problem["detail"].as_str().unwrap_or_default().to_owned()
        } else if is_media_type(content_type, "text/plain") {
            String::from_utf8_lossy(&self.body).into_owned()
        } else {
            String::new()
        };
        // JSON may have had it in another spelling.
        let text = redact(&self.signed, &text);
        let line: Vec<_> = text.split_whitespace().collect();
        line.join(" ")
            .chars()
            .filter(|c| !c.is_control())
            .take(MAX_QUOTE)
            .collect()
    }
}

fn without(signed: &Added, body: Bytes) -> Bytes {
    if signed.is_empty() {
        return body;
    }
    redact(signed, &String::from_utf8_lossy(&body)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, body: &'static str) -> Refusal {
        Refusal {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
            signed: Added::default(),
        }
    }

    const GONE: &str = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}}"#;

    #[test]
    fn a_lost_session_is_recognised_and_the_daemons_404_is_none() {
        assert!(refusal(404, "").says_session_is_gone());
        assert!(refusal(400, GONE).says_session_is_gone());
        assert!(!refusal(400, "session").says_session_is_gone());
        assert!(!refusal(500, GONE).says_session_is_gone());
        let mut own = refusal(404, "");
        own.headers.insert(PROXY_ERROR, "no_route".parse().unwrap());
        assert!(!own.says_session_is_gone());
        assert!(!own.may_be_old_transport());
    }

    #[test]
    fn a_modern_error_is_no_sign_of_an_old_server() {
        let modern = r#"{"id":1,"error":{"code":-32022,"message":"Unsupported protocol version"}}"#;
        assert!(!refusal(400, modern).may_be_old_transport());
        assert!(refusal(405, "").may_be_old_transport());
        assert!(!refusal(500, "").may_be_old_transport());
    }
}
