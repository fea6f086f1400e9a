//! Mirrored headers: what passes says what the body says to whoever reads it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue};

use super::tree::Tree;
use crate::mcp::agreement::Mirrored;
use crate::mcp::mirror::{self, METHOD, NAME, PROTOCOL_VERSION};
use crate::mcp::params::Catalog;

/// Three header values, each on a line of its own (an empty line: none), and a body.
pub fn check(data: &[u8]) {
    let mut parts = data.splitn(4, |byte| *byte == b'\n');
    let mut headers = HeaderMap::new();
    for name in [PROTOCOL_VERSION, METHOD, NAME] {
        let value = parts.next().unwrap_or_default();
        if let (false, Ok(value)) = (value.is_empty(), HeaderValue::from_bytes(value)) {
            headers.insert(name, value);
        }
    }
    let body = parts.next().unwrap_or_default();
    let catalog = Catalog::default();
    let Ok(Some(mirrored)) = Mirrored::read(&headers, body) else {
        return;
    };
    // What is no UTF-8 in a part that nobody mirrors is the upstream's to refuse.
    let Ok(text) = std::str::from_utf8(body) else {
        return;
    };
    let Some(tree) = Tree::read(text) else { return };
    if mirrored.check(&headers, &catalog).is_ok() {
        agree(&headers, &tree);
    }
    headers.clear();
    mirrored.complete(&mut headers, &catalog);
    agree(&headers, &tree);
    // What we add, we take; unless the body is modern by its header alone.
    if let Ok(Some(again)) = Mirrored::read(&headers, body) {
        assert_eq!(again.check(&headers, &catalog), Ok(()), "{headers:?}");
    }
}

fn agree(headers: &HeaderMap, body: &Tree) {
    let value = |name| {
        headers
            .get(name)
            .map(|value: &HeaderValue| value.to_str().expect("ASCII").trim())
    };
    let method = body.last("method").and_then(Tree::text);
    if let Some(header) = value(METHOD) {
        assert_eq!(Some(header), method);
    }
    let params = body.last("params");
    let stands = |key| {
        params
            .and_then(|params| params.last(key))
            .and_then(Tree::text)
    };
    if let (Some(header), Some(source)) = (value(NAME), method.and_then(mirror::name_source)) {
        assert_eq!(Some(&*decode(header)), stands(source));
    }
    let meta = params.and_then(|params| params.last("_meta"));
    let version = meta
        .and_then(|meta| meta.last(mirror::VERSION_KEY))
        .and_then(Tree::text);
    if let (Some(header), Some(version)) = (value(PROTOCOL_VERSION), version) {
        assert_eq!(header, version);
    }
}

fn decode(value: &str) -> String {
    let encoded = value
        .strip_prefix("=?base64?")
        .and_then(|rest| rest.strip_suffix("?="));
    encoded.map_or_else(
        || value.to_owned(),
        |encoded| {
            let bytes = STANDARD.decode(encoded).expect("it took what is no Base64");
            String::from_utf8(bytes).expect("it took what is no UTF-8")
        },
    )
}
