//! `[[route]]`: which path leads to which upstream.

use std::collections::HashMap;

use super::access::{Access, decode_access};
use super::decode::{Field, Section};
use super::policy::decode_policies;
use super::suggest::nearest;
use super::tree::Origin;
use super::upstream::find_credential;
use super::url_path;
use super::{Route, TargetPath, Upstream};

/// The path of an `endpoint` upstream that no route names.
const ENDPOINT_PATH: &str = "/mcp";

/// Paths that every listener answers itself, whatever the routes say.
const RESERVED: [&str; 4] = [
    "/healthz",
    "/readyz",
    "/.well-known/oauth-authorization-server",
    "/.well-known/oauth-protected-resource",
];

/// What decoding a route needs to know about the upstreams. An upstream with a problem
/// of its own is `None` but keeps its name, so that routes to it are not blamed.
pub struct Upstreams<'a> {
    pub fields: Vec<Field<'a>>,
    pub decoded: Vec<Option<Upstream>>,
    /// The names of the credentials.
    pub credentials: &'a [&'a str],
}

impl<'a> Upstreams<'a> {
    fn names(&self) -> impl Iterator<Item = &'a str> {
        self.fields.iter().map(Field::key)
    }

    fn is_endpoint(&self, index: usize) -> bool {
        let upstream = self.decoded[index].as_ref();
        upstream.is_some_and(|u| matches!(u.target.path, TargetPath::Endpoint(_)))
    }
}

/// The routes for every listener that has none of its own.
///
/// `are_needed`: whether there may be such a listener.
pub fn decode_routes(
    root: &mut Section<'_>,
    upstreams: &Upstreams<'_>,
    are_needed: bool,
) -> Vec<Route> {
    match root.field("route") {
        Some(field) => decode_set(&field, upstreams),
        None if are_needed => implied(upstreams),
        None => Vec::new(),
    }
}

/// Routes that are looked at together: no two with the same path.
pub fn decode_set(field: &Field<'_>, upstreams: &Upstreams<'_>) -> Vec<Route> {
    let Some(items) = field.items() else {
        return Vec::new();
    };
    let mut routes = Vec::with_capacity(items.len());
    let mut places: HashMap<String, Origin> = HashMap::with_capacity(items.len());
    for item in &items {
        let Some((route, origin)) = decode_route(item, upstreams) else {
            continue;
        };
        if let Some(first) = places.get(&route.path) {
            let place = item.report.place(*first, origin);
            let path = format!("{}.path", item.path);
            item.report.problem(
                origin,
                &path,
                format!("this path has a route already ({place}); remove one"),
            );
            continue;
        }
        places.insert(route.path.clone(), origin);
        routes.push(route);
    }
    if items.is_empty() {
        field.problem("the array is empty; remove it, or write tables into it");
    }
    routes
}

/// The paths of the routes, as they are written.
pub fn route_paths(root: &mut Section<'_>) -> Vec<String> {
    let items = root.field("route").and_then(|field| field.items());
    let paths = items.unwrap_or_default().into_iter().filter_map(|item| {
        let path = item.section()?.field("path");
        let path = path.and_then(|field| field.text());
        Some(path.unwrap_or(ENDPOINT_PATH).to_owned())
    });
    paths.collect()
}

/// One upstream needs no routes: it gets everything.
fn implied(upstreams: &Upstreams<'_>) -> Vec<Route> {
    match upstreams.fields.as_slice() {
        [] => return Vec::new(),
        [_] => {}
        [_, second, ..] => {
            let names: Vec<&str> = upstreams.names().collect();
            second.key_problem(format!(
                "with several upstreams ({}) nothing says which requests go where; \
                 write a [[route]] for each",
                names.join(", ")
            ));
            return Vec::new();
        }
    }
    let path = if upstreams.is_endpoint(0) {
        ENDPOINT_PATH
    } else {
        ""
    };
    vec![Route {
        path: path.to_owned(),
        strip_prefix: false,
        upstream: 0,
        access: Access::default(),
        credentials: Vec::new(),
        request_timeout: None,
        policies: Vec::new(),
    }]
}

/// The route, and where its path is written.
fn decode_route(item: &Field<'_>, upstreams: &Upstreams<'_>) -> Option<(Route, Origin)> {
    let mut s = item.section()?;
    let upstream = s.required("upstream", "name the upstream that these requests go to");
    let upstream = upstream.and_then(|field| find_upstream(&field, upstreams));
    let endpoint = upstream.is_some_and(|index| upstreams.is_endpoint(index));
    let path = if endpoint {
        s.field("path")
    } else {
        s.required("path", "write path = \"/\" for every request")
    };
    let origin = path.as_ref().map_or(item.key_origin, Field::origin);
    let path = match path {
        Some(field) => field
            .parse(prefix)
            .inspect(|path| warn_of_reserved(&field, path)),
        None => endpoint.then(|| ENDPOINT_PATH.to_owned()),
    };
    let strip = s.field("strip_prefix");
    if endpoint && let Some(field) = &strip {
        field.warn("has no effect, as an endpoint's path is fixed; remove it");
    }
    let strip_prefix = strip.and_then(|field| field.boolean()).unwrap_or_default();
    let access = decode_access(&mut s);
    let credentials = s.field("credentials").map_or(Some(Vec::new()), |field| {
        decode_credentials(&field, upstreams.credentials)
    });
    let request_timeout = s.field("request_timeout").and_then(|f| f.duration());
    let policies = s
        .field("policy")
        .map_or(Some(Vec::new()), |field| decode_policies(&field));
    s.finish();
    Some((
        Route {
            path: path?,
            strip_prefix,
            upstream: upstream?,
            access: access?,
            credentials: credentials?,
            request_timeout,
            policies: policies?,
        },
        origin,
    ))
}

fn decode_credentials(field: &Field<'_>, names: &[&str]) -> Option<Vec<usize>> {
    let found: Vec<_> = field
        .items()?
        .iter()
        .map(|item| find_credential(item, names))
        .collect();
    found.into_iter().collect()
}

fn find_upstream(field: &Field<'_>, upstreams: &Upstreams<'_>) -> Option<usize> {
    let name = field.text()?;
    let index = upstreams.names().position(|known| known == name);
    if index.is_none() {
        let advice = match nearest(name, upstreams.names()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("define it as [upstream.{name}]"),
        };
        field.problem(format!("there is no upstream {name:?}; {advice}"));
    }
    index
}

/// A route's path as it is compared: decoded, without the slash at its end.
fn prefix(text: &str) -> Result<String, String> {
    if text.contains(['?', '#']) {
        return Err(format!(
            "{text:?} is more than a path; leave out what follows \"?\" or \"#\""
        ));
    }
    let decoded = url_path::decode(text)?;
    if decoded.contains("//") {
        return Err(format!("{text:?} has an empty segment; write \"/\" once"));
    }
    Ok(decoded.strip_suffix('/').unwrap_or(&decoded).to_owned())
}

fn warn_of_reserved(field: &Field<'_>, path: &str) {
    if RESERVED.contains(&path) {
        field.warn(
            "the proxy answers this path itself, so nothing reaches the upstream; choose another",
        );
    }
}

/// Warns of every upstream that no request can reach.
pub fn warn_of_unreachable(upstreams: &[Field<'_>], routes: &[Route]) {
    for (index, field) in upstreams.iter().enumerate() {
        if !routes.iter().any(|route| route.upstream == index) {
            let message = "no route leads to this upstream; write a [[route]] for it or remove it";
            field.report.warn(field.key_origin, &field.path, message);
        }
    }
}
