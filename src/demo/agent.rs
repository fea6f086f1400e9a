//! An agent's HTTP: plain to the proxy, by Unix socket or TCP, or straight to the server.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use hyperlocal::UnixConnector;
use rustls::ClientConfig;
use serde_json::Value;
use tokio::time::timeout;

/// Everything here is on this host; what takes this long will not come.
const DEADLINE: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 1024 * 1024;

pub struct Agent {
    origin: String,
    way: Way,
}

enum Way {
    Unix(Client<UnixConnector, Full<Bytes>>, PathBuf),
    Tcp(Client<HttpConnector, Full<Bytes>>),
    Tls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

pub type Header = (&'static str, String);

impl Agent {
    pub fn unix(socket: PathBuf) -> Self {
        let client = Client::builder(TokioExecutor::new()).build(UnixConnector);
        Self {
            origin: "http://localhost".to_owned(),
            way: Way::Unix(client, socket),
        }
    }

    pub fn tcp(address: SocketAddr) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self {
            origin: format!("http://{address}"),
            way: Way::Tcp(client),
        }
    }

    pub fn tls(address: SocketAddr, trust: ClientConfig) -> Self {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(trust)
            .https_only()
            .enable_all_versions()
            .build();
        Self {
            origin: format!("https://{address}"),
            way: Way::Tls(Client::builder(TokioExecutor::new()).build(connector)),
        }
    }

    /// Sends one request and waits for the answer's head.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[Header],
        body: String,
    ) -> Result<Response<Incoming>, String> {
        let uri: Uri = match &self.way {
            Way::Unix(_, socket) => hyperlocal::Uri::new(socket, path).into(),
            _ => format!("{}{path}", self.origin).parse().map_err(words)?,
        };
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).map_err(words)?;
            let name = HeaderName::from_static(name);
            request.headers_mut().append(name, value);
        }
        let answer = async {
            match &self.way {
                Way::Unix(client, _) => {
                    // The URI's own authority is the socket's path in hex, which no guard lets in.
                    let host = HeaderValue::from_static("localhost");
                    request.headers_mut().insert(header::HOST, host);
                    client.request(request).await
                }
                Way::Tcp(client) => client.request(request).await,
                Way::Tls(client) => client.request(request).await,
            }
        };
        within(answer).await
    }
}

/// The whole body, as text.
pub async fn text(answer: Response<Incoming>) -> Result<String, String> {
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect();
    let bytes = within(body).await?.to_bytes();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

pub async fn json(answer: Response<Incoming>) -> Result<Value, String> {
    serde_json::from_str(&text(answer).await?).map_err(words)
}

/// An event stream, message by message, as they arrive.
pub struct Events {
    body: Incoming,
    read: String,
}

impl Events {
    pub fn of(answer: Response<Incoming>) -> Result<Self, String> {
        let kind = answer.headers().get(header::CONTENT_TYPE);
        if !crate::message::is_media_type(kind, "text/event-stream") {
            return Err(format!("an event stream was due, not {kind:?}"));
        }
        Ok(Self {
            body: answer.into_body(),
            read: String::new(),
        })
    }

    /// `None` at the stream's end.
    pub async fn next(&mut self) -> Result<Option<Value>, String> {
        loop {
            while let Some(end) = self.read.find("\n\n") {
                let event: String = self.read.drain(..end + 2).collect();
                // Whatever has no data is a comment or a keep-alive.
                if let Some(data) = event.lines().find_map(|line| line.strip_prefix("data: ")) {
                    return serde_json::from_str(data).map(Some).map_err(words);
                }
            }
            let frame = timeout(DEADLINE, self.body.frame()).await.map_err(words)?;
            let Some(frame) = frame else {
                return Ok(None);
            };
            if let Ok(data) = frame.map_err(words)?.into_data() {
                self.read.push_str(&String::from_utf8_lossy(&data));
            }
            if self.read.len() > MAX_ANSWER {
                return Err("an event is over 1 MiB".to_owned());
            }
        }
    }
}

async fn within<T, E: Display>(what: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match timeout(DEADLINE, what).await {
        Ok(done) => done.map_err(words),
        Err(_) => Err(format!("nothing came within {DEADLINE:?}")),
    }
}

fn words(error: impl Display) -> String {
    error.to_string()
}
