//! The demo server's tools: `echo` answers at once, `count` while it runs.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::StatusCode;
use serde_json::{Value, json};

use super::mcp::version::{Fault, result_of};
use super::reply::{self, Reply, event};

/// Between two numbers: long enough to be seen, short enough to be waited for.
pub const STEP: Duration = Duration::from_millis(120);
const MAX_COUNT: u64 = 100;

pub fn list() -> Value {
    json!([
        {
            "name": "echo", "description": "Gives back a text",
            "inputSchema": {
                "type": "object", "required": ["text"],
                "properties": {"text": {"type": "string"}},
            },
        },
        {
            "name": "count", "description": "Counts up to a number and reports its progress",
            "inputSchema": {
                "type": "object", "required": ["to"],
                "properties": {"to": {"type": "integer", "minimum": 1, "maximum": MAX_COUNT}},
            },
        },
    ])
}

/// Runs `tools/call`.
///
/// # Errors
/// When there is no such tool; wrong arguments are the tool's own failure.
pub fn call(id: &Value, params: &Value, modern: bool) -> Result<Reply, Fault> {
    let arguments = &params["arguments"];
    let outcome = match params["name"].as_str().unwrap_or_default() {
        "echo" => arguments["text"]
            .as_str()
            .map(said)
            .unwrap_or_else(|| failed("echo wants a text")),
        "count" => match arguments["to"].as_u64() {
            Some(to) if (1..=MAX_COUNT).contains(&to) => {
                let result = result_of(id, said(&format!("counted to {to}")), modern);
                return Ok(count(to, params["_meta"]["progressToken"].clone(), result));
            }
            _ => failed("count wants a number from 1 to 100 as `to`"),
        },
        other => {
            let words = format!("there is no tool {other:?}");
            return Err(Fault(-32602, words, None));
        }
    };
    Ok(reply::json(StatusCode::OK, &result_of(id, outcome, modern)))
}

/// One event a number, then the result. Nothing runs on once the reader is gone.
fn count(to: u64, progress_token: Value, result: Value) -> Reply {
    let numbers = stream::iter(1..=to).then(move |number| {
        let progress = match &progress_token {
            Value::Null => Bytes::from_static(b": counting\n\n"),
            token => event(&json!({
                "jsonrpc": "2.0", "method": "notifications/progress", "params": {
                    "progressToken": token, "progress": number, "total": to,
                    "message": format!("at {number}"),
                },
            })),
        };
        async move {
            tokio::time::sleep(STEP).await;
            progress
        }
    });
    reply::events(numbers.chain(stream::iter([event(&result)])))
}

fn said(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

fn failed(why: &str) -> Value {
    let mut result = said(why);
    result["isError"] = true.into();
    result
}
