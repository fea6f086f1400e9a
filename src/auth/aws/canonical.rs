//! The one form of path, query and headers that both sides sign.

use std::fmt::Write;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName};

use crate::auth::Unsigned;

/// Each segment encoded once more than on the wire, empty ones left out.
pub fn path(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    for segment in raw.split('/').filter(|segment| !segment.is_empty()) {
        out.push('/');
        encode(segment.as_bytes(), &mut out);
    }
    if raw.ends_with('/') || out.is_empty() {
        out.push('/');
    }
    out
}

/// Names and values decoded, encoded in the one way, and sorted.
pub fn query(raw: &str) -> String {
    let mut pairs: Vec<(String, String)> = raw
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (recode(name), recode(value))
        })
        .collect();
    pairs.sort();
    let mut out = String::with_capacity(raw.len());
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(&name);
        out.push('=');
        out.push_str(&value);
    }
    out
}

/// The names of the headers that are signed, and the block of them.
///
/// AWS wants the host and every `x-amz-` header; the media type is worth it too. Other headers
/// may change on the way.
pub fn headers(request: &Unsigned<'_>, ours: &HeaderMap) -> (String, String) {
    let is_signed =
        |name: &HeaderName| *name == CONTENT_TYPE || name.as_str().starts_with("x-amz-");
    let mut lines: Vec<(String, String)> = request
        .headers
        .keys()
        .filter(|name| is_signed(name) && !ours.contains_key(*name))
        .map(|name| (name.as_str().to_owned(), joined(request.headers, name)))
        .collect();
    lines.extend(
        ours.keys()
            .map(|name| (name.as_str().to_owned(), joined(ours, name))),
    );
    lines.push(("host".to_owned(), request.target.authority.to_string()));
    lines.sort();
    let mut names = String::new();
    let mut block = String::new();
    for (name, value) in lines {
        if !names.is_empty() {
            names.push(';');
        }
        names.push_str(&name);
        // Writing to a String cannot fail.
        let _ = writeln!(block, "{name}:{value}");
    }
    (names, block)
}

/// All values of a header in one, with each run of spaces made one.
fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    let values: Vec<String> = headers
        .get_all(name)
        .iter()
        .map(|value| {
            let text = String::from_utf8_lossy(value.as_bytes());
            let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
            words.join(" ")
        })
        .collect();
    values.join(",")
}

fn recode(text: &str) -> String {
    let spaced = text.replace('+', " ");
    let mut out = String::with_capacity(text.len());
    encode(&crate::path::decode(&spaced), &mut out);
    out
}

/// RFC 3986, section 2.1, for all but its unreserved characters.
fn encode(bytes: &[u8], out: &mut String) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}
