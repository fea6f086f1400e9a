//! Who may use a listener and a route, before anything of the request is looked at.

use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderValue};
use http::request::Parts;

use super::Call;
use super::error::{Code, Error};
use super::head::CREDENTIAL;
use crate::config::{Access, Listener, Route, Tokens};
use crate::listen::Owner;
use crate::serve::Connection;
use crate::snapshot::{Snapshot, Upstream};

/// How much is told of a name that no credential may have (its limit).
const LONGEST_NAME: usize = 64;

/// Whether the listener is for whoever sent this.
///
/// # Errors
/// It is not.
pub async fn to_listener(call: &mut Call<'_>, listener: &Listener) -> Result<(), Error> {
    authenticate(call, listener)?;
    admit(call, listener).await
}

/// Whether the listener is still for a client that it let in before. `token` is that client's,
/// if it had one: what it proved itself by has been forgotten.
///
/// # Errors
/// It is not.
pub async fn stays(call: &mut Call<'_>, listener: &Listener, token: &Tokens) -> Result<(), Error> {
    check_transport(call, listener)?;
    if listener.asks_who() {
        let client = call.client.as_ref().ok_or_else(unauthenticated)?;
        let is_by_token = !token.is_empty() && listener.tokens.of(client) == *token;
        if !is_by_token && by_certificate(call, listener) != Some(client) {
            return Err(unauthenticated());
        }
    } else {
        call.client = None;
    }
    admit(call, listener).await
}

async fn admit(call: &Call<'_>, listener: &Listener) -> Result<(), Error> {
    if listener.access.is_open() {
        return Ok(());
    }
    if listener.access.asks_for_owner() {
        call.connection.owner().await;
    }
    check(&listener.access, call)
}

/// A reload may have asked for more than this connection began with.
fn check_transport(call: &Call<'_>, listener: &Listener) -> Result<(), Error> {
    if listener.tls.is_some() && !call.connection.is_tls() {
        let advice = "this listener speaks TLS now; connect again, by https";
        return Err(Error::new(Code::ClientUnauthenticated, advice));
    }
    Ok(())
}

/// Learns which client this is, where the listener asks.
///
/// The status is 403 and never 401: MCP clients answer that with OAuth discovery, and give the
/// server up for dead.
fn authenticate(call: &mut Call<'_>, listener: &Listener) -> Result<(), Error> {
    check_transport(call, listener)?;
    if !listener.asks_who() {
        return Ok(());
    }
    let mut sent = call.head.headers.get_all(AUTHORIZATION).iter();
    let token = match (sent.next(), sent.next()) {
        (Some(value), None) => bearer(value.as_bytes()),
        _ => None,
    };
    let by_token = token.and_then(|token| listener.tokens.client(token));
    let client = by_token.or_else(|| by_certificate(call, listener));
    call.client = Some(Arc::clone(client.ok_or_else(unauthenticated)?));
    if !listener.tokens.is_empty() {
        // It was for us; no upstream may have it, whatever else it may have of the client's.
        call.head.headers.remove(AUTHORIZATION);
        detach(&mut call.head);
    }
    Ok(())
}

/// Copies what is left of a head. Values are pieces of one buffer, and what an upstream's
/// connection remembers of one of them (HPACK) would keep the token in memory with all others.
fn detach(head: &mut Parts) {
    for value in head.headers.values_mut() {
        if let Ok(mut copy) = HeaderValue::from_bytes(value.as_bytes()) {
            copy.set_sensitive(value.is_sensitive());
            *value = copy;
        }
    }
    if let Ok(copy) = head.uri.to_string().parse() {
        head.uri = copy;
    }
}

fn by_certificate<'a>(call: &Call<'a>, listener: &Listener) -> Option<&'a Arc<str>> {
    let connection: &'a Connection = call.connection;
    let certified = connection.certified()?;
    // One that was accepted under another client_ca says nothing now.
    let roots = &listener.tls.as_ref()?.client_roots;
    let is_valid = Arc::ptr_eq(roots, &certified.roots) || *roots == certified.roots;
    is_valid.then_some(&certified.client)
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
    let (name, second) = match (named.next(), named.next()) {
        (None, _) => return Ok(&snapshot.upstreams[route.upstream]),
        (Some(name), second) => (name.to_str().unwrap_or_default(), second),
    };
    let found = snapshot.upstream_with(route, name);
    found.filter(|_| second.is_none()).ok_or_else(|| {
        let advice = "this route does not offer the credential that x-mcp-auth-credential names; leave it out, or name one that it offers";
        let named: String = name.chars().take(LONGEST_NAME).collect();
        let several = if second.is_some() { " and another" } else { "" };
        let cause = format!("the client named {named:?}{several}");
        Error::new(Code::CredentialForbidden, advice).because(cause)
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
