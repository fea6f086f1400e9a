//! Whose child a message says that it is (MCP 2026-07-28, `_meta`: the names of W3C Trace Context and Baggage).

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;

use crate::json::{self, Object};

#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct TraceKeys {
    pub traceparent: String,
    pub tracestate: Option<String>,
    pub baggage: Option<String>,
}

/// The trace keys of a JSON-RPC message that is no batch.
pub fn trace_keys(message: &[u8]) -> Option<TraceKeys> {
    #[derive(Deserialize)]
    struct Message {
        params: Object<Params>,
    }
    #[derive(Deserialize)]
    struct Params {
        #[serde(rename = "_meta")]
        meta: Object<TraceKeys>,
    }
    // Few have them: a look is enough for the others.
    static KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"traceparent\""));
    KEY.find(message)?;
    let message: Message = json::object(message).ok()?;
    let Object(Params { meta: Object(keys) }) = message.params;
    Some(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_its_parent_only_where_it_is_one() {
        let message = br#"{"params":{"_meta":{"traceparent":"00-a-b-01","baggage":"k=v","x":1}}}"#;
        let keys = TraceKeys {
            traceparent: "00-a-b-01".into(),
            tracestate: None,
            baggage: Some("k=v".into()),
        };
        assert_eq!(trace_keys(message), Some(keys));
        for other in [
            "[]",
            r#"{"params":{}}"#,
            r#"{"params":{"traceparent":"00-a-b-01"}}"#,
            r#"{"params":{"_meta":{"traceparent":7}}}"#,
            r#"[{"_meta":{"traceparent":"00-a-b-01"}}]"#,
            r#"{"params":[{"traceparent":"00-a-b-01"}]}"#,
        ] {
            assert_eq!(trace_keys(other.as_bytes()), None, "{other}");
        }
    }
}
