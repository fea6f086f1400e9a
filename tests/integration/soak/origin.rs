//! An upstream that can be stopped and started, and keeps what it must know through that.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::ledger::Ledger;
use crate::common::upstream::{Outcome, event_stream, json as answer_json, unauthorized};
use crate::common::verify::{self, Accepted};
use crate::common::{KEY_ID, body, tls};

/// An agent may still meet a stop this long after the next start: the daemon looks once a second
/// whether an upstream is back.
const AFTERMATH: Duration = Duration::from_secs(5);
pub const EVENT_EVERY: Duration = Duration::from_millis(500);

/// The secrets that are good now: the newest and the one before it.
#[derive(Default, Clone)]
pub struct Secrets(Arc<Mutex<Accepted>>);

impl Secrets {
    pub fn rotate(&self, next: &str) {
        let mut secrets = self.0.lock().unwrap();
        secrets.insert(0, (KEY_ID.to_owned(), next.to_owned()));
        secrets.truncate(2);
    }
}

pub struct Origin {
    port: u16,
    tls: TlsAcceptor,
    shared: Arc<Shared>,
    running: Mutex<Option<JoinHandle<()>>>,
    /// From the beginning of each stop to the start after it.
    outages: Mutex<Vec<(Instant, Option<Instant>)>>,
}

struct Shared {
    ledger: Arc<Ledger>,
    secrets: Secrets,
}

impl Origin {
    pub fn new(alpn: &'static str, ledger: &Arc<Ledger>, secrets: &Secrets) -> Self {
        let tls = tls::Tls {
            alpn: vec![alpn],
            ..tls::Tls::default()
        };
        Self {
            port: free_port(),
            tls: TlsAcceptor::from(tls.server()),
            shared: Arc::new(Shared {
                ledger: Arc::clone(ledger),
                secrets: secrets.clone(),
            }),
            running: Mutex::default(),
            outages: Mutex::default(),
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub async fn start(&self) {
        let listener = loop {
            match TcpListener::bind(("127.0.0.1", self.port)).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        let serving = accept(listener, self.tls.clone(), Arc::clone(&self.shared));
        *self.running.lock().unwrap() = Some(tokio::spawn(serving));
        if let Some((_, end)) = self.outages.lock().unwrap().last_mut() {
            *end = Some(Instant::now());
        }
    }

    /// Cuts all connections, whatever is under way.
    pub async fn stop(&self) {
        self.outages.lock().unwrap().push((Instant::now(), None));
        let running = self.running.lock().unwrap().take();
        if let Some(running) = running {
            running.abort();
            let _ = running.await;
        }
    }

    /// Whether a request since then may have met a stop.
    pub fn was_down_since(&self, began: Instant) -> bool {
        let outages = self.outages.lock().unwrap();
        outages
            .last()
            .is_some_and(|(_, end)| end.is_none_or(|end| end + AFTERMATH >= began))
    }
}

/// Below those that the system gives to connections, so that none takes it while this one is stopped.
fn free_port() -> u16 {
    (0..1000)
        .map(|_| fastrand::u16(20_000..30_000))
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.unwrap();
                stream.set_nodelay(true).unwrap();
                let (tls, shared) = (tls.clone(), Arc::clone(&shared));
                connections.spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let service = service_fn(|request| answer(request, Arc::clone(&shared)));
                    let protocol = auto::Builder::new(TokioExecutor::new());
                    let _ = protocol.serve_connection(TokioIo::new(stream), service).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Outcome {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let accepted = shared.secrets.0.lock().unwrap().clone();
    if let Err(reason) = verify::verify(head.method.as_str(), &path, &head.headers, &accepted) {
        shared.ledger.problem(format!("upstream: {reason}"));
        return Ok(unauthorized("Invalid Signature"));
    }
    let id = || head.uri.query().unwrap_or_default().to_owned();
    match (head.method.as_str(), path.rsplit('/').next()) {
        ("POST", Some("mcp")) => {
            // What never arrives whole is never done.
            let Ok(body) = body.collect().await else {
                return Err(body::Cut);
            };
            message(&body.to_bytes(), &shared).await
        }
        ("POST", Some("upload")) => {
            let Ok(body) = body.collect().await else {
                return Err(body::Cut);
            };
            shared.ledger.done(id().parse().unwrap());
            Ok(answer_json(sum(&body.to_bytes())))
        }
        ("GET", Some("events")) => {
            let last = head.headers.get("last-event-id");
            let last = last.map_or(0, |last| last.to_str().unwrap().parse().unwrap());
            Ok(events(id(), last))
        }
        _ => {
            let mut response = Response::new(body::empty());
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            Ok(response)
        }
    }
}

pub fn sum(body: &[u8]) -> String {
    let digest = Sha256::digest(body);
    json!({ "bytes": body.len(), "first": digest[0], "last": digest[31] }).to_string()
}

/// A call with `events` progress notifications before its result, or a list.
async fn message(bytes: &Bytes, shared: &Shared) -> Outcome {
    let message: Value = serde_json::from_slice(bytes).unwrap();
    let id = message["id"].clone();
    let Some(number) = id.as_u64() else {
        return Ok(answer_json("{}"));
    };
    if message["method"] != "tools/call" {
        return Ok(answer_json(result(number, &message["params"]["cursor"])));
    }
    shared.ledger.done(number);
    let arguments = &message["params"]["arguments"];
    let delay = Duration::from_millis(arguments["delay"].as_u64().unwrap());
    let result = result(number, &arguments["text"]);
    let Some(progress) = arguments["events"].as_u64() else {
        tokio::time::sleep(delay).await;
        return Ok(answer_json(result));
    };
    let (pipe, response) = event_stream();
    tokio::spawn(async move {
        for step in 0..progress {
            pipe.send(format!("event: message\ndata: {{\"step\":{step}}}\n\n"))
                .await;
            tokio::time::sleep(delay).await;
        }
        pipe.send(format!("event: message\ndata: {result}\n\n"))
            .await;
        pipe.end().await;
    });
    Ok(response)
}

fn result(id: u64, text: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "result": { "text": text } }).to_string()
}

/// Numbered events without end, from behind the last one that the client has.
fn events(stream: String, last: u64) -> Response<body::Body> {
    let (pipe, response) = event_stream();
    tokio::spawn(async move {
        for number in last + 1.. {
            let event = format!("id: {number}\ndata: {stream} {number}\n\n");
            if !pipe.send(event).await {
                return;
            }
            tokio::time::sleep(EVENT_EVERY).await;
        }
    });
    response
}
