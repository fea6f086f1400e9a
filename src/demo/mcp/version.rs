//! What separates the eras: specification 2026-07-28, "Versioning" and "Streamable HTTP".

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

pub const LEGACY: &str = "2025-11-25";
pub const MODERN: &str = "2026-07-28";
pub const OLDER: [&str; 3] = ["2025-06-18", "2025-03-26", "2024-11-05"];
/// The keys of `_meta` that every modern request has.
pub const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
pub const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const META_SERVER: &str = "io.modelcontextprotocol/serverInfo";

/// A JSON-RPC error: code, message, data.
pub struct Fault(pub i32, pub String, pub Option<Value>);

impl Fault {
    /// Until 2026-07-28 an answer with an error was still a good HTTP answer.
    pub fn status(&self, modern: bool) -> StatusCode {
        match (self.0, modern) {
            (-32601, true) => StatusCode::NOT_FOUND,
            (-32601 | -32602, false) => StatusCode::OK,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// A request from before 2026-07-28 may name its version, of those that are served.
pub fn known(version: Option<&str>) -> Result<(), Fault> {
    match version {
        None => Ok(()),
        Some(version) if version == LEGACY || OLDER.contains(&version) => Ok(()),
        Some(version) => Err(Fault(
            -32022,
            "Unsupported protocol version".to_owned(),
            Some(json!({"supported": [MODERN, LEGACY], "requested": version})),
        )),
    }
}

/// A modern request carries its version and capabilities, and mirrors in headers what it asks for.
pub fn agrees(headers: &HeaderMap, message: &Value) -> Result<(), Fault> {
    if message["id"].is_null() {
        return Ok(());
    }
    let meta = &message["params"]["_meta"];
    for key in [META_VERSION, META_CAPABILITIES] {
        if meta[key].is_null() {
            return Err(Fault(-32602, format!("params._meta has no {key}"), None));
        }
    }
    let called = match message["method"].as_str() {
        Some("tools/call") => message["params"]["name"].as_str(),
        _ => None,
    };
    let agreed = [
        (
            "mcp-protocol-version",
            Some(meta[META_VERSION].as_str().unwrap_or_default()),
        ),
        ("mcp-method", message["method"].as_str()),
        ("mcp-name", called),
    ];
    for (name, in_body) in agreed {
        if in_body.is_some() && header(headers, name) != in_body {
            let words = format!("the header {name} is not what the body says");
            return Err(Fault(-32020, words, None));
        }
    }
    Ok(())
}

pub fn result_of(id: &Value, mut result: Value, modern: bool) -> Value {
    if modern {
        result["resultType"] = "complete".into();
        result["_meta"] = json!({META_SERVER: server_info()});
    }
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

pub fn server_info() -> Value {
    json!({"name": "demo", "version": env!("CARGO_PKG_VERSION")})
}

pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
