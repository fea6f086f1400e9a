//! Places that an upstream names, as its clients have to ask for them.

use http::Uri;

use crate::config::{Route, TargetPath};
use crate::snapshot::Upstream;

/// The path that leads through the proxy to a place at the upstream's own origin.
///
/// `None` for other origins, and for places that no path of this route leads to.
pub fn through_proxy(location: &str, route: &Route, upstream: &Upstream) -> Option<String> {
    let target = &upstream.config.target;
    let uri: Uri = location.parse().ok()?;
    let path = own_path(&uri, location, upstream)?;
    let fragment = location.find('#').map_or("", |at| &location[at..]);
    match &target.path {
        TargetPath::Endpoint(endpoint) => {
            (endpoint.path() == uri.path()).then(|| format!("{}{fragment}", route.path))
        }
        TargetPath::Base(base) => {
            let rest = path
                .strip_prefix(base.as_str())
                .filter(|rest| rest.starts_with('/'))?;
            let prefix = if route.strip_prefix {
                route.path.as_str()
            } else {
                ""
            };
            Some(format!("{prefix}{rest}{fragment}"))
        }
    }
}

/// Path and query of `location`, if that is at the upstream's own origin.
pub fn own_path<'a>(uri: &'a Uri, location: &str, upstream: &Upstream) -> Option<&'a str> {
    let target = &upstream.config.target;
    let is_own = match (uri.scheme(), uri.authority()) {
        (Some(scheme), Some(authority)) => {
            *scheme == target.scheme
                && same_authority(
                    authority.as_str(),
                    target.authority.as_str(),
                    scheme.as_str(),
                )
        }
        (None, None) => location.starts_with('/') && !location.starts_with("//"),
        _ => false,
    };
    uri.path_and_query()
        .filter(|_| is_own)
        .map(|path| path.as_str())
}

fn same_authority(one: &str, other: &str, scheme: &str) -> bool {
    let default = if scheme == "https" { ":443" } else { ":80" };
    let bare = |authority: &str| {
        authority
            .strip_suffix(default)
            .unwrap_or(authority)
            .to_ascii_lowercase()
    };
    bare(one) == bare(other)
}
