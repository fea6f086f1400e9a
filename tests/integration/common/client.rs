//! A client of the proxy's: HTTP/1.1 or HTTP/2, over TCP or the Unix socket.
//!
//! It knows which headers an answer may have: one that is not on the list fails any test.

use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

use super::body::{self, Body};
use super::secrets;
use super::tls;
use super::wait::within;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Http {
    One,
    Two,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Tcp(Http),
    Unix(Http),
}

impl Way {
    pub const ALL: [Self; 4] = [
        Self::Tcp(Http::One),
        Self::Tcp(Http::Two),
        Self::Unix(Http::One),
        Self::Unix(Http::Two),
    ];
}

/// What the proxy may put into an answer, and what MCP and the tests' upstream do.
const ALLOWED: [&str; 16] = [
    "allow",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "location",
    "mcp-session-id",
    "retry-after",
    "transfer-encoding",
    "www-authenticate",
    "x-mcp-auth-proxy-attempts",
    "x-mcp-auth-proxy-cache",
    "x-mcp-auth-proxy-error",
    "x-request-id",
];

/// The tests' upstream puts this before the names of headers of its own.
const OF_UPSTREAM: &str = "x-upstream-";

/// One connection.
pub struct Client {
    sender: Sender,
    driver: JoinHandle<()>,
}

enum Sender {
    One(http1::SendRequest<Body>),
    Two(http2::SendRequest<Body>),
}

impl Client {
    pub async fn tcp(address: SocketAddr, http: Http) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::handshake(TokioIo::new(stream), http).await
    }

    pub async fn unix(path: &Path, http: Http) -> Self {
        let stream = UnixStream::connect(path).await.unwrap();
        Self::handshake(TokioIo::new(stream), http).await
    }

    /// Over TLS with `localhost`, with a certificate or without.
    pub async fn tls(
        address: SocketAddr,
        identity: Option<&tls::Identity>,
        http: Http,
    ) -> std::io::Result<Self> {
        let alpn = match http {
            Http::One => "http/1.1",
            Http::Two => "h2",
        };
        let stream = TcpStream::connect(address).await?;
        let connector = tokio_rustls::TlsConnector::from(tls::client(identity, alpn));
        let name = "localhost".try_into().unwrap();
        let stream = connector.connect(name, stream).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()));
        Ok(Self::handshake(TokioIo::new(stream), http).await)
    }

    /// Over a connection that was made already.
    pub async fn over_unix(stream: std::os::unix::net::UnixStream, http: Http) -> Self {
        stream.set_nonblocking(true).unwrap();
        Self::handshake(TokioIo::new(UnixStream::from_std(stream).unwrap()), http).await
    }

    pub async fn over_tcp(stream: std::net::TcpStream, http: Http) -> Self {
        stream.set_nonblocking(true).unwrap();
        Self::handshake(TokioIo::new(TcpStream::from_std(stream).unwrap()), http).await
    }

    async fn handshake<T>(io: T, http: Http) -> Self
    where
        T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        match http {
            Http::One => {
                let (sender, driver) = http1::handshake(io).await.unwrap();
                let driver = tokio::spawn(async move { drop(driver.await) });
                let sender = Sender::One(sender);
                Self { sender, driver }
            }
            Http::Two => {
                let executor = TokioExecutor::new();
                let (sender, driver) = http2::handshake(executor, io).await.unwrap();
                let driver = tokio::spawn(async move { drop(driver.await) });
                let sender = Sender::Two(sender);
                Self { sender, driver }
            }
        }
    }

    /// For another request on the same connection at once; `self` must outlive it.
    pub fn beside(&self) -> Self {
        let Sender::Two(sender) = &self.sender else {
            panic!("HTTP/1.1 has one request at a time");
        };
        Self {
            sender: Sender::Two(sender.clone()),
            driver: tokio::spawn(std::future::ready(())),
        }
    }

    /// The whole answer.
    pub async fn ask(&mut self, ask: Ask) -> Answer {
        self.try_ask(ask).await.expect("a whole answer")
    }

    /// `Err` if it broke off, or never began.
    pub async fn try_ask(&mut self, ask: Ask) -> hyper::Result<Answer> {
        self.try_open(ask).await?.rest().await
    }

    /// The answer's head; its body can be read as it comes.
    pub async fn open(&mut self, ask: Ask) -> Opened {
        self.try_open(ask).await.expect("an answer")
    }

    pub async fn try_open(&mut self, ask: Ask) -> hyper::Result<Opened> {
        let what = format!("an answer to {} {}", ask.method, ask.target);
        within(what, async {
            let response = match &mut self.sender {
                Sender::One(sender) => {
                    sender.ready().await?;
                    sender.send_request(ask.for_h1()).await?
                }
                Sender::Two(sender) => {
                    sender.ready().await?;
                    sender.send_request(ask.for_h2()).await?
                }
            };
            Ok(Opened::new(response))
        })
        .await
    }

    /// Whether the proxy has closed the connection, or asked to.
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::One(sender) => sender.is_closed(),
            Sender::Two(sender) => sender.is_closed(),
        }
    }

    /// Waits until the proxy closes the connection.
    pub async fn closed(&mut self) {
        within("the connection was closed", &mut self.driver)
            .await
            .unwrap();
    }

    /// Closes the connection at once, whatever is under way.
    pub fn leave(self) {
        self.driver.abort();
    }
}

/// A request to be sent.
pub struct Ask {
    method: String,
    target: String,
    host: Option<String>,
    headers: Vec<(String, String)>,
    body: Body,
}

impl Ask {
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            host: Some("localhost".to_owned()),
            headers: Vec::new(),
            body: body::empty(),
        }
    }

    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// As MCP clients post: JSON, and either kind of answer will do.
    pub fn post(target: &str, json: impl Into<Bytes>) -> Self {
        Self::new("POST", target)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(body::full(json))
    }

    /// As MCP clients ask for their standalone event stream.
    pub fn events(target: &str) -> Self {
        Self::get(target).header("accept", "text/event-stream")
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    fn for_h1(self) -> Request<Body> {
        let mut builder = Request::builder()
            .method(self.method.as_str())
            .uri(&self.target);
        if let Some(host) = &self.host {
            builder = builder.header("host", host);
        }
        self.finish(builder)
    }

    fn for_h2(self) -> Request<Body> {
        let host = self.host.as_deref().unwrap_or("localhost");
        let builder = Request::builder()
            .method(self.method.as_str())
            .uri(format!("http://{host}{}", self.target));
        self.finish(builder)
    }

    fn finish(self, mut builder: http::request::Builder) -> Request<Body> {
        for (name, value) in &self.headers {
            builder = builder.header(name, value);
        }
        builder.body(self.body).unwrap()
    }
}

/// An answer whose body is still to come.
pub struct Opened {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Incoming,
}

impl Opened {
    fn new(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        for name in head.headers.keys().map(http::HeaderName::as_str) {
            let known = ALLOWED.contains(&name) || name.starts_with(OF_UPSTREAM);
            assert!(known, "unexpected header {name} in {:?}", head.headers);
        }
        Self {
            status: head.status,
            headers: head.headers,
            body,
        }
    }

    /// The next piece of the body; `None` at its clean end, `Err` if it broke off.
    pub async fn piece(&mut self) -> Option<hyper::Result<Bytes>> {
        let frame = within("more of the answer, or its end", self.body.frame()).await?;
        Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
    }

    /// Reads until `text` has come.
    pub async fn until(&mut self, text: &str) -> String {
        let mut read = String::new();
        while !read.contains(text) {
            let piece = self.piece().await;
            let piece = piece.unwrap_or_else(|| panic!("ended after {read:?}, without {text:?}"));
            read.push_str(std::str::from_utf8(&piece.expect("no break")).unwrap());
        }
        read
    }

    pub async fn rest(mut self) -> hyper::Result<Answer> {
        let body = within("the rest of the answer", (&mut self.body).collect()).await?;
        Ok(Answer::new(self.status, self.headers, body.to_bytes()))
    }

    /// How the body ends: how many bytes came, and whether it broke off.
    pub async fn end(mut self) -> (u64, hyper::Result<()>) {
        let mut bytes = 0;
        loop {
            match self.piece().await {
                None => return (bytes, Ok(())),
                Some(Ok(piece)) => bytes += piece.len() as u64,
                Some(Err(error)) => return (bytes, Err(error)),
            }
        }
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    fn new(status: StatusCode, headers: HeaderMap, body: Bytes) -> Self {
        let answer = Self {
            status,
            headers,
            body,
        };
        if answer.code().is_some() {
            // What the upstream says is its own business; what we say is ours.
            secrets::assert_none("an answer of the proxy's own", &format!("{answer:?}"));
        }
        answer
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The only value of a header.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?.to_str().unwrap();
        assert!(values.next().is_none(), "several {name}: {self:?}");
        Some(value)
    }

    /// The code of an answer that is the proxy's own.
    pub fn code(&self) -> Option<&str> {
        self.header("x-mcp-auth-proxy-error")
    }

    /// Asserts that this is the proxy's own refusal, in one of its two forms, and complete.
    #[track_caller]
    pub fn assert_refused(&self, status: u16, code: &str) {
        assert_eq!(
            (self.status.as_u16(), self.code()),
            (status, Some(code)),
            "{self:?}"
        );
        let page = self.json();
        let first = if page.is_array() { &page[0] } else { &page };
        let is_json_rpc = first["jsonrpc"] == "2.0";
        let (sentence, data) = if is_json_rpc {
            assert_eq!(self.header("content-type"), Some("application/json"));
            (&first["error"]["message"], &first["error"]["data"])
        } else {
            assert_eq!(
                self.header("content-type"),
                Some("application/problem+json")
            );
            (&first["detail"], first)
        };
        assert!(
            sentence.as_str().is_some_and(|text| text.len() > 20),
            "{self:?}"
        );
        assert_eq!(data["code"], code);
        assert_eq!(data["status"], status);
        assert_eq!(data["request_id"].as_str(), self.header("x-request-id"));
        assert_eq!(self.header("cache-control"), Some("no-store"));
        assert_eq!(self.header("www-authenticate"), None);
    }
}
