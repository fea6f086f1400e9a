//! Answers of the proxy's own, which never look like the upstream's.
//!
//! A JSON-RPC request gets a JSON-RPC error with its own id, because that is
//! what its client is waiting for; everything else gets RFC 9457 problem details.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use serde_json::json;

use super::error::{Code, Error};
use super::source::Source;
use crate::mcp::Waiting;

pub const ERROR_HEADER: HeaderName = HeaderName::from_static("x-mcp-auth-proxy-error");

pub fn refusal(error: &Error, waiting: &Waiting, id: &HeaderValue) -> Response<Source> {
    let request_id = id.to_str().unwrap_or_default();
    let (media_type, body) = match waiting {
        Waiting::Nobody => ("application/problem+json", problem(error, request_id)),
        Waiting::Unread => (
            "application/json",
            json_rpc_error("null", error, request_id),
        ),
        Waiting::One(id) => ("application/json", json_rpc_error(id, error, request_id)),
        Waiting::Batch(ids) => {
            let errors: Vec<_> = ids
                .iter()
                .map(|id| json_rpc_error(id, error, request_id))
                .collect();
            ("application/json", format!("[{}]", errors.join(",")))
        }
    };
    let mut response = of_type(error.code.status(), media_type, body);
    let headers = response.headers_mut();
    headers.insert(ERROR_HEADER, HeaderValue::from_static(error.code.as_str()));
    if let Some(wait) = error.retry_after {
        // Whole seconds, and never so few that the next try comes too early.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// A complete answer; nothing between here and the client may keep it.
pub fn of_type(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Source> {
    let mut response = Response::new(Source::text(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn problem(error: &Error, request_id: &str) -> String {
    let status = error.code.status();
    json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "detail": error.message,
        "code": error.code.as_str(),
        "request_id": request_id,
    })
    .to_string()
}

/// `id` is JSON as the client wrote it: a number may have more digits than we could parse.
fn json_rpc_error(id: &str, error: &Error, request_id: &str) -> String {
    let error = json!({
        "code": error.code.json_rpc(),
        "message": error.message,
        "data": {
            "code": error.code.as_str(),
            "status": error.code.status().as_u16(),
            "request_id": request_id,
        },
    });
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
}

/// OAuth discovery ends here: the proxy's clients need no authorization, and must not look for one.
pub fn not_offered() -> Error {
    Error::new(
        Code::NotOffered,
        "no OAuth here: this proxy authenticates to the upstream itself",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body_of(response: Response<Source>) -> String {
        match response.into_body() {
            Source::Full(Some(bytes)) => String::from_utf8(bytes.to_vec()).unwrap(),
            _ => String::new(),
        }
    }

    fn refused(waiting: &Waiting) -> Response<Source> {
        let error = Error::new(Code::UpstreamReset, "it \"broke\"");
        refusal(&error, waiting, &HeaderValue::from_static("r-1"))
    }

    #[test]
    fn a_request_is_answered_by_its_own_id() {
        let response = refused(&Waiting::One("9223372036854775808".into()));
        assert_eq!(response.status(), 502);
        assert_eq!(response.headers()[ERROR_HEADER], "upstream_reset");
        let body = body_of(response);
        assert!(
            body.starts_with(r#"{"jsonrpc":"2.0","id":9223372036854775808,"error":"#),
            "{body}"
        );
        let value: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(value["error"]["data"]["request_id"], "r-1");
    }

    #[test]
    fn every_request_of_a_batch_is_answered() {
        let body = body_of(refused(&Waiting::Batch(vec!["1".into(), "\"b\"".into()])));
        let value: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(value[0]["id"], 1);
        assert_eq!(value[1]["id"], "b");
    }

    #[test]
    fn whoever_sent_no_request_gets_problem_details() {
        let response = refused(&Waiting::Nobody);
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "application/problem+json"
        );
        let value: serde_json::Value = serde_json::from_str(&body_of(response)).unwrap();
        assert_eq!(
            (value["status"].as_u64(), value["code"].as_str()),
            (Some(502), Some("upstream_reset"))
        );
    }
}
