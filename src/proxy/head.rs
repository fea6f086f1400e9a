//! The head that goes upstream: what is dropped, what is added, what passes.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Request, Uri, Version};

use super::{Call, ids, patience};
use crate::auth;
use crate::message;
use crate::snapshot::Upstream;

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// By which of the route's `credentials` a client wants to be signed for. Ours; never sent on.
pub const CREDENTIAL: HeaderName = HeaderName::from_static("x-mcp-auth-credential");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Builds the head of the upstream's request, all but the signature.
pub(super) fn outgoing(
    call: &mut Call<'_>,
    upstream: &Upstream,
    target: PathAndQuery,
    id: &HeaderValue,
) -> Parts {
    let mut headers = std::mem::take(&mut call.head.headers);
    let host = headers.get(header::HOST).cloned().or_else(|| {
        call.head
            .uri
            .authority()
            .and_then(|authority| authority.as_str().parse().ok())
    });
    let is_own = |name: &HeaderName| upstream.auth.as_ref().is_some_and(|auth| auth.owns(name));
    clean(&mut headers, upstream.config.forward_authorization, is_own);
    ids::continue_trace(&mut headers, call.message.as_deref());
    headers.insert(REQUEST_ID, id.clone());
    match &call.connection.forwarded_for {
        Some(address) => headers.insert(FORWARDED_FOR, address.clone()),
        None => headers.remove(FORWARDED_FOR),
    };
    let proto = if call.connection.is_tls() {
        "https"
    } else {
        "http"
    };
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(proto));
    if let Some(host) = host {
        headers.insert(FORWARDED_HOST, host);
    }
    if let (Some(config), Some(value)) = (&upstream.config.session, &upstream.session) {
        headers.insert(config.name.clone(), value.clone());
    }
    remove_disguised(&mut headers, is_own);
    let mut head = Request::new(()).into_parts().0;
    head.method = call.head.method.clone();
    head.uri = Uri::from(target);
    head.version = Version::HTTP_11;
    head.headers = headers;
    head
}

/// Removes what concerns the client's connection, and every credential it may have sent; `is_own`
/// knows those of the upstream's credential.
pub fn clean(
    headers: &mut HeaderMap,
    forward_authorization: bool,
    is_own: impl Fn(&HeaderName) -> bool,
) {
    message::remove(headers, |name| {
        is_dropped(name, forward_authorization) || is_own(name)
    });
}

/// Removes what an upstream that cannot tell `_` from `-` (CGI, WSGI) would take for a header of
/// ours, or for one that was dropped.
pub fn remove_disguised(headers: &mut HeaderMap, is_own: impl Fn(&HeaderName) -> bool) {
    let is_taken_for_another = |name: &&HeaderName| {
        name.as_str().contains('_')
            && HeaderName::try_from(name.as_str().replace('_', "-")).is_ok_and(|dashed| {
                dashed == FORWARDED_FOR
                    || headers.contains_key(&dashed)
                    || is_dropped(&dashed, false)
                    || is_own(&dashed)
            })
    };
    let disguised: Vec<_> = headers
        .keys()
        .filter(is_taken_for_another)
        .cloned()
        .collect();
    for name in disguised {
        headers.remove(name);
    }
}

/// What concerns the client's connection, and every credential it may have sent.
fn is_dropped(name: &HeaderName, forward_authorization: bool) -> bool {
    if *name == header::AUTHORIZATION || *name == header::COOKIE {
        return !forward_authorization;
    }
    // Lengths and Host are set anew for the upstream's connection.
    message::is_hop_by_hop(name)
        || matches!(
            *name,
            header::HOST | header::CONTENT_LENGTH | header::EXPECT
        )
        || *name == CREDENTIAL
        || *name == patience::HEADER
        || auth::is_credential_header(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(sent: &[(&'static str, &'static str)], forward_authorization: bool) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(*name, HeaderValue::from_static(value));
        }
        clean(&mut headers, forward_authorization, |_| false);
        let mut names: Vec<_> = headers
            .keys()
            .map(|name| name.as_str().to_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn credentials_of_every_scheme_are_dropped_and_mcp_headers_pass() {
        let sent = [
            ("x-api-key-id", "forged"),
            ("x-timestamp", "t"),
            ("x-signature", "s"),
            ("x-signature", "again"),
            ("signature", "sig1=:x:"),
            ("x-amz-date", "d"),
            ("authorization", "Bearer t"),
            ("proxy-authorization", "Basic b"),
            ("cookie", "c=1"),
            ("mcp-session-id", "1"),
            ("mcp-protocol-version", "2025-11-25"),
            ("last-event-id", "7"),
            ("accept", "*/*"),
        ];
        let passed = [
            "accept",
            "last-event-id",
            "mcp-protocol-version",
            "mcp-session-id",
        ];
        assert_eq!(cleaned(&sent, false), passed);
    }

    #[test]
    fn the_clients_own_authorization_passes_only_where_it_was_asked_for() {
        let sent = [
            ("authorization", "Bearer t"),
            ("cookie", "c=1"),
            ("x-api-key-id", "k"),
        ];
        assert_eq!(cleaned(&sent, true), ["authorization", "cookie"]);
    }

    #[test]
    fn a_header_that_is_another_but_for_its_underscores_is_dropped() {
        let mut headers = HeaderMap::new();
        for name in [
            "x_signature",
            "content_length",
            "x-forwarded_for",
            "x-request-id",
            "x_request_id",
            "x_own",
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        remove_disguised(&mut headers, |_| false);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["x-request-id", "x_own"]);
    }

    #[test]
    fn what_connection_names_is_dropped_with_it() {
        let sent = [
            ("connection", "keep-alive, X-Hop"),
            ("x-hop", "1"),
            ("keep-alive", "5"),
            ("te", "trailers"),
            ("x-end", "1"),
        ];
        assert_eq!(cleaned(&sent, false), ["x-end"]);
    }
}
