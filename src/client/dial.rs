//! Opening a connection: name, address, proxy, TLS.

mod proxy;
mod resolve;

pub use proxy::{EnvProxy, ProxyVariables};

use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use http::Uri;
use http::uri::{PathAndQuery, Scheme};
use hyper::rt::{Read, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use rustls::HandshakeKind;
use tokio::net::UnixStream;
use tokio::sync::OnceCell;
use tower_service::Service;

use super::error::{Error, Kind};
use super::{Settings, certificate, tls};
use crate::config::{HttpVersion, Tls};
use crate::metrics::{Handshake, UpstreamMetrics};

use self::resolve::Resolver;

/// A connected byte stream: TCP, TLS over TCP, or a Unix socket.
pub type Io = Box<dyn Transport>;

pub trait Transport: Read + Write + Unpin + Send {}
impl<T: Read + Write + Unpin + Send> Transport for T {}

/// What the upstream speaks on new connections, as far as known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Unknown = 0,
    H1 = 1,
    H2 = 2,
}

/// The silence after which the kernel asks whether the other end is still there.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

type Tcp = HttpConnector<Resolver>;
type Proxied = Tunnel<HttpsConnector<Tcp>>;

/// How to reach an upstream. TLS is set up at the first connection, off the event loop.
pub struct Dialer {
    route: Way,
    uri: Uri,
    tls: Arc<Tls>,
    http_version: HttpVersion,
    connect_timeout: Duration,
    connector: OnceCell<Connector>,
    pub metrics: Option<Arc<UpstreamMetrics>>,
    /// Seconds since 1970; 0 until a certificate was seen.
    certificate_expiry: AtomicU64,
}

enum Way {
    Unix(PathBuf),
    Network(EnvProxy),
}

#[derive(Clone)]
enum Connector {
    Clear(Tcp),
    Direct(HttpsConnector<Tcp>),
    Proxied(Box<HttpsConnector<Proxied>>),
}

impl Dialer {
    pub fn new(settings: &Settings) -> Self {
        let target = &settings.target;
        Self {
            route: match &target.unix {
                Some(path) => Way::Unix(path.clone()),
                None => Way::Network(settings.proxy.clone()),
            },
            uri: Uri::builder()
                .scheme(target.scheme.clone())
                .authority(target.authority.clone())
                .path_and_query(PathAndQuery::from_static("/"))
                .build()
                .unwrap_or_default(),
            tls: Arc::clone(&settings.tls),
            http_version: settings.http_version,
            connect_timeout: settings.connect_timeout,
            connector: OnceCell::new(),
            metrics: None,
            certificate_expiry: AtomicU64::new(0),
        }
    }

    /// Connects within `connect_timeout`: name, address, proxy and TLS together.
    pub async fn dial(&self) -> Result<(Io, Protocol), Error> {
        // Boxed: dialling is rare, and its state would sit in every connection's memory.
        let dialling = Box::pin(async {
            match &self.route {
                Way::Unix(path) => self.dial_unix(path).await,
                Way::Network(_) => self.dial_network().await,
            }
        });
        let dialled = tokio::time::timeout(self.connect_timeout, dialling).await;
        if let Ok(Err(error)) = &dialled
            && error.kind == Kind::Tls
        {
            self.handshake(Handshake::Failed);
        }
        dialled.unwrap_or_else(|_| {
            Err(Error::new(
                Kind::ConnectTimeout,
                format!(
                    "no connection within connect_timeout ({:?})",
                    self.connect_timeout
                ),
            ))
        })
    }

    pub async fn prepare(&self) -> Result<(), Error> {
        match self.route {
            Way::Unix(_) => Ok(()),
            Way::Network(_) => self.connector().await.map(drop),
        }
    }

    async fn dial_unix(&self, path: &Path) -> Result<(Io, Protocol), Error> {
        let stream = UnixStream::connect(path).await.map_err(|error| {
            Error::new(Kind::Unreachable, format!("{}: {error}", path.display()))
        })?;
        Ok((Box::new(TokioIo::new(stream)), self.clear_protocol()))
    }

    async fn dial_network(&self) -> Result<(Io, Protocol), Error> {
        match self.connector().await?.clone() {
            Connector::Clear(mut tcp) => {
                let stream = call(&mut tcp, &self.uri).await?;
                Ok((Box::new(stream), self.clear_protocol()))
            }
            Connector::Direct(mut tls) => Ok(self.encrypted(call(&mut tls, &self.uri).await?)),
            Connector::Proxied(mut tls) => Ok(self.encrypted(call(&mut *tls, &self.uri).await?)),
        }
    }

    fn clear_protocol(&self) -> Protocol {
        match self.http_version {
            HttpVersion::Http2 => Protocol::H2,
            _ => Protocol::H1,
        }
    }

    async fn connector(&self) -> Result<&Connector, Error> {
        self.connector.get_or_try_init(|| self.build()).await
    }

    async fn build(&self) -> Result<Connector, Error> {
        let tcp = self.tcp();
        if self.uri.scheme() != Some(&Scheme::HTTPS) {
            return Ok(Connector::Clear(tcp));
        }
        let (tls, version) = (Arc::clone(&self.tls), self.http_version);
        let config = blocking(move || tls::config(&tls, version)).await?;
        let Way::Network(EnvProxy(Some(proxy))) = &self.route else {
            return Ok(Connector::Direct(HttpsConnector::from((tcp, config))));
        };
        let outer = blocking(|| tls::config(&Tls::default(), HttpVersion::Http1)).await?;
        let tunnel = proxy.tunnel(HttpsConnector::from((tcp, outer)))?;
        Ok(Connector::Proxied(Box::new(HttpsConnector::from((
            tunnel, config,
        )))))
    }

    pub fn certificate_expiry(&self) -> Option<SystemTime> {
        let at = self.certificate_expiry.load(Ordering::Relaxed);
        (at != 0).then(|| SystemTime::UNIX_EPOCH + Duration::from_secs(at))
    }

    fn handshake(&self, outcome: Handshake) {
        if let Some(metrics) = &self.metrics {
            metrics.handshake(outcome);
        }
    }

    fn encrypted<T>(&self, stream: MaybeHttpsStream<T>) -> (Io, Protocol)
    where
        T: Read + Write + Unpin + Send + 'static,
    {
        let MaybeHttpsStream::Https(tls) = &stream else {
            return (Box::new(stream), Protocol::H1);
        };
        let session = &tls.inner().get_ref().1;
        let is_h2 = session.alpn_protocol() == Some(b"h2");
        self.handshake(match session.handshake_kind() {
            Some(HandshakeKind::Resumed) => Handshake::Resumed,
            _ => Handshake::Full,
        });
        let shown = session.peer_certificates().and_then(<[_]>::first);
        if let Some(end) = shown.and_then(|first| certificate::not_after(first))
            && let Ok(end) = end.duration_since(SystemTime::UNIX_EPOCH)
        {
            self.certificate_expiry
                .store(end.as_secs(), Ordering::Relaxed);
        }
        let protocol = if is_h2 { Protocol::H2 } else { Protocol::H1 };
        (Box::new(stream), protocol)
    }

    fn tcp(&self) -> Tcp {
        let mut tcp = HttpConnector::new_with_resolver(Resolver::default());
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(TCP_KEEPALIVE));
        tcp.set_connect_timeout(Some(self.connect_timeout));
        tcp
    }
}

async fn call<C>(connector: &mut C, uri: &Uri) -> Result<C::Response, Error>
where
    C: Service<Uri>,
    C::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let ready = std::future::poll_fn(|cx| connector.poll_ready(cx)).await;
    let result = match ready {
        Ok(()) => connector.call(uri.clone()).await,
        Err(error) => Err(error),
    };
    result.map_err(|error| Error::of_connect(&*error.into()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::new(Kind::Tls, error.to_string())))
}
