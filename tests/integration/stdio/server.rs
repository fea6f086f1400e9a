//! An MCP server of few words: sessions that it can forget, calls that hang or break off.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Response};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::common::journal::Journal;
use crate::common::{Call, Outcome, Upstream, body, within};

/// Shared between a test and the upstream that answers with it.
#[derive(Clone, Default)]
pub struct Server(Arc<Shared>);

#[derive(Default)]
struct Shared {
    posts: Journal<Post>,
    executed: Journal<String>,
    ended: Journal<String>,
    state: Mutex<State>,
    hanging: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    sessions: HashSet<String>,
    opened: usize,
    refuses: bool,
    hangs_on_opening: bool,
    answers: HashMap<String, Value>,
    hangs: HashSet<String>,
    /// Methods whose stream is cut before the answer, and the id of the event sent first.
    cuts: HashMap<String, Option<String>>,
    /// The request whose stream was cut.
    cut: Option<String>,
    resumes_nothing: bool,
    resumes_in_silence: bool,
}

/// A message that arrived.
#[derive(Clone)]
pub struct Post {
    pub headers: HeaderMap,
    pub body: Bytes,
}

#[derive(serde::Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(default)]
    method: String,
}

impl Post {
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    }

    pub fn method(&self) -> String {
        serde_json::from_slice::<Message<'_>>(&self.body)
            .unwrap()
            .method
    }

    fn is_modern(&self) -> bool {
        self.header("mcp-protocol-version")
            .is_some_and(|version| *version >= *"2026-07-28")
    }
}

/// Counts a call that hangs for as long as somebody waits for it.
struct Hanging(Arc<Shared>);

impl Drop for Hanging {
    fn drop(&mut self) {
        self.0.hanging.send_modify(|count| *count -= 1);
    }
}

impl Server {
    pub fn at(upstream: &Upstream, path: &str) -> Self {
        let server = Self::default();
        let answering = server.clone();
        upstream.at(path, move |call| {
            let server = answering.clone();
            async move { server.respond(call).await }
        });
        server
    }

    pub fn answer(&self, method: &str, result: Value) {
        self.state().answers.insert(method.to_owned(), result);
    }

    pub fn hang(&self, method: &str) {
        self.state().hangs.insert(method.to_owned());
    }

    pub fn cut(&self, method: &str, event_id: Option<&str>) {
        self.state()
            .cuts
            .insert(method.to_owned(), event_id.map(str::to_owned));
    }

    pub fn resume_nothing(&self) {
        self.state().resumes_nothing = true;
    }

    /// Takes every attempt to resume, and says nothing.
    pub fn resume_in_silence(&self) {
        self.state().resumes_in_silence = true;
    }

    pub fn forget_sessions(&self) {
        self.state().sessions.clear();
    }

    /// Every `initialize` from now on is left without an answer.
    pub fn hang_on_opening(&self) {
        self.state().hangs_on_opening = true;
    }

    pub fn refuse_sessions(&self) {
        self.state().refuses = true;
    }

    pub fn posts(&self) -> Vec<Post> {
        self.0.posts.all()
    }

    /// How many messages of a method arrived.
    pub fn count(&self, method: &str) -> usize {
        self.posts()
            .iter()
            .filter(|post| post.method() == method)
            .count()
    }

    pub async fn posted(&self, method: &str) {
        self.0
            .posts
            .find(format!("a POST of {method}"), |post| {
                post.method() == method
            })
            .await;
    }

    /// The ids of the calls that were carried out.
    pub fn executed(&self) -> Vec<String> {
        self.0.executed.all()
    }

    /// The sessions that were ended.
    pub fn ended(&self) -> Vec<String> {
        self.0.ended.all()
    }

    /// Waits until so many calls hang.
    pub async fn hanging(&self, count: usize) {
        let mut hanging = self.0.hanging.subscribe();
        let waiting = hanging.wait_for(|now| *now == count);
        within(format!("{count} calls hang"), waiting)
            .await
            .unwrap();
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    async fn respond(&self, mut call: Call) -> Outcome {
        let headers = call.seen.headers.clone();
        match call.seen.method.as_str() {
            "GET" => return Ok(self.resume(&headers)),
            "DELETE" => {
                let session = headers["mcp-session-id"].to_str().unwrap().to_owned();
                self.0.ended.push(session);
                return Ok(Response::new(body::empty()));
            }
            _ => {}
        }
        let body = call.read().await?;
        let post = Post { headers, body };
        self.0.posts.push(post.clone());
        self.take(&post).await
    }

    async fn take(&self, post: &Post) -> Outcome {
        let message: Message<'_> = serde_json::from_slice(&post.body).unwrap();
        let method = &*message.method;
        if method == "initialize" && self.state().hangs_on_opening {
            std::future::pending::<()>().await;
        }
        if method == "initialize" {
            return Ok(self.open(message.id.unwrap()));
        }
        let session = post.header("mcp-session-id");
        let is_known = session.is_some_and(|session| self.state().sessions.contains(&session));
        if !is_known && !post.is_modern() {
            return Ok(status(404));
        }
        if self.state().hangs.contains(method) {
            self.0.hanging.send_modify(|count| *count += 1);
            let _hanging = Hanging(Arc::clone(&self.0));
            std::future::pending::<()>().await;
        }
        let Some(id) = message.id.map(RawValue::get) else {
            return Ok(status(202));
        };
        let cut = self.state().cuts.get(method).cloned();
        if let Some(event_id) = cut {
            self.state().cut = Some(id.to_owned());
            return Ok(events(event_id.map_or(String::new(), |id| {
                format!("retry: 10\nid: {id}\ndata:\n\n")
            })));
        }
        self.0.executed.push(id.to_owned());
        let result = self
            .state()
            .answers
            .get(method)
            .cloned()
            .unwrap_or(json!({}));
        Ok(json_rpc(id, &result))
    }

    fn open(&self, id: &RawValue) -> Response<body::Body> {
        let mut state = self.state();
        if state.refuses {
            return status(500);
        }
        state.opened += 1;
        let session = format!("session-{}", state.opened);
        state.sessions.insert(session.clone());
        let result = json!({
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "serverInfo": { "name": "few words", "version": "1" },
        });
        let mut response = json_rpc(id.get(), &result);
        response
            .headers_mut()
            .insert("mcp-session-id", session.parse().unwrap());
        response
    }

    /// A GET with an event's id gets the answer that was cut off; one without gets no stream.
    fn resume(&self, headers: &HeaderMap) -> Response<body::Body> {
        let last = headers.get("last-event-id").map(|id| id.to_str().unwrap());
        let mut state = self.state();
        if last.is_some() && state.resumes_in_silence {
            return events(String::new());
        }
        let last = last.filter(|_| !state.resumes_nothing);
        let cut = last.and_then(|_| state.cut.take());
        match (last, cut) {
            (Some(last), Some(id)) => events(format!(
                "data: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"text\":\"resumed after {last}\"}}}}\n\n"
            )),
            _ => status(405),
        }
    }
}

fn status(code: u16) -> Response<body::Body> {
    Response::builder()
        .status(code)
        .body(body::empty())
        .unwrap()
}

fn json_rpc(id: &str, result: &Value) -> Response<body::Body> {
    let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
    Response::builder()
        .header("content-type", "application/json")
        .body(body::full(answer))
        .unwrap()
}

fn events(text: String) -> Response<body::Body> {
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(body::full(text))
        .unwrap()
}
