//! Who may not come in: browsers, foreign names, and requests that can be read in two ways.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Version};

use crate::config::Listener;
use crate::message;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It breaks HTTP; its framing cannot be trusted.
    Malformed(&'static str),
    ForeignHost,
    ForeignOrigin,
    CrossSite,
}

impl Refused {
    /// For the client: what is wrong, and what to do where it is meant to work.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Malformed(reason) => reason,
            Self::ForeignHost => "the Host is neither a loopback name nor in allowed_hosts",
            Self::ForeignOrigin => {
                "requests from web pages are refused; an origin to trust goes into allowed_origins"
            }
            Self::CrossSite => "requests that a web page of another site makes are refused",
        }
    }
}

/// Whom a listener lets in beside the loopback names.
#[derive(Clone, Copy)]
pub struct Policy<'a> {
    hosts: &'a [String],
    origins: &'a [String],
    /// How pages of this very listener begin.
    own_origin: &'static str,
}

impl<'a> Policy<'a> {
    pub const NONE: Policy<'static> = Policy {
        hosts: &[],
        origins: &[],
        own_origin: "http://",
    };

    pub fn of(listener: &'a Listener) -> Self {
        Self {
            hosts: &listener.allowed_hosts,
            origins: &listener.allowed_origins,
            own_origin: match listener.tls {
                Some(_) => "https://",
                None => "http://",
            },
        }
    }
}

/// Applied to every path of every listener, before anything else is looked at.
///
/// `is_ambiguous`: its body could end in two places, as the connection reads it.
///
/// # Errors
/// The first rule that the request breaks.
pub fn admit(head: &Parts, policy: Policy<'_>, is_ambiguous: bool) -> Result<(), Refused> {
    if head.method == Method::CONNECT {
        return Err(Refused::Malformed(
            "CONNECT is not supported: this is no forward proxy",
        ));
    }
    // Its answer is the request as it arrived, credential included (RFC 9110, section 9.3.8).
    if head.method == Method::TRACE {
        return Err(Refused::Malformed(
            "TRACE is not supported: its answer would show the proxy's credential",
        ));
    }
    // A connection of HTTP/1 has found it in the head that it read.
    let is_framed = head.version < Version::HTTP_2 && !is_ambiguous;
    if !is_framed && let Some(fault) = message::framing_fault(&head.headers) {
        return Err(Refused::Malformed(fault));
    }
    if head.version < Version::HTTP_2 && is_ambiguous {
        return Err(Refused::Malformed("it leaves open where its body ends"));
    }
    host(head, policy)?;
    origin(head, policy)?;
    fetch_site(&head.headers)
}

/// A request's names for this server: all of them must be its own.
fn host(head: &Parts, policy: Policy<'_>) -> Result<(), Refused> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let header = hosts.next();
    if hosts.next().is_some() {
        return Err(Refused::Malformed("the request has several Host headers"));
    }
    let authority = head.uri.authority().map(|authority| authority.as_str());
    if header.is_none() && authority.is_none() {
        return Err(Refused::Malformed("the request has no Host header"));
    }
    let header = header.map(|value| value.to_str().unwrap_or("?"));
    for name in header.into_iter().chain(authority) {
        if !is_own_name(name, policy) {
            return Err(Refused::ForeignHost);
        }
    }
    Ok(())
}

fn is_own_name(authority: &str, policy: Policy<'_>) -> bool {
    let name = without_port(authority);
    if name.eq_ignore_ascii_case("localhost")
        || policy
            .hosts
            .iter()
            .any(|host| host.eq_ignore_ascii_case(name))
    {
        return true;
    }
    match name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
    {
        Some(address) => address
            .parse::<Ipv6Addr>()
            .is_ok_and(|address| address.is_loopback()),
        None => name
            .parse::<Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback()),
    }
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') =>
        {
            name
        }
        _ => authority,
    }
}

/// A page's own origin must be one of ours, or listed.
///
/// Our own is the scheme and the `Host` that was just accepted: only a page that
/// came from this very listener has it, and other ports of this host do not.
fn origin(head: &Parts, policy: Policy<'_>) -> Result<(), Refused> {
    let own_host = head.headers.get(header::HOST).map(HeaderValue::as_bytes);
    let allowed = |origin: &HeaderValue| {
        let origin = origin.as_bytes();
        let is_own = origin
            .strip_prefix(policy.own_origin.as_bytes())
            .zip(own_host)
            .is_some_and(|(origin, host)| origin.eq_ignore_ascii_case(host));
        is_own
            || policy
                .origins
                .iter()
                .any(|allowed| origin.eq_ignore_ascii_case(allowed.as_bytes()))
    };
    if head.headers.get_all(header::ORIGIN).iter().all(allowed) {
        Ok(())
    } else {
        Err(Refused::ForeignOrigin)
    }
}

fn fetch_site(headers: &HeaderMap) -> Result<(), Refused> {
    let foreign = |value: &HeaderValue| {
        let value = value.as_bytes();
        value.eq_ignore_ascii_case(b"cross-site") || value.eq_ignore_ascii_case(b"same-site")
    };
    if headers.get_all(FETCH_SITE).iter().any(foreign) {
        Err(Refused::CrossSite)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(headers: &[(&'static str, &'static str)], policy: Policy<'_>) -> Option<Refused> {
        let mut builder = http::Request::get("/mcp");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let head = builder.body(()).unwrap().into_parts().0;
        host(&head, policy)
            .and_then(|()| origin(&head, policy))
            .and_then(|()| fetch_site(&head.headers))
            .err()
    }

    #[test]
    fn loopback_names_are_our_own_with_and_without_port() {
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1",
            "127.8.9.1:80",
            "[::1]",
            "[::1]:8080",
        ] {
            assert_eq!(verdict(&[("host", host)], Policy::NONE), None, "{host}");
        }
    }

    #[test]
    fn other_names_are_refused_however_they_are_dressed() {
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "0.0.0.0",
            "[::]",
            "::1",
            "localhost@evil.example",
            "",
        ] {
            let verdict = verdict(&[("host", host)], Policy::NONE);
            assert_eq!(verdict, Some(Refused::ForeignHost), "{host}");
        }
    }

    #[test]
    fn a_request_without_or_with_two_hosts_is_malformed() {
        let policy = Policy::NONE;
        assert!(matches!(verdict(&[], policy), Some(Refused::Malformed(_))));
        let two = [("host", "localhost"), ("host", "localhost")];
        assert!(matches!(verdict(&two, policy), Some(Refused::Malformed(_))));
    }

    #[test]
    fn web_pages_are_refused_unless_their_origin_is_ours_or_listed() {
        let from = |origin, policy: Policy<'_>| {
            verdict(&[("host", "localhost"), ("origin", origin)], policy)
        };
        assert_eq!(
            from("http://localhost:3000", Policy::NONE),
            Some(Refused::ForeignOrigin)
        );
        assert_eq!(from("null", Policy::NONE), Some(Refused::ForeignOrigin));
        assert_eq!(from("http://localhost", Policy::NONE), None);
        assert_eq!(
            from("https://localhost", Policy::NONE),
            Some(Refused::ForeignOrigin)
        );
        let origins = ["http://localhost:3000".to_owned()];
        let policy = Policy {
            origins: &origins,
            ..Policy::NONE
        };
        assert_eq!(from("http://localhost:3000", policy), None);
        assert_eq!(
            from("http://localhost:3001", policy),
            Some(Refused::ForeignOrigin)
        );
    }

    #[test]
    fn fetches_from_other_sites_are_refused_and_those_of_the_same_origin_pass() {
        let policy = Policy::NONE;
        let site = |site| verdict(&[("host", "localhost"), ("sec-fetch-site", site)], policy);
        assert_eq!(site("cross-site"), Some(Refused::CrossSite));
        assert_eq!(site("Same-Site"), Some(Refused::CrossSite));
        assert_eq!(site("same-origin"), None);
        assert_eq!(site("none"), None);
    }
}
