//! Who may not come in: browsers, foreign names, and requests that can be read in two ways.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Version};

use super::error::{Code, Error};
use super::Call;
use crate::config::Listener;
use crate::message::BodyError;

/// Whom a listener lets in beside the loopback names.
#[derive(Clone, Copy)]
struct Policy<'a> {
    hosts: &'a [String],
    origins: &'a [String],
}

impl<'a> Policy<'a> {
    const NONE: Policy<'static> = Policy { hosts: &[], origins: &[] };

    fn of(listener: &'a Listener) -> Self {
        Self { hosts: &listener.allowed_hosts, origins: &listener.allowed_origins }
    }
}

/// Applied to every path of every listener, before anything else is looked at.
pub fn check(call: &Call<'_>) -> Result<(), Error> {
    let policy = call.snapshot.listener(call.connection.listener).map_or(Policy::NONE, Policy::of);
    if call.head.method == Method::CONNECT {
        return Err(bad_request("CONNECT is not supported: this is no forward proxy"));
    }
    if call.head.version < Version::HTTP_2 && call.connection.has_two_lengths() {
        return Err(bad_request("the request has both Content-Length and Transfer-Encoding"));
    }
    host(&call.head, policy)?;
    origin(&call.head.headers, policy)?;
    fetch_site(&call.head.headers)
}

/// A request's names for this server: all of them must be its own.
fn host(head: &Parts, policy: Policy<'_>) -> Result<(), Error> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let header = hosts.next();
    if hosts.next().is_some() {
        return Err(bad_request("the request has several Host headers"));
    }
    let authority = head.uri.authority().map(|authority| authority.as_str());
    if header.is_none() && authority.is_none() {
        return Err(bad_request("the request has no Host header"));
    }
    let header = header.map(|value| value.to_str().unwrap_or("?"));
    for name in header.into_iter().chain(authority) {
        if !is_own_name(name, policy) {
            return Err(Error::new(
                Code::HostForbidden,
                "the Host is neither a loopback name nor in allowed_hosts",
            ));
        }
    }
    Ok(())
}

fn is_own_name(authority: &str, policy: Policy<'_>) -> bool {
    let name = without_port(authority);
    if name.eq_ignore_ascii_case("localhost") || policy.hosts.iter().any(|host| host.eq_ignore_ascii_case(name)) {
        return true;
    }
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => authority,
    }
}

fn origin(headers: &HeaderMap, policy: Policy<'_>) -> Result<(), Error> {
    let allowed = |origin: &HeaderValue| {
        policy.origins.iter().any(|allowed| {
            origin.as_bytes().eq_ignore_ascii_case(allowed.as_bytes())
        })
    };
    if headers.get_all(header::ORIGIN).iter().all(allowed) {
        Ok(())
    } else {
        Err(Error::new(
            Code::OriginForbidden,
            "requests from web pages are refused; an origin to trust goes into allowed_origins",
        ))
    }
}

fn fetch_site(headers: &HeaderMap) -> Result<(), Error> {
    let foreign = |value: &HeaderValue| {
        let value = value.as_bytes();
        value.eq_ignore_ascii_case(b"cross-site") || value.eq_ignore_ascii_case(b"same-site")
    };
    if headers.get_all("sec-fetch-site").iter().any(foreign) {
        Err(Error::new(
            Code::CrossSiteForbidden,
            "requests that a web page of another site makes are refused",
        ))
    } else {
        Ok(())
    }
}

/// Refuses an announced length over the limit before a byte of it is read.
pub fn length(head: &Parts, max_body: u64) -> Result<(), Error> {
    let announced = head
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    match announced {
        Some(length) if length > max_body => Err(BodyError::TooLarge.into()),
        _ => Ok(()),
    }
}

fn bad_request(message: &str) -> Error {
    Error::new(Code::BadRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(headers: &[(&'static str, &'static str)], policy: Policy<'_>) -> Option<Code> {
        let mut builder = http::Request::get("/mcp");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let head = builder.body(()).unwrap().into_parts().0;
        host(&head, policy)
            .and_then(|()| origin(&head.headers, policy))
            .and_then(|()| fetch_site(&head.headers))
            .err()
            .map(|error| error.code)
    }

    #[test]
    fn loopback_names_are_our_own_with_and_without_port() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.8.9.1:80", "[::1]", "[::1]:8080"] {
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
            assert_eq!(verdict, Some(Code::HostForbidden), "{host}");
        }
    }

    #[test]
    fn a_request_without_or_with_two_hosts_is_malformed() {
        let policy = Policy::NONE;
        assert_eq!(verdict(&[], policy), Some(Code::BadRequest));
        let two = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(verdict(&two, policy), Some(Code::BadRequest));
    }

    #[test]
    fn browsers_are_refused_unless_their_origin_is_listed() {
        let from = |origin, policy: Policy<'_>| verdict(&[("host", "localhost"), ("origin", origin)], policy);
        assert_eq!(from("http://localhost:3000", Policy::NONE), Some(Code::OriginForbidden));
        assert_eq!(from("null", Policy::NONE), Some(Code::OriginForbidden));
        let origins = ["http://localhost:3000".to_owned()];
        let policy = Policy { origins: &origins, ..Policy::NONE };
        assert_eq!(from("http://localhost:3000", policy), None);
        assert_eq!(from("http://localhost:3001", policy), Some(Code::OriginForbidden));
    }

    #[test]
    fn fetches_from_other_sites_are_refused_and_those_of_the_same_origin_pass() {
        let policy = Policy::NONE;
        let site = |site| verdict(&[("host", "localhost"), ("sec-fetch-site", site)], policy);
        assert_eq!(site("cross-site"), Some(Code::CrossSiteForbidden));
        assert_eq!(site("Same-Site"), Some(Code::CrossSiteForbidden));
        assert_eq!(site("same-origin"), None);
        assert_eq!(site("none"), None);
    }
}
