//! Names, resolved by the system for every new connection, so that changes are followed.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower_service::Service;

use crate::client::error::DnsError;

/// The system's resolver, with errors that can be told from connection errors.
#[derive(Clone)]
pub enum Resolver {
    System(GaiResolver),
    /// Knows one answer, whatever it is asked.
    #[cfg(test)]
    Fixed(Vec<SocketAddr>),
}

impl Default for Resolver {
    fn default() -> Self {
        Self::System(GaiResolver::new())
    }
}

type Addresses = std::vec::IntoIter<SocketAddr>;

impl Service<Name> for Resolver {
    type Response = Addresses;
    type Error = DnsError;
    type Future = Pin<Box<dyn Future<Output = Result<Addresses, DnsError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DnsError>> {
        let polled = match self {
            Self::System(system) => system.poll_ready(cx),
            #[cfg(test)]
            Self::Fixed(_) => Poll::Ready(Ok(())),
        };
        polled.map_err(|cause| DnsError {
            host: String::new(),
            cause,
        })
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let host = name.as_str().to_owned();
        let resolving = match self {
            Self::System(system) => system.call(name),
            #[cfg(test)]
            Self::Fixed(addresses) => {
                let addresses = addresses.clone();
                return Box::pin(async move { Ok(addresses.into_iter()) });
            }
        };
        Box::pin(async move {
            let addresses = resolving.await.map_err(|cause| DnsError { host, cause })?;
            Ok(addresses.collect::<Vec<_>>().into_iter())
        })
    }
}
