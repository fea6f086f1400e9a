//! Connections to one upstream: dialled, pooled per worker, and used one exchange at a time.
//!
//! Every worker thread has a pool of its own, so that a request never crosses
//! threads. An HTTP/1.1 connection is driven by the task that uses it (no task
//! of its own, no wake-up between two); an HTTP/2 connection is shared by its
//! worker's requests and driven by a task on that worker.
//!
//! A client outlives a reload that does not change its settings, and its
//! connections with it.

mod body;
mod dial;
mod error;
pub(crate) mod h1;
mod h2;
mod io;
mod pool;
mod tls;

pub use body::Body;
pub use error::{Broken, Failure, Kind};
pub use tls::{Shown, trust_directories};

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderValue, Request, Response, Uri, header};

use crate::config::{HttpVersion, Target, Tls, Upstream};
use crate::message::RequestBody;
use crate::metrics::UpstreamMetrics;
use crate::worker;

use self::dial::{Dialer, EnvProxy, Protocol};
use self::error::Error;
use self::pool::{Pool, Spoken};

/// Everything that makes two upstreams' connections interchangeable.
#[derive(PartialEq)]
struct Settings {
    target: Target,
    tls: Arc<Tls>,
    http_version: HttpVersion,
    connect_timeout: Duration,
    max_connection_age: Duration,
    proxy: EnvProxy,
}

/// The way to one upstream.
pub struct Client {
    settings: Settings,
    /// The authority as `Host` says it.
    host: Option<HeaderValue>,
    dialer: Dialer,
    pools: Box<[Arc<Pool>]>,
}

/// Environment variables that name a proxy, as curl reads them.
pub use self::dial::ProxyVariables;

impl Client {
    pub fn new(upstream: &Upstream, proxies: &ProxyVariables) -> Self {
        let settings = Settings::of(upstream, proxies);
        let spoken = Arc::new(Spoken::new(settings.http_version));
        Self {
            host: settings.target.authority.as_str().parse().ok(),
            dialer: Dialer::new(&settings),
            pools: (0..worker::slots())
                .map(|_| Pool::new(Arc::clone(&spoken), settings.max_connection_age))
                .collect(),
            settings,
        }
    }

    /// Counts its TLS handshakes there.
    pub fn counted_in(mut self, metrics: &Arc<UpstreamMetrics>) -> Self {
        self.dialer.metrics = Some(Arc::clone(metrics));
        self
    }

    /// When the certificate ends that the upstream showed last; `None` before the first, or without TLS.
    pub fn certificate_expiry(&self) -> Option<SystemTime> {
        self.dialer.certificate_expiry()
    }

    /// Whether this client's connections are what `upstream` asks for.
    pub fn fits(&self, upstream: &Upstream, proxies: &ProxyVariables) -> bool {
        self.settings == Settings::of(upstream, proxies)
    }

    /// Sends a request and waits for the response's head.
    ///
    /// `sign` is called for each connection the request is tried on, once that is there: a
    /// signature carries the time. Another is tried only if nothing left by the one before.
    ///
    /// The URI's path and query go out as they are; authority and framing are
    /// added here. The caller sets the deadline: dropping the future, or later
    /// the body, ends the exchange at the upstream.
    ///
    /// The request stays with the caller, for another attempt: signed, and without its body if
    /// that is a stream which may have left.
    ///
    /// # Errors
    /// A [`Failure`], which says so if the request certainly never left.
    pub async fn send(
        &self,
        request: &mut Request<RequestBody>,
        mut sign: impl FnMut(&mut Request<RequestBody>),
    ) -> Result<Response<Body>, Box<Failure>> {
        let pool = &self.pools[worker::slot()];
        loop {
            match self.acquire(pool).await {
                Err(error) => return Err(Box::new(Failure::unsent(error))),
                Ok(Ready::H1(connection)) => {
                    let reused = connection.reused;
                    sign(request);
                    self.for_h1(request);
                    match h1::exchange(connection, request).await {
                        Ok(response) => return Ok(response.map(|body| Body::of_h1(body, pool))),
                        // It died in the pool: another will do, and nothing was lost.
                        Err(failure) if reused && failure.unsent => {}
                        Err(failure) => return Err(failure),
                    }
                }
                Ok(Ready::H2(stream)) => {
                    let reused = stream.reused;
                    sign(request);
                    self.for_h2(request);
                    match h2::exchange(stream, request).await {
                        Ok(response) => return Ok(response.map(Body::of_h2)),
                        Err(failure) if reused && failure.unsent => {}
                        Err(failure) => return Err(failure),
                    }
                }
            }
        }
    }

    /// Opens a connection, and leaves it in a pool that has none.
    ///
    /// # Errors
    /// A [`Failure`] that says what stands in the way.
    pub async fn probe(&self) -> Result<(), Box<Failure>> {
        let pool = &self.pools[worker::slot()];
        self.look(pool)
            .await
            .map_err(|error| Box::new(Failure::from(error)))
    }

    async fn look(&self, pool: &Arc<Pool>) -> Result<(), Error> {
        let (io, protocol) = self.dialer.dial().await?;
        pool.set_protocol(protocol);
        // Kept every time, they would pile up with each look and each reload.
        let is_wanted = pool.is_empty();
        match protocol {
            Protocol::H2 => {
                let connection = h2::handshake(io).await?;
                if is_wanted {
                    pool.add_h2(connection);
                }
            }
            _ => {
                let connection = Box::new(h1::Connection::new(io));
                if is_wanted {
                    pool.put_h1(connection);
                }
            }
        }
        Ok(())
    }

    /// Opens a connection as [`Client::probe`] does, keeps nothing, and tells what TLS showed.
    pub async fn inspect(&self) -> Inspection {
        let seen = Arc::default();
        let outcome = self.dialer.inspect(&seen).await;
        Inspection {
            shown: seen.shown(),
            is_h2: outcome
                .map(|protocol| protocol == Protocol::H2)
                .map_err(|error| Box::new(Failure::from(error))),
        }
    }

    /// Host and port of the proxy on the way, if the environment names one.
    pub fn proxy(&self) -> Option<(String, u16)> {
        self.settings.proxy.address()
    }

    /// Prepares what the first connection would have to wait for: certificates and trust roots.
    ///
    /// # Errors
    /// A [`Failure`] when TLS cannot work as configured.
    pub async fn warm_up(&self) -> Result<(), Box<Failure>> {
        self.dialer
            .prepare()
            .await
            .map_err(|error| Box::new(Failure::from(error)))
    }

    async fn acquire(&self, pool: &Arc<Pool>) -> Result<Ready, Error> {
        if let Some(connection) = pool.take_h1().await {
            return Ok(Ready::H1(connection));
        }
        if let Some(stream) = pool.open_stream() {
            return Ok(Ready::H2(stream));
        }
        if pool.protocol() == Protocol::H1 {
            return self.connect(pool).await;
        }
        // A shared connection is dialled once, however many requests wait for it.
        let turn = pool.dialling.acquire().await;
        if let Some(stream) = pool.open_stream() {
            return Ok(Ready::H2(stream));
        }
        if pool.protocol() == Protocol::H1 {
            // Learned meanwhile: there is nothing to share, and nothing to wait for.
            drop(turn);
        }
        self.connect(pool).await
    }

    async fn connect(&self, pool: &Arc<Pool>) -> Result<Ready, Error> {
        let (io, protocol) = self.dialer.dial().await?;
        pool.set_protocol(protocol);
        match protocol {
            Protocol::H2 => Ok(Ready::H2(pool.add_h2(h2::handshake(io).await?))),
            _ => Ok(Ready::H1(Box::new(h1::Connection::new(io)))),
        }
    }

    fn for_h1(&self, request: &mut Request<RequestBody>) {
        if let Some(host) = &self.host {
            request.headers_mut().insert(header::HOST, host.clone());
        }
        if request.uri().scheme().is_some() {
            let path = request.uri().path_and_query().cloned();
            *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
        }
    }

    fn for_h2(&self, request: &mut Request<RequestBody>) {
        request.headers_mut().remove(header::HOST);
        let mut parts = request.uri().clone().into_parts();
        parts.scheme = Some(self.settings.target.scheme.clone());
        parts.authority = Some(self.settings.target.authority.clone());
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        *request.version_mut() = http::Version::HTTP_2;
    }
}

impl Settings {
    fn of(upstream: &Upstream, proxies: &ProxyVariables) -> Self {
        Self {
            target: upstream.target.clone(),
            tls: Arc::clone(&upstream.tls),
            http_version: upstream.http_version,
            connect_timeout: upstream.connect_timeout,
            max_connection_age: upstream.max_connection_age,
            proxy: proxies.for_target(&upstream.target),
        }
    }
}

/// What a look at an upstream's TLS showed.
pub struct Inspection {
    pub shown: Shown,
    /// Whether HTTP/2 was agreed on, or what stood in the way.
    pub is_h2: Result<bool, Box<Failure>>,
}

/// A connection that can take a request now.
enum Ready {
    H1(Box<h1::Connection>),
    H2(h2::Stream),
}
