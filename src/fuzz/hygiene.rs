//! Headers on their way upstream: each passes as it came, or is dropped by a rule; nothing else happens.
//!
//! The rules are written here anew, over bytes.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::proxy::head;

const DROPPED: [&str; 22] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "signature",
    "signature-input",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
    "x-api-key-id",
    "x-mcp-auth-credential",
    "x-mcp-auth-proxy-timeout",
    "x-signature",
    "x-timestamp",
];
/// Passes where the upstream takes the client's own.
const CLIENTS_OWN: [&str; 2] = ["authorization", "cookie"];
/// Stands for the headers of a credential that has names of its own.
const OF_CREDENTIAL: &str = "x-own-key";

type Fields = Vec<(String, Vec<u8>)>;

/// The first byte says whether the client's `Authorization` passes; then a field a line.
pub fn check(data: &[u8]) {
    let Some((flags, data)) = data.split_first() else {
        return;
    };
    let forwards = flags & 1 == 1;
    let mut headers = HeaderMap::new();
    let mut sent = Fields::new();
    for line in data.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            sent.push((name.as_str().to_owned(), value.as_bytes().to_vec()));
            headers.append(name, value);
        }
    }
    let is_own = |name: &HeaderName| name == OF_CREDENTIAL;
    head::clean(&mut headers, forwards, is_own);
    head::remove_disguised(&mut headers, is_own);
    let passed = headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
    assert_eq!(sorted(passed.collect()), sorted(expected(sent, forwards)));
}

/// The values of each name stay in their order.
fn sorted(mut fields: Fields) -> Fields {
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    fields
}

fn expected(sent: Fields, forwards: bool) -> Fields {
    let named: Vec<Vec<u8>> = sent
        .iter()
        .filter(|(name, _)| name == "connection")
        .flat_map(|(_, value)| value.split(|byte| *byte == b','))
        .map(|option| option.trim_ascii().to_ascii_lowercase())
        .collect();
    let is_dropped = |name: &str, forwards: bool| {
        DROPPED.contains(&name)
            || name == OF_CREDENTIAL
            || (!forwards && CLIENTS_OWN.contains(&name))
    };
    let plain: Fields = sent
        .into_iter()
        .filter(|(name, _)| !is_dropped(name, forwards))
        .filter(|(name, _)| !named.iter().any(|named| named == name.as_bytes()))
        .collect();
    let is_disguised = |name: &str| {
        let dashed = name.replace('_', "-");
        dashed != name
            && (dashed == "x-forwarded-for"
                || is_dropped(&dashed, false)
                || plain.iter().any(|(other, _)| *other == dashed))
    };
    let is_kept = |(name, _): &&(String, Vec<u8>)| !is_disguised(name);
    plain.iter().filter(is_kept).cloned().collect()
}
