//! A small MCP server of both eras: sessions up to 2025-11-25, self-contained requests from 2026-07-28.

#[cfg(test)]
mod tests;
pub mod version;

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::{StreamExt, stream};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::version::{Fault, LEGACY, MODERN, OLDER, agrees, header, known, result_of, server_info};
use super::reply::{self, Reply, json, text};
use super::tool;

/// Clients may forget to end theirs; the oldest goes then.
const MAX_SESSIONS: usize = 256;

/// Sessions, oldest first; cancelling one ends its streams.
#[derive(Default)]
pub struct Mcp(Mutex<VecDeque<(String, CancellationToken)>>);

impl Mcp {
    pub fn answer(&self, head: &Parts, body: &[u8]) -> Reply {
        let headers = &head.headers;
        let version = header(headers, "mcp-protocol-version");
        let modern = version == Some(MODERN);
        match head.method {
            Method::POST => match serde_json::from_slice::<Value>(body) {
                Ok(message) => self
                    .post(headers, version, &message)
                    .unwrap_or_else(|fault| fail(&message["id"], &fault, modern)),
                Err(_) => {
                    let fault = Fault(-32700, "the body is no JSON".to_owned(), None);
                    fail(&Value::Null, &fault, modern)
                }
            },
            Method::GET if !modern && headers.contains_key("mcp-session-id") => {
                self.stream(headers)
            }
            Method::DELETE if !modern => self.end(headers),
            _ => not_allowed(),
        }
    }

    fn post(
        &self,
        headers: &HeaderMap,
        version: Option<&str>,
        message: &Value,
    ) -> Result<Reply, Fault> {
        let modern = version == Some(MODERN);
        if !message.is_object() {
            let words = "one message at a time, as an object";
            return Err(Fault(-32600, words.to_owned(), None));
        }
        if modern {
            agrees(headers, message)?;
        } else {
            known(version)?;
            if self.session(headers).is_err() {
                return Ok(gone());
            }
        }
        let (id, params) = (&message["id"], &message["params"]);
        match message["method"].as_str() {
            // Notifications, and responses to nothing we asked.
            None => Ok(text(StatusCode::ACCEPTED, "")),
            Some(_) if id.is_null() => Ok(text(StatusCode::ACCEPTED, "")),
            Some("initialize") if !modern => Ok(self.initialize(id, params)),
            Some("tools/call") => tool::call(id, params, modern),
            Some(method) => {
                let result = simple(method, modern)?;
                Ok(json(StatusCode::OK, &result_of(id, result, modern)))
            }
        }
    }

    fn initialize(&self, id: &Value, params: &Value) -> Reply {
        let asked = params["protocolVersion"].as_str().unwrap_or_default();
        let version = OLDER.into_iter().find(|version| *version == asked);
        let result = json!({
            "protocolVersion": version.unwrap_or(LEGACY),
            "capabilities": {"tools": {}, "logging": {}},
            "serverInfo": server_info(),
        });
        let mut reply = json(StatusCode::OK, &result_of(id, result, false));
        let Ok(session) = super::random_hex::<16>() else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "no random numbers");
        };
        if let Ok(value) = HeaderValue::from_str(&session) {
            reply.headers_mut().insert("mcp-session-id", value);
        }
        let mut sessions = self.sessions();
        sessions.push_back((session, CancellationToken::new()));
        if sessions.len() > MAX_SESSIONS
            && let Some((_, oldest)) = sessions.pop_front()
        {
            oldest.cancel();
        }
        reply
    }

    /// The session's own stream: one message at once, then silence until the session ends.
    fn stream(&self, headers: &HeaderMap) -> Reply {
        let Ok(Some(session)) = self.session(headers) else {
            return gone();
        };
        let greeting = reply::event(&json!({
            "jsonrpc": "2.0", "method": "notifications/message",
            "params": {"level": "info", "logger": "demo", "data": "this is the session's own stream"},
        }));
        let events = stream::iter([greeting]).chain(stream::pending());
        reply::events(events.take_until(session.cancelled_owned()))
    }

    fn end(&self, headers: &HeaderMap) -> Reply {
        let Ok(Some(session)) = self.session(headers) else {
            return gone();
        };
        session.cancel();
        self.sessions().retain(|(_, other)| !other.is_cancelled());
        let mut reply = text(StatusCode::NO_CONTENT, "");
        reply.headers_mut().remove(header::CONTENT_TYPE);
        reply
    }

    /// The session a request names; requests without one are served too, for the sake of curl.
    fn session(&self, headers: &HeaderMap) -> Result<Option<CancellationToken>, ()> {
        let Some(named) = header(headers, "mcp-session-id") else {
            return Ok(None);
        };
        let sessions = self.sessions();
        let found = sessions.iter().find(|(id, _)| id == named);
        found.map(|(_, token)| Some(token.clone())).ok_or(())
    }

    fn sessions(&self) -> MutexGuard<'_, VecDeque<(String, CancellationToken)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Requests that need neither session nor arguments.
fn simple(method: &str, modern: bool) -> Result<Value, Fault> {
    Ok(match method {
        "server/discover" if modern => json!({
            "supportedVersions": [MODERN], "capabilities": {"tools": {}},
            "ttlMs": 60_000, "cacheScope": "private",
        }),
        "tools/list" if modern => json!({
            "tools": tool::list(), "ttlMs": 60_000, "cacheScope": "private",
        }),
        "tools/list" => json!({"tools": tool::list()}),
        "ping" | "logging/setLevel" if !modern => json!({}),
        _ => return Err(Fault(-32601, format!("there is no method {method}"), None)),
    })
}

fn fail(id: &Value, fault: &Fault, modern: bool) -> Reply {
    let Fault(code, message, data) = fault;
    let mut error = json!({"code": code, "message": message});
    if let Some(data) = data {
        error["data"] = data.clone();
    }
    let body = json!({"jsonrpc": "2.0", "id": id, "error": error});
    json(fault.status(modern), &body)
}

fn gone() -> Reply {
    text(StatusCode::NOT_FOUND, "there is no such session")
}

fn not_allowed() -> Reply {
    let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, "POST one message");
    let allowed = HeaderValue::from_static("POST");
    reply.headers_mut().insert(header::ALLOW, allowed);
    reply
}
