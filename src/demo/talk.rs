//! One agent talking to one server: requests out, what was signed shown, answers in.

use std::fmt::Display;
use std::time::Instant;

use http::{Method, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::agent::{self, Agent, Header};
use super::mcp::version::{LEGACY, META_CAPABILITIES, META_VERSION, MODERN};
use super::server::{PATH, Server};
use super::story::Story;

pub struct Talk<'a> {
    pub story: &'a Story,
    pub session: Option<String>,
    agent: &'a Agent,
    server: &'a Server,
    modern: bool,
    sent: u64,
    started: Instant,
}

impl<'a> Talk<'a> {
    pub fn new(agent: &'a Agent, server: &'a Server, story: &'a Story, modern: bool) -> Self {
        Self {
            agent,
            server,
            story,
            modern,
            session: None,
            sent: 0,
            started: Instant::now(),
        }
    }

    /// Asks for an answer.
    pub async fn request(
        &mut self,
        method: &str,
        params: Value,
    ) -> Result<Response<Incoming>, String> {
        let mut message =
            json!({"jsonrpc": "2.0", "id": self.sent, "method": method, "params": params});
        if self.modern {
            let meta = &mut message["params"]["_meta"];
            meta[META_VERSION] = MODERN.into();
            meta[META_CAPABILITIES] = json!({});
        }
        self.post(&message).await
    }

    /// Posts one message, mirrored in headers where the era wants it.
    pub async fn post(&mut self, message: &Value) -> Result<Response<Incoming>, String> {
        let mut headers = vec![("content-type", "application/json".to_owned())];
        if self.modern {
            let mirrored = [
                ("mcp-method", &message["method"]),
                ("mcp-name", &message["params"]["name"]),
            ];
            let texts = mirrored
                .into_iter()
                .filter_map(|(name, value)| Some((name, value.as_str()?.to_owned())));
            headers.extend(texts);
            let shown: Vec<_> = headers[1..]
                .iter()
                .map(|(name, value)| format!("{name}: {value}"))
                .collect();
            self.story.detail("headers", shown.join(", "), None);
        }
        self.send(Method::POST, headers, message.to_string()).await
    }

    /// Sends one request and shows what the server verified of it.
    pub async fn send(
        &mut self,
        method: Method,
        mut headers: Vec<Header>,
        body: String,
    ) -> Result<Response<Incoming>, String> {
        self.sent += 1;
        let id = format!("demo-{}", fastrand::u64(..));
        let accept = match method {
            Method::GET => "text/event-stream",
            _ => "application/json, text/event-stream",
        };
        headers.push(("accept", accept.to_owned()));
        headers.push(("x-request-id", id.clone()));
        if self.modern {
            headers.push(("mcp-protocol-version", MODERN.to_owned()));
        } else if let Some(session) = &self.session {
            headers.push(("mcp-protocol-version", LEGACY.to_owned()));
            headers.push(("mcp-session-id", session.clone()));
        }
        self.started = Instant::now();
        let answer = self.agent.send(method, PATH, &headers, body).await?;
        match self.server.signed(&id) {
            Some(signed) => self.story.signed(&signed),
            None => {
                let (status, words) = (answer.status(), agent::text(answer).await?);
                return Err(format!("the server never accepted it: {status} {words}"));
            }
        }
        Ok(answer)
    }

    /// The result in an answer that is one JSON object.
    pub async fn result(&self, answer: Response<Incoming>) -> Result<Value, String> {
        status(&answer, StatusCode::OK)?;
        let mut message = agent::json(answer).await?;
        match message["result"].take() {
            Value::Null => Err(format!("a result was due, not {message}")),
            result => Ok(result),
        }
    }

    /// Sends a request without a body.
    pub async fn bare(&mut self, method: Method) -> Result<Response<Incoming>, String> {
        self.send(method, Vec::new(), String::new()).await
    }

    /// With the time since the request was sent.
    pub fn tell(&self, label: &str, text: impl Display) {
        self.story.detail(label, text, Some(self.started.elapsed()));
    }
}

pub fn status(answer: &Response<Incoming>, due: StatusCode) -> Result<(), String> {
    match answer.status() {
        status if status == due => Ok(()),
        status => Err(format!("the status is {status} and should be {due}")),
    }
}

pub fn expect(what: &str, is: &Value, due: &Value) -> Result<(), String> {
    if is == due {
        return Ok(());
    }
    Err(format!("{what} should be {due} and is {is}"))
}
