//! Who may use a listener and a route, before anything of the request is looked at.

use super::Call;
use super::error::{Code, Error};
use crate::config::{Access, Listener, Route};
use crate::listen::Owner;

/// Whether the listener is for whoever sent this.
///
/// # Errors
/// It is not.
pub async fn to_listener(call: &mut Call<'_>, listener: &Listener) -> Result<(), Error> {
    if listener.access.is_open() {
        return Ok(());
    }
    if listener.access.asks_for_owner() {
        call.connection.owner().await;
    }
    check(&listener.access, call)
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
