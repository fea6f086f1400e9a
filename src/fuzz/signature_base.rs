//! Signature bases: one line a component, from which the request can be told.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use crate::auth::Unsigned;
use crate::auth::http_signature::base;
use crate::config::{Component, Target, TargetPath};

/// A method, a path with its query, and two header values, each on a line of its own.
pub fn check(data: &[u8]) {
    let mut parts = data.splitn(4, |byte| *byte == b'\n');
    let mut part = || parts.next().unwrap_or_default();
    let (Ok(method), Ok(uri)) = (Method::from_bytes(part()), Uri::try_from(part())) else {
        return;
    };
    if uri.scheme().is_some() || uri.authority().is_some() || !uri.path().starts_with('/') {
        return;
    }
    let name = HeaderName::from_static("x-a");
    let mut headers = HeaderMap::new();
    for value in [part(), part()] {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(&name, value);
        }
    }
    let target = Target {
        scheme: http::uri::Scheme::HTTPS,
        authority: http::uri::Authority::from_static("upstream.example"),
        unix: None,
        path: TargetPath::Base(String::new()),
    };
    let request = Unsigned {
        method: &method,
        uri: &uri,
        headers: &headers,
        target: &target,
    };
    let components = [
        Component::Method,
        Component::TargetUri,
        Component::RequestTarget,
        Component::Path,
        Component::Query,
        Component::QueryParam("a".to_owned()),
        Component::Header(name.clone()),
    ];
    let (lines, names) = base::lines(&components, &request, &HeaderMap::new());
    assert!(lines.ends_with('\n') && !lines.contains('\r'));
    let mut told = lines
        .lines()
        .map(|line| line.split_once(": ").expect("a name and a value"));
    let mut next = |expected: &str| {
        let (name, value) = told.next().expect("a line for each component");
        assert_eq!(name, expected);
        value
    };
    let path_and_query = uri.path_and_query().map_or("/", |whole| whole.as_str());
    assert_eq!(next("\"@method\""), method.as_str());
    assert!(next("\"@target-uri\"").ends_with(path_and_query));
    assert_eq!(next("\"@request-target\""), path_and_query);
    let (path, query) = (next("\"@path\""), next("\"@query\""));
    assert_eq!(path, uri.path());
    assert_eq!(
        query.strip_prefix('?'),
        Some(uri.query().unwrap_or_default())
    );
    let mut expected = 5;
    if let Some(parameter) = parameter(uri.query().unwrap_or_default()) {
        assert_eq!(next("\"@query-param\";name=\"a\""), parameter);
        expected += 1;
    }
    let values: Option<Vec<_>> = headers
        .get_all(&name)
        .iter()
        .map(|value| value.to_str().ok())
        .collect();
    if let Some(values) = values.filter(|values| !values.is_empty()) {
        let values: Vec<_> = values
            .iter()
            .map(|value| value.trim_matches([' ', '\t']))
            .collect();
        assert_eq!(next("\"x-a\""), values.join(", "));
        expected += 1;
    }
    assert_eq!(lines.lines().count(), expected, "{lines}");
    let quotes = |line: &str| {
        line.split_once(": ")
            .map_or(0, |(name, _)| name.matches('"').count())
    };
    let listed: usize = lines.lines().map(quotes).sum();
    assert_eq!(names.matches('"').count(), listed);
}

/// The parameter `a`, if there is one: decoded as in a form, encoded in one way (RFC 9421, section 2.2.8).
fn parameter(query: &str) -> Option<String> {
    let mut found = query.split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (plain(name) == b"a").then(|| plain(value))
    });
    let value = found.next()?;
    found.next().is_none().then(|| {
        let encode = |byte: &u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => {
                char::from(*byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        };
        value.iter().map(encode).collect()
    })
}

fn plain(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match (
            first,
            digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()),
        ) {
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = &tail[2..];
                continue;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(*byte),
        }
        rest = tail;
    }
    out
}
