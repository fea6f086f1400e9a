//! By what right a client has its stream, for asking again each time that stream is opened anew.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderValue};
use http::{Request, Uri};

use crate::config::{Policy, Tokens};
use crate::mcp;
use crate::path;
use crate::proxy::head::CREDENTIAL;
use crate::proxy::{Call, access, policy};
use crate::serve::Connection;
use crate::snapshot::{Snapshot, Upstream};

pub struct Right {
    connection: Arc<Connection>,
    client: Option<Arc<str>>,
    /// The client's, if it has one.
    token: Tokens,
    uri: Uri,
    /// The one that the client chose.
    credential: Option<HeaderValue>,
    route: Box<str>,
    policy: Option<Policy>,
}

impl Right {
    /// `None` unless `call` asks for a stream that is to be recovered.
    pub fn of(call: &Call<'_>, route: usize, upstream: &Upstream) -> Option<Self> {
        let head = &call.head;
        if !upstream.config.stream_recovery
            || !mcp::asks_for_legacy_stream(&head.method, &head.headers)
        {
            return None;
        }
        let route = &call.snapshot.config.routes[route];
        let entrance = call.snapshot.entrance(call.connection.listener)?;
        let tokens = entrance.listener.zip(call.client.as_deref());
        Some(Self {
            connection: Arc::clone(call.connection),
            client: call.client.clone(),
            token: tokens.map_or_else(Tokens::default, |(it, client)| it.tokens.of(client)),
            uri: head.uri.clone(),
            credential: head.headers.get(CREDENTIAL).cloned(),
            route: route.path.as_str().into(),
            policy: call.policy.map(|index| route.policies[index].clone()),
        })
    }

    /// The upstream, with the credential that the client chose; `None` if a request for the
    /// stream would be refused now, or be under other rules.
    pub async fn upstream<'a>(&'a self, snapshot: &'a Arc<Snapshot>) -> Option<&'a Arc<Upstream>> {
        let entrance = snapshot.entrance(self.connection.listener)?;
        let mut call = self.call(snapshot);
        match entrance.listener {
            Some(listener) => access::stays(&mut call, listener, &self.token).await.ok()?,
            None => call.client = None,
        }
        let decoded = path::check(self.uri.path(), true).ok()?;
        let route = &snapshot.config.routes[entrance.router.find(&decoded)?];
        access::to_route(&call, route).await.ok()?;
        let policy = policy::of_peer(route, &call).ok()?;
        let is_same_policy = match (policy, &self.policy) {
            (Some(index), Some(before)) => route.policies[index].says_the_same(before),
            (now, before) => now.is_none() && before.is_none(),
        };
        if *route.path != *self.route || !is_same_policy {
            return None;
        }
        access::upstream(&call, route).ok()
    }

    fn call<'a>(&'a self, snapshot: &'a Arc<Snapshot>) -> Call<'a> {
        let mut head = Request::new(()).into_parts().0;
        head.uri = self.uri.clone();
        let chosen = self.credential.iter().cloned();
        head.headers = HeaderMap::from_iter(chosen.map(|name| (CREDENTIAL, name)));
        Call {
            snapshot,
            connection: &self.connection,
            head,
            is_json_rpc: false,
            body: None,
            message: None,
            has_body: false,
            policy: None,
            client: self.client.clone(),
            upstream: None,
        }
    }
}
