//! The signature base (RFC 9421, section 2.5).

use std::fmt::Write;

use http::header::{HeaderMap, HeaderName};

use crate::auth::Unsigned;
use crate::config::Component;

/// The line of each component, and their names as they stand between the parentheses.
///
/// `ours` are headers that go out with the request and replace those it has. A header that
/// is in neither is left out (section 2.5): not every request has a `content-type`.
pub fn lines(
    components: &[Component],
    request: &Unsigned<'_>,
    ours: &HeaderMap,
) -> (String, String) {
    let mut lines = String::new();
    let mut names = String::new();
    for component in components {
        let Some(value) = value(component, request, ours) else {
            continue;
        };
        let name = identifier(component);
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "{name}: {value}");
        if !names.is_empty() {
            names.push(' ');
        }
        names.push_str(&name);
    }
    (lines, names)
}

fn identifier(component: &Component) -> String {
    let name = match component {
        Component::Method => "@method",
        Component::TargetUri => "@target-uri",
        Component::Authority => "@authority",
        Component::Scheme => "@scheme",
        Component::RequestTarget => "@request-target",
        Component::Path => "@path",
        Component::Query => "@query",
        Component::QueryParam(name) => return format!("\"@query-param\";name=\"{name}\""),
        Component::Header(name) => name.as_str(),
    };
    format!("\"{name}\"")
}

/// What the request has of it.
fn value(component: &Component, request: &Unsigned<'_>, ours: &HeaderMap) -> Option<String> {
    let (uri, target) = (request.uri, request.target);
    let path_and_query = || uri.path_and_query().map_or("/", |whole| whole.as_str());
    Some(match component {
        Component::Method => request.method.as_str().to_owned(),
        Component::TargetUri => {
            format!(
                "{}://{}{}",
                target.scheme,
                target.authority,
                path_and_query()
            )
        }
        Component::Authority => target.authority.to_string(),
        Component::Scheme => target.scheme.to_string(),
        Component::RequestTarget => path_and_query().to_owned(),
        Component::Path => uri.path().to_owned(),
        Component::Query => format!("?{}", uri.query().unwrap_or_default()),
        Component::QueryParam(name) => query_param(uri.query().unwrap_or_default(), name)?,
        Component::Header(name) if ours.contains_key(name) => joined(ours, name)?,
        Component::Header(name) => joined(request.headers, name)?,
    })
}

/// The parameter's value, if there is exactly one of that name (section 2.2.8).
///
/// Names and values are compared and signed after the encoding that forms use was undone and
/// done again in one way.
fn query_param(query: &str, name: &str) -> Option<String> {
    let mut found = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(|(given, _)| recode(given) == name)
        .map(|(_, value)| recode(value));
    let value = found.next()?;
    found.next().is_none().then_some(value)
}

/// The WHATWG URL standard's form decoding, then percent-encoding with its component set.
fn recode(text: &str) -> String {
    let spaced = text.replace('+', " ");
    let mut out = String::with_capacity(text.len());
    for &byte in crate::path::decode(&spaced).iter() {
        if byte.is_ascii_alphanumeric() || b"*-._".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// All lines of a header as one value (section 2.1).
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<&str> = headers
        .get_all(name)
        .iter()
        .map(|value| value.to_str().map(str::trim))
        .collect::<Result<_, _>>()
        .ok()?;
    (!values.is_empty()).then(|| values.join(", "))
}
