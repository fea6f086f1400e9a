//! What is asked for, by path.

use bytes::Bytes;
use serde_json::{Value, json};

use super::Gateway;

/// What a tool answers, about 300 bytes of it.
const RESULT: &[u8] = br#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}]}}"#;
const LARGEST: usize = 16 * 1024 * 1024;
static ZEROS: [u8; LARGEST] = [0; LARGEST];

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Result,
    Bytes(usize),
    Events,
    /// A JSON-RPC request whose id has to come back.
    Rpc,
    Counts,
}

impl Asked {
    pub fn at(path: &str) -> Self {
        if let Some(count) = path.strip_prefix("/bytes/") {
            return Self::Bytes(count.parse().unwrap_or(0).min(LARGEST));
        }
        match path {
            "/events" => Self::Events,
            "/rpc" => Self::Rpc,
            "/counts" => Self::Counts,
            _ => Self::Result,
        }
    }

    /// Status, media type and body of an answer that is no stream.
    pub fn answer(self, gateway: &Gateway, body: &[u8]) -> (u16, &'static str, Bytes) {
        const JSON: &str = "application/json";
        match self {
            Self::Result | Self::Events => (200, JSON, Bytes::from_static(RESULT)),
            Self::Bytes(count) => {
                let zeros = Bytes::from_static(&ZEROS[..count]);
                (200, "application/octet-stream", zeros)
            }
            Self::Counts => (200, JSON, gateway.counts().to_string().into()),
            Self::Rpc => match rpc(body) {
                Some(answer) => (200, JSON, answer.to_string().into()),
                None if body.is_empty() => (405, JSON, Bytes::new()),
                None => (202, JSON, Bytes::new()),
            },
        }
    }
}

/// As much of an MCP server as a bridge needs to be content.
fn rpc(body: &[u8]) -> Option<Value> {
    let request: Value = serde_json::from_slice(body).ok()?;
    let id = request.get("id")?;
    let result = match request["method"].as_str()? {
        "initialize" => json!({
            "protocolVersion": request["params"]["protocolVersion"],
            "capabilities": {},
            "serverInfo": { "name": "origin", "version": "1" },
        }),
        _ => json!({}),
    };
    Some(json!({ "jsonrpc": "2.0", "id": id, "result": result }))
}
