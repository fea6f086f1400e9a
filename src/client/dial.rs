//! Opening a connection: name, address, proxy, TLS.

mod proxy;
mod race;
mod resolve;

pub use proxy::{EnvProxy, ProxyVariables};

use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::{PathAndQuery, Scheme};
use hyper::rt::{Read, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::OnceCell;
use tower_service::Service;

use super::error::{Error, Kind};
use super::io::Io;
use super::{Settings, tls};
use crate::config::{HttpVersion, Tls};

use self::race::Tcp;

/// What the upstream speaks on new connections, as far as known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Unknown = 0,
    H1 = 1,
    H2 = 2,
}

type Proxied = Tunnel<HttpsConnector<Tcp>>;

/// How to reach an upstream. TLS is set up at the first connection, off the event loop.
pub struct Dialer {
    route: Way,
    uri: Uri,
    tls: Arc<Tls>,
    http_version: HttpVersion,
    connect_timeout: Duration,
    connector: OnceCell<Connector>,
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
        tokio::time::timeout(self.connect_timeout, dialling)
            .await
            .unwrap_or_else(|_| Err(self.too_late()))
    }

    fn too_late(&self) -> Error {
        let patience = self.connect_timeout;
        Error::new(
            Kind::ConnectTimeout,
            format!("no connection within connect_timeout ({patience:?})"),
        )
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
        Ok((Box::new(stream), self.clear_protocol()))
    }

    async fn dial_network(&self) -> Result<(Io, Protocol), Error> {
        self.open(self.connector().await?.clone()).await
    }

    /// Dials once, with `seen` looking on at the TLS handshake; nothing is kept.
    pub async fn inspect(&self, seen: &Arc<tls::Seen>) -> Result<Protocol, Error> {
        let looking = async {
            let connector = self.build(Some(Arc::clone(seen))).await?;
            self.open(connector).await.map(|(_, protocol)| protocol)
        };
        match &self.route {
            Way::Unix(_) => self.dial().await.map(|(_, protocol)| protocol),
            Way::Network(_) => tokio::time::timeout(self.connect_timeout, looking)
                .await
                .unwrap_or_else(|_| Err(self.too_late())),
        }
    }

    async fn open(&self, connector: Connector) -> Result<(Io, Protocol), Error> {
        match connector {
            Connector::Clear(mut tcp) => {
                let stream = call(&mut tcp, &self.uri).await?;
                Ok((Box::new(stream.into_inner()), self.clear_protocol()))
            }
            Connector::Direct(mut tls) => Ok(encrypted(call(&mut tls, &self.uri).await?)),
            Connector::Proxied(mut tls) => Ok(encrypted(call(&mut *tls, &self.uri).await?)),
        }
    }

    fn clear_protocol(&self) -> Protocol {
        match self.http_version {
            HttpVersion::Http2 => Protocol::H2,
            _ => Protocol::H1,
        }
    }

    async fn connector(&self) -> Result<&Connector, Error> {
        self.connector.get_or_try_init(|| self.build(None)).await
    }

    async fn build(&self, seen: Option<Arc<tls::Seen>>) -> Result<Connector, Error> {
        let tcp = Tcp::default();
        if self.uri.scheme() != Some(&Scheme::HTTPS) {
            return Ok(Connector::Clear(tcp));
        }
        let (tls, version) = (Arc::clone(&self.tls), self.http_version);
        let config = blocking(move || tls::config(&tls, version, seen.as_ref())).await?;
        let Way::Network(EnvProxy(Some(proxy))) = &self.route else {
            return Ok(Connector::Direct(HttpsConnector::from((tcp, config))));
        };
        let outer = blocking(|| tls::config(&Tls::default(), HttpVersion::Http1, None)).await?;
        let tunnel = proxy.tunnel(HttpsConnector::from((tcp, outer)))?;
        Ok(Connector::Proxied(Box::new(HttpsConnector::from((
            tunnel, config,
        )))))
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

fn encrypted<T>(stream: MaybeHttpsStream<T>) -> (Io, Protocol)
where
    T: Read + Write + Unpin + Send + 'static,
{
    let protocol = match &stream {
        MaybeHttpsStream::Https(tls) if tls.inner().get_ref().1.alpn_protocol() == Some(b"h2") => {
            Protocol::H2
        }
        _ => Protocol::H1,
    };
    let io: Io = match stream {
        MaybeHttpsStream::Https(tls) => Box::new(tls.into_inner()),
        MaybeHttpsStream::Http(clear) => Box::new(TokioIo::new(clear)),
    };
    (io, protocol)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::new(Kind::Tls, error.to_string())))
}
