//! `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, with curl's meaning.

use std::sync::Arc;

use http::uri::Scheme;
use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;

use crate::client::error::{Error, Kind};
use crate::config::Target;

/// The environment's word on proxies, taken once.
#[derive(Clone)]
pub struct ProxyVariables(Arc<Matcher>);

impl ProxyVariables {
    /// `get` reads one environment variable.
    pub fn new(get: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: [&str; 2]| names.into_iter().find_map(&get).unwrap_or_default();
        let exempt = first(["NO_PROXY", "no_proxy"]);
        // The matcher would take the star for any name, but for no address.
        if exempt.trim() == "*" {
            return Self(Arc::new(Matcher::builder().build()));
        }
        Self(Arc::new(
            Matcher::builder()
                .all(first(["ALL_PROXY", "all_proxy"]))
                .https(first(["HTTPS_PROXY", "https_proxy"]))
                .no(exempt)
                .build(),
        ))
    }

    pub fn for_target(&self, target: &Target) -> EnvProxy {
        if target.unix.is_some() || target.scheme != Scheme::HTTPS {
            return EnvProxy(None);
        }
        let uri = Uri::builder()
            .scheme(target.scheme.clone())
            .authority(target.authority.clone())
            .path_and_query("/")
            .build();
        let found = uri.ok().and_then(|uri| self.0.intercept(&uri));
        EnvProxy(found.map(|found| Proxy {
            uri: found.uri().clone(),
            authorization: found.basic_auth().cloned(),
        }))
    }
}

/// The proxy on the way to one upstream, if any.
#[derive(Clone, PartialEq)]
pub struct EnvProxy(pub(super) Option<Proxy>);

#[derive(Clone, PartialEq)]
pub struct Proxy {
    uri: Uri,
    authorization: Option<HeaderValue>,
}

impl EnvProxy {
    /// Host and port, without what the variable says of its user.
    pub fn address(&self) -> Option<(String, u16)> {
        let uri = &self.0.as_ref()?.uri;
        let port = match uri.scheme_str() {
            Some("https") => 443,
            _ => 80,
        };
        let host = uri.host()?.trim_matches(['[', ']']);
        Some((host.to_owned(), uri.port_u16().unwrap_or(port)))
    }
}

impl Proxy {
    pub(super) fn tunnel<C>(&self, connector: C) -> Result<Tunnel<C>, Error> {
        match self.uri.scheme_str() {
            Some("http" | "https") => {}
            scheme => {
                return Err(Error::new(
                    Kind::Unreachable,
                    format!(
                        "the proxy in HTTPS_PROXY or ALL_PROXY uses {}://; only http:// and https:// proxies are supported",
                        scheme.unwrap_or("")
                    ),
                ));
            }
        }
        let tunnel = Tunnel::new(self.uri.clone(), connector);
        Ok(match &self.authorization {
            Some(value) => tunnel.with_auth(value.clone()),
            None => tunnel,
        })
    }
}
