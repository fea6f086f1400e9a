//! TCP to a name: its addresses tried one after the other, each beside those before it (RFC 8305).

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Uri;
use http::uri::Scheme;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioIo;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::TcpStream;
use tower_service::Service;

use super::resolve::Resolver;

/// How long an address may take before the next is tried beside it (RFC 8305, section 5).
pub const HEAD_START: Duration = Duration::from_millis(250);

/// The silence, in seconds, after which the kernel asks whether the other end is still there.
const KEEPALIVE: u32 = 30;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone, Default)]
pub struct Tcp {
    resolver: Resolver,
}

impl Tcp {
    #[cfg(test)]
    pub fn resolving(resolver: Resolver) -> Self {
        Self { resolver }
    }
}

impl Service<Uri> for Tcp {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.resolver.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let mut resolver = self.resolver.clone();
        Box::pin(async move {
            let is_https = uri.scheme() == Some(&Scheme::HTTPS);
            let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
            let host = uri.host().unwrap_or_default();
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            let addresses = match bare.parse::<IpAddr>() {
                Ok(address) => vec![SocketAddr::new(address, port)],
                Err(_) => {
                    let found = resolver.call(host.parse::<Name>()?).await?;
                    found
                        .map(|address| SocketAddr::new(address.ip(), port))
                        .collect()
                }
            };
            let stream = race(in_turn(addresses)).await?;
            stream.set_nodelay(true)?;
            keep_alive(&stream)?;
            Ok(TokioIo::new(stream))
        })
    }
}

/// The first connection that is there. One that fails lets the next begin at once.
async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        match waiting.next() {
            Some(address) => attempts.push(connect(address)),
            None if attempts.is_empty() => return Err(last),
            None => {}
        }
        let ended = attempts.next();
        let ended = if waiting.len() == 0 {
            ended.await
        } else {
            tokio::time::timeout(HEAD_START, ended).await.ok().flatten()
        };
        match ended {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => last = error,
            None => {}
        }
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let failed = |error: io::Error| io::Error::new(error.kind(), format!("{address}: {error}"));
    TcpStream::connect(address).await.map_err(failed)
}

/// In the system's order, but the families by turns (RFC 8305, section 4).
fn in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let begins_with_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == begins_with_v6);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut all = Vec::with_capacity(one.len() + other.len());
    while one.len() + other.len() > 0 {
        all.extend(one.next());
        all.extend(other.next());
    }
    all
}

fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    #[cfg(target_os = "linux")]
    setsockopt(stream, sockopt::TcpKeepIdle, &KEEPALIVE)?;
    #[cfg(target_os = "macos")]
    setsockopt(stream, sockopt::TcpKeepAlive, &KEEPALIVE)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Instant;
    use tokio::net::{TcpListener, TcpSocket};

    /// An address whose connections are neither accepted nor refused, as in a black hole.
    struct Silent {
        address: SocketAddr,
        _listener: TcpListener,
        _queued: Vec<tokio::task::JoinHandle<io::Result<TcpStream>>>,
    }

    impl Silent {
        async fn at(address: SocketAddr) -> io::Result<Self> {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            socket.bind(address)?;
            let listener = socket.listen(1)?;
            let address = listener.local_addr()?;
            // Nobody accepts: once the queue is full, the kernel lets further ones wait.
            let mut queued = Vec::new();
            loop {
                let mut connecting = tokio::spawn(TcpStream::connect(address));
                let patience = Duration::from_millis(200);
                let is_full = tokio::time::timeout(patience, &mut connecting).await;
                queued.push(connecting);
                if is_full.is_err() {
                    break;
                }
            }
            Ok(Self {
                address,
                _listener: listener,
                _queued: queued,
            })
        }
    }

    async fn answering() -> TcpListener {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
    }

    /// Where a name with these addresses leads to, and how long that takes.
    async fn connected(addresses: &[SocketAddr]) -> (SocketAddr, Duration) {
        let begun = Instant::now();
        let stream = race(in_turn(addresses.to_vec())).await.unwrap();
        (stream.peer_addr().unwrap(), begun.elapsed())
    }

    #[tokio::test]
    async fn a_silent_address_does_not_hold_up_the_next_of_whatever_family() {
        let listener = answering().await;
        let good = listener.local_addr().unwrap();
        for ip in [IpAddr::from([127, 0, 0, 2]), Ipv6Addr::LOCALHOST.into()] {
            let silent = Silent::at((ip, 0).into()).await.unwrap();
            let (peer, took) = connected(&[silent.address, good]).await;
            assert_eq!(peer, good);
            assert!(
                took >= HEAD_START && took < Duration::from_secs(5),
                "{took:?}"
            );
        }
    }

    #[tokio::test]
    async fn an_address_that_refuses_is_followed_by_the_next_at_once() {
        let listener = answering().await;
        let good = listener.local_addr().unwrap();
        let gone = answering().await.local_addr().unwrap();
        let (peer, took) = connected(&[gone, gone, good]).await;
        assert_eq!(peer, good);
        assert!(took < HEAD_START, "{took:?}");
        let error = race(vec![gone, gone]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(race(Vec::new()).await.is_err());
    }

    #[tokio::test]
    async fn a_name_is_resolved_and_its_port_is_the_urls() {
        let listener = answering().await;
        let good = listener.local_addr().unwrap();
        let fixed = Resolver::Fixed(vec![SocketAddr::new(good.ip(), 0)]);
        let uri = format!("http://both.example:{}/", good.port());
        let stream = Tcp::resolving(fixed).call(uri.parse().unwrap()).await;
        assert_eq!(stream.unwrap().inner().peer_addr().unwrap(), good);
    }

    #[test]
    fn families_take_turns_and_the_systems_first_is_first() {
        let address = |text: &str| SocketAddr::new(text.parse().unwrap(), 1);
        let turns = |texts: &[&str]| {
            let all = in_turn(texts.iter().map(|text| address(text)).collect());
            all.into_iter()
                .map(|address| address.ip().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            turns(&["::1", "::2", "::3", "1.1.1.1", "2.2.2.2"]),
            ["::1", "1.1.1.1", "::2", "2.2.2.2", "::3"]
        );
        assert_eq!(turns(&["1.1.1.1", "2.2.2.2"]), ["1.1.1.1", "2.2.2.2"]);
        assert_eq!(turns(&["1.1.1.1", "::1"]), ["1.1.1.1", "::1"]);
    }
}
