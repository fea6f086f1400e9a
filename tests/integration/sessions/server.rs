//! A server with sessions, which it can be made to forget.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use http::Response;
use serde_json::{Value, json};

use crate::common::journal::Journal;
use crate::common::upstream::{event_stream, json as json_answer};
use crate::common::{Answer, Ask, Call, Daemon, Outcome, Pipe, Upstream, body};

pub const VERSION: &str = "2025-11-25";

#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    /// JSON-RPC methods in order, and `GET` and `DELETE`, each with the session it was made in.
    asked: Journal<(String, String)>,
    pipes: Arc<Journal<Pipe>>,
}

struct State {
    open: HashSet<String>,
    opened: usize,
    prefix: &'static str,
    capabilities: Value,
    answers_in_events: bool,
    initialize_fails: Option<u16>,
    names_session: bool,
    /// How it says that it does not know a session.
    gone: (u16, &'static str),
}

impl Server {
    pub fn at(upstream: &Upstream, path: &str) -> Self {
        Self::named(upstream, path, "s")
    }

    /// Its sessions' ids begin with `prefix`.
    pub fn named(upstream: &Upstream, path: &str, prefix: &'static str) -> Self {
        let server = Self(Arc::new(Inner {
            state: Mutex::new(State {
                open: HashSet::new(),
                opened: 0,
                prefix,
                capabilities: json!({ "tools": {} }),
                answers_in_events: false,
                initialize_fails: None,
                names_session: true,
                gone: (404, "Session not found"),
            }),
            asked: Journal::default(),
            pipes: Arc::default(),
        }));
        let of_handler = server.clone();
        upstream.at(path, move |call| {
            let server = of_handler.clone();
            async move { server.answer(call).await }
        });
        server
    }

    pub fn forget(&self) {
        self.state().open.clear();
    }

    pub fn is_capable_of(&self, capabilities: Value) {
        self.state().capabilities = capabilities;
    }

    pub fn answers_in_events(&self) {
        self.state().answers_in_events = true;
    }

    pub fn initialize_fails(&self, status: Option<u16>) {
        self.state().initialize_fails = status;
    }

    pub fn says_of_forgotten(&self, status: u16, words: &'static str) {
        self.state().gone = (status, words);
    }

    pub fn names_no_session(&self) {
        self.state().names_session = false;
    }

    /// How often this was asked, in whatever session.
    pub fn count(&self, method: &str) -> usize {
        let asked = self.0.asked.all();
        asked.iter().filter(|(asked, _)| asked == method).count()
    }

    /// All that was asked in a session, in order.
    pub fn asked_in(&self, session: &str) -> Vec<String> {
        let asked = self.0.asked.all();
        let within = asked.into_iter().filter(|(_, within)| within == session);
        within.map(|(method, _)| method).collect()
    }

    /// The writing ends of its GET streams.
    pub fn pipes(&self) -> &Journal<Pipe> {
        &self.0.pipes
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    async fn answer(&self, mut call: Call) -> Outcome {
        let session = call.seen.header("mcp-session-id").unwrap_or("").to_owned();
        let message = match call.seen.method.as_str() {
            "POST" => serde_json::from_slice(&call.read().await?).unwrap(),
            _ => Value::Null,
        };
        let method = message["method"].as_str();
        if method == Some("initialize") {
            assert_eq!(call.seen.header("accept-encoding"), None);
            self.0.asked.push(("initialize".to_owned(), session));
            return Ok(self.initialize(&message));
        }
        if !self.state().open.contains(&session) {
            let (status, words) = self.state().gone;
            return Ok(plain(status, words));
        }
        let asked = method.unwrap_or(&call.seen.method).to_owned();
        self.0.asked.push((asked, session.clone()));
        Ok(match (call.seen.method.as_str(), method) {
            ("DELETE", _) => {
                self.state().open.remove(&session);
                plain(200, "")
            }
            ("GET", _) => {
                let (pipe, response) = event_stream();
                self.0.pipes.push(pipe);
                response
            }
            (_, Some(method)) if message.get("id").is_some() => {
                let result = json!({ "said": method, "in": session });
                let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
                let mut response = json_answer(answer.to_string());
                let headers = response.headers_mut();
                headers.insert("mcp-session-id", session.parse().unwrap());
                response
            }
            _ => plain(202, ""),
        })
    }

    fn initialize(&self, message: &Value) -> Response<body::Body> {
        let mut state = self.state();
        if let Some(status) = state.initialize_fails {
            return plain(status, "not now");
        }
        state.opened += 1;
        let id = format!("{}{}", state.prefix, state.opened);
        state.open.insert(id.clone());
        let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "result": {
            "protocolVersion": VERSION,
            "capabilities": state.capabilities,
            "serverInfo": { "name": "server", "version": state.opened.to_string() },
        }});
        let mut response = if state.answers_in_events {
            let stream = format!("id: 1\ndata:\n\nevent: message\ndata: {answer}\n\n");
            let mut response = Response::new(body::full(stream));
            let media_type = "text/event-stream".parse().unwrap();
            response.headers_mut().insert("content-type", media_type);
            response
        } else {
            json_answer(answer.to_string())
        };
        if state.names_session {
            let headers = response.headers_mut();
            headers.insert("mcp-session-id", id.parse().unwrap());
        }
        response
    }
}

fn plain(status: u16, text: &'static str) -> Response<body::Body> {
    let builder = Response::builder().status(status);
    builder.body(body::full(text)).unwrap()
}

/// As a client opens its session; its id.
pub async fn open(daemon: &Daemon, path: &str) -> String {
    let opened = daemon.ask(initialize(path)).await;
    assert_eq!(opened.status, 200, "{opened:?}");
    assert_eq!(
        opened.json_in_either_form()["result"]["protocolVersion"],
        VERSION
    );
    let id = opened.header("mcp-session-id").unwrap().to_owned();
    let ready = notification(path, &id, "notifications/initialized");
    assert_eq!(daemon.ask(ready).await.status, 202);
    id
}

pub fn initialize(path: &str) -> Ask {
    let params = json!({ "protocolVersion": VERSION, "capabilities": {}, "clientInfo": { "name": "c", "version": "1" } });
    let message = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params });
    Ask::post(path, message.to_string()).header("accept-encoding", "gzip")
}

pub fn request(path: &str, session: &str, id: u32, method: &str) -> Ask {
    let message = json!({ "jsonrpc": "2.0", "id": id, "method": method });
    within(Ask::post(path, message.to_string()), session)
}

pub fn notification(path: &str, session: &str, method: &str) -> Ask {
    let message = json!({ "jsonrpc": "2.0", "method": method });
    within(Ask::post(path, message.to_string()), session)
}

pub fn within(ask: Ask, session: &str) -> Ask {
    ask.header("mcp-session-id", session)
        .header("mcp-protocol-version", VERSION)
}

trait EitherForm {
    fn json_in_either_form(&self) -> Value;
}

impl EitherForm for Answer {
    fn json_in_either_form(&self) -> Value {
        let text = self.text();
        let message = text.lines().find_map(|line| line.strip_prefix("data: {"));
        let message = message.map_or(text.to_owned(), |message| format!("{{{message}"));
        serde_json::from_str(&message).unwrap()
    }
}
