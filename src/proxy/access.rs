//! Who may use a listener and a route, before anything of the request is looked at.

use std::sync::Arc;

use http::header::AUTHORIZATION;

use super::Call;
use super::error::{Code, Error};
use super::head::CREDENTIAL;
use crate::config::{Access, Listener, Route};
use crate::listen::Owner;
use crate::snapshot::{Snapshot, Upstream};

/// Whether the listener is for whoever sent this.
///
/// # Errors
/// It is not.
pub async fn to_listener(call: &mut Call<'_>, listener: &Listener) -> Result<(), Error> {
    authenticate(call, listener)?;
    if listener.access.is_open() {
        return Ok(());
    }
    if listener.access.asks_for_owner() {
        call.connection.owner().await;
    }
    check(&listener.access, call)
}

/// Learns which client this is, where the listener asks.
///
/// The status is 403 and never 401: MCP clients answer that with OAuth discovery, and give the
/// server up for dead.
fn authenticate(call: &mut Call<'_>, listener: &Listener) -> Result<(), Error> {
    // A reload may have asked for more than this connection began with.
    if listener.tls.is_some() && !call.connection.is_tls() {
        let advice = "this listener speaks TLS now; connect again, by https";
        return Err(Error::new(Code::ClientUnauthenticated, advice));
    }
    if !listener.asks_who() {
        return Ok(());
    }
    let headers = &mut call.head.headers;
    let mut sent = headers.get_all(AUTHORIZATION).iter();
    let token = match (sent.next(), sent.next()) {
        (Some(value), None) => bearer(value.as_bytes()),
        _ => None,
    };
    let by_token = token.and_then(|token| listener.tokens.client(token));
    let by_certificate = call.connection.certified().filter(|certified| {
        let roots = listener.tls.as_ref().map(|tls| &tls.client_roots);
        // One that was accepted under another client_ca says nothing now.
        roots.is_some_and(|roots| Arc::ptr_eq(roots, &certified.roots) || *roots == certified.roots)
    });
    let client = by_token.or(by_certificate.map(|certified| &certified.client));
    call.client = Some(Arc::clone(client.ok_or_else(unauthenticated)?));
    if !listener.tokens.is_empty() {
        // It was for us; no upstream may have it, whatever else it may have of the client's.
        headers.remove(AUTHORIZATION);
    }
    Ok(())
}

/// The token of `Bearer TOKEN` (RFC 6750, section 2.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

fn unauthenticated() -> Error {
    let advice = "this listener wants to know its clients; send a token of its own in \
                  \"Authorization: Bearer\", or show a certificate";
    Error::new(Code::ClientUnauthenticated, advice)
}

/// Whether the route is for whoever sent this. Its policies can be asked from here on.
///
/// # Errors
/// It is not.
pub async fn to_route(call: &Call<'_>, route: &Route) -> Result<(), Error> {
    if route.asks_for_owner() {
        call.connection.owner().await;
    }
    if route.access.is_open() {
        return Ok(());
    }
    check(&route.access, call)
}

/// The upstream, with the credential that the client names if it may, else with its own.
///
/// # Errors
/// The route does not offer it.
pub fn upstream<'a>(call: &Call<'a>, route: &Route) -> Result<&'a Arc<Upstream>, Error> {
    let snapshot: &'a Snapshot = call.snapshot;
    let mut named = call.head.headers.get_all(CREDENTIAL).iter();
    let found = match (named.next(), named.next()) {
        (None, _) => return Ok(&snapshot.upstreams[route.upstream]),
        (Some(name), None) => name
            .to_str()
            .ok()
            .and_then(|name| snapshot.upstream_with(route, name)),
        (Some(_), Some(_)) => None,
    };
    found.ok_or_else(|| {
        let advice = "this route does not offer the credential that x-mcp-auth-credential names; leave it out, or name one that it offers";
        Error::new(Code::CredentialForbidden, advice)
    })
}

fn check(access: &Access, call: &Call<'_>) -> Result<(), Error> {
    access.check(&call.who()).map_err(|rule| {
        let reason = call
            .connection
            .known_owner()
            .and_then(|owner| owner.reason.as_deref());
        let unknown = reason.map_or_else(String::new, |reason| format!("; unknown is {reason}"));
        Error::peer_forbidden(format!("{rule}, {}{unknown}", call.connection.peer))
    })
}

impl Error {
    fn peer_forbidden(cause: String) -> Self {
        let advice = "this is not for you; whoever runs the proxy can permit it";
        Self::new(Code::PeerForbidden, advice).because(cause)
    }
}

impl Call<'_> {
    /// Whoever sent this, as far as somebody asked.
    pub fn who(&self) -> crate::config::Who<'_> {
        let client = self.client.as_deref();
        let owner = self.connection.known_owner();
        owner.map_or(Owner::nobody(client), |owner| owner.who(client))
    }
}
