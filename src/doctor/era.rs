//! What is asked in either era of MCP: without sessions (2026-07-28), and with them (before it).

use http::HeaderName;
use http::uri::PathAndQuery;
use serde_json::{Value, json};

use super::ask::{Answer, Header, Peer, Trouble};
use crate::mcp::mirror::VERSION_KEY;
use crate::mcp::{SESSION_ID, STATELESS_SINCE};

/// The last revision with sessions.
const LEGACY: &str = "2025-11-25";
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");

/// What every server of MCP answers, whatever its revision.
pub async fn discover(peer: &Peer<'_>, path: &PathAndQuery) -> Result<Answer, Trouble> {
    modern(peer, path, "server/discover", json!({})).await
}

/// A request of 2026-07-28, which says in `_meta` who asks.
pub async fn modern(
    peer: &Peer<'_>,
    path: &PathAndQuery,
    method: &str,
    mut params: Value,
) -> Result<Answer, Trouble> {
    params["_meta"] = json!({
        VERSION_KEY: STATELESS_SINCE,
        "io.modelcontextprotocol/clientInfo": client_info(),
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let headers = [
        (VERSION, STATELESS_SINCE.to_owned()),
        (METHOD, method.to_owned()),
    ];
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    peer.post(path, &headers, &message).await
}

pub async fn initialize(peer: &Peer<'_>, path: &PathAndQuery) -> Result<Answer, Trouble> {
    let params =
        json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": client_info()});
    let message = json!({"jsonrpc": "2.0", "id": 2, "method": "initialize", "params": params});
    peer.post(path, &[], &message).await
}

fn client_info() -> Value {
    json!({"name": "mcp-auth-proxy-doctor", "version": env!("CARGO_PKG_VERSION")})
}

/// What `initialize` came to.
pub struct Session {
    pub id: Option<String>,
    pub version: String,
}

impl Session {
    /// For the requests that follow.
    pub fn headers(&self) -> Vec<Header> {
        let mut headers = vec![(VERSION, self.version.clone())];
        headers.extend(self.id.clone().map(|id| (SESSION_ID, id)));
        headers
    }
}
