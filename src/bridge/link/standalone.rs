//! Without a daemon: the bridge loads the configuration and signs by itself.

use std::sync::Arc;

use http::uri::PathAndQuery;
use slog::Logger;

use super::{Link, Place, Way};
use crate::client::ProxyVariables;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::path;
use crate::snapshot::Snapshot;

/// The way to the upstream that the daemon would choose for `route`.
///
/// # Errors
/// A sentence when no route of the configuration leads from there.
pub fn standalone(
    config: Config,
    route: &PathAndQuery,
    proxies: &ProxyVariables,
    log: Logger,
) -> Result<Link, String> {
    let snapshot = Snapshot::new(config, None, proxies, &Metrics::default(), &log)?;
    let (raw, query) = (route.path(), route.query());
    let refused = |refused: path::Refused| format!("--route {raw}: {}", refused.reason());
    let decoded = path::check(raw, true).map_err(refused)?;
    let found = snapshot.router.find(&decoded).ok_or_else(|| {
        format!("no route of the configuration leads from {raw}; choose one with --route")
    })?;
    let route = &snapshot.config.routes[found];
    let upstream = &snapshot.upstreams[route.upstream];
    path::check(raw, upstream.config.allow_encoded_slash).map_err(refused)?;
    let endpoint = upstream.path_for(route, raw, query).ok_or_else(|| {
        format!(
            "--route {raw} makes no path at upstream {}",
            upstream.config.name
        )
    })?;
    let target = &upstream.config.target;
    let place = Place::Url(match &target.unix {
        Some(socket) => format!("upstream {} ({})", upstream.config.name, socket.display()),
        None => format!("upstream {} ({})", upstream.config.name, target.authority),
    });
    let way = Way {
        client: Arc::clone(&upstream.client),
        place,
    };
    let authority = target.authority.to_string();
    let limit = route.request_timeout;
    let signer = Some(Arc::clone(upstream));
    Ok(Link {
        head_patience: limit.unwrap_or(upstream.config.request_timeout),
        ..Link::new(vec![way], endpoint, authority, signer, log)
    })
}
