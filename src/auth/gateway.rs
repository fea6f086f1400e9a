//! The auth-gateway signature, version 1.
//!
//! `x-signature` is the lower-case hex of HMAC-SHA256 over METHOD LF PATH LF
//! TIMESTAMP, where PATH is the request path without its query, percent-decoded
//! exactly once. The gateway accepts a signature for 300 seconds, and it covers
//! neither body, query nor host: whoever reads one holds a key for that long,
//! so it is treated as a secret.

use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use sha2::Sha256;

use crate::path;
use crate::secret::Secret;

pub const KEY_ID: &str = "x-api-key-id";
pub const TIMESTAMP: &str = "x-timestamp";
pub const SIGNATURE: &str = "x-signature";

/// Length of `2026-11-22T09:00:00Z`.
const TIMESTAMP_LEN: usize = 20;
/// Hex digits of a SHA-256.
const SIGNATURE_LEN: usize = 64;

/// A key id and its secret, the latter only as a keyed MAC.
#[derive(Clone)]
pub struct Key {
    id: HeaderValue,
    mac: Hmac<Sha256>,
}

/// The headers of one attempt.
pub struct Signed {
    pub key_id: HeaderValue,
    pub timestamp: HeaderValue,
    pub signature: HeaderValue,
}

impl Key {
    pub fn new(id: HeaderValue, secret: &Secret) -> Self {
        let mac = Hmac::new_from_slice(secret.expose()).expect("HMAC takes keys of any length");
        Self { id, mac }
    }

    /// Signs `method` and `raw_path` (as it stands on the wire) at `now`.
    pub fn sign(&self, method: &Method, raw_path: &str, now: SystemTime) -> Signed {
        let timestamp = timestamp(now);
        let mut mac = self.mac.clone();
        mac.update(method.as_str().as_bytes());
        mac.update(b"\n");
        mac.update(&path::decode(raw_path));
        mac.update(b"\n");
        mac.update(&timestamp);
        let mut hex = [0; SIGNATURE_LEN];
        encode_hex(&mac.finalize().into_bytes(), &mut hex);
        let mut signature = header_value(&hex);
        signature.set_sensitive(true);
        Signed {
            key_id: self.id.clone(),
            timestamp: header_value(&timestamp),
            signature,
        }
    }
}

impl Signed {
    pub fn write_to(self, headers: &mut HeaderMap) {
        headers.insert(HeaderName::from_static(KEY_ID), self.key_id);
        headers.insert(HeaderName::from_static(TIMESTAMP), self.timestamp);
        headers.insert(HeaderName::from_static(SIGNATURE), self.signature);
    }
}

/// Takes the signature in `sent` out of a text that may echo it, and that may be cut anywhere.
pub fn redact(sent: &HeaderMap, text: &str) -> String {
    let Some(signature) = sent.get(SIGNATURE).and_then(|value| value.to_str().ok()) else {
        return text.to_owned();
    };
    let mut text = replace_ignoring_case(text, signature, "[signature]");
    text.truncate(text.len() - begun(&text, signature));
    text
}

/// How many bytes at the end of `text` are the beginning of `needle`; few enough tell nothing.
fn begun(text: &str, needle: &str) -> usize {
    const TELLING: usize = 8;
    let lower = text.to_ascii_lowercase();
    (TELLING..needle.len())
        .rev()
        .find(|&len| lower.ends_with(&needle[..len]))
        .unwrap_or(0)
}

fn replace_ignoring_case(text: &str, needle: &str, with: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for (at, found) in lower.match_indices(needle) {
        out.push_str(&text[from..at]);
        out.push_str(with);
        from = at + found.len();
    }
    out.push_str(&text[from..]);
    out
}

/// RFC 3339, UTC, whole seconds.
fn timestamp(now: SystemTime) -> [u8; TIMESTAMP_LEN] {
    use std::io::Write;
    let mut buffer = [0; TIMESTAMP_LEN];
    // humantime writes exactly 20 bytes for every year up to 9999.
    let _ = write!(
        &mut buffer[..],
        "{}",
        humantime::format_rfc3339_seconds(now)
    );
    buffer
}

fn encode_hex(bytes: &[u8], out: &mut [u8; SIGNATURE_LEN]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

fn header_value(ascii: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(ascii).expect("digits and letters are legal in a header")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const VECTORS: &str = include_str!("gateway/vectors.json");

    fn sign(case: &serde_json::Value) -> Signed {
        let text = |name: &str| case[name].as_str().unwrap();
        let key = Key::new(
            HeaderValue::from_str(text("key_id")).unwrap(),
            &Secret::new(text("secret").as_bytes().to_vec()),
        );
        let method = text("method").parse().unwrap();
        let uri: http::Uri = text("request_target").parse().unwrap();
        let now = humantime::parse_rfc3339(text("timestamp")).unwrap();
        key.sign(&method, uri.path(), now)
    }

    #[test]
    fn every_published_vector_is_reproduced() {
        let vectors: serde_json::Value = serde_json::from_str(VECTORS).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert!(cases.len() >= 16);
        for case in cases {
            let signed = sign(case);
            assert_eq!(
                signed.signature,
                case["signature"].as_str().unwrap(),
                "{}",
                case["name"]
            );
            assert_eq!(signed.timestamp, case["timestamp"].as_str().unwrap());
            assert_eq!(signed.key_id, case["key_id"].as_str().unwrap());
        }
    }

    #[test]
    fn a_later_attempt_has_a_later_timestamp_and_another_signature() {
        let key = Key::new(HeaderValue::from_static("k"), &Secret::new(b"s".to_vec()));
        let first = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let one = key.sign(&Method::POST, "/mcp", first);
        let two = key.sign(&Method::POST, "/mcp", first + Duration::from_secs(1));
        assert_ne!(one.signature, two.signature);
        assert_eq!(two.timestamp, "2023-11-14T22:13:21Z");
    }

    #[test]
    fn headers_of_the_same_name_are_replaced_not_added() {
        let key = Key::new(HeaderValue::from_static("k"), &Secret::new(b"s".to_vec()));
        let mut headers = HeaderMap::new();
        headers.append(SIGNATURE, HeaderValue::from_static("forged"));
        headers.append(SIGNATURE, HeaderValue::from_static("twice"));
        key.sign(&Method::GET, "/", SystemTime::now())
            .write_to(&mut headers);
        assert_eq!(headers.get_all(SIGNATURE).iter().count(), 1);
        assert_ne!(headers[SIGNATURE], "forged");
    }

    #[test]
    fn the_beginning_of_a_signature_at_the_end_of_a_cut_text_is_taken_out_too() {
        let mut sent = HeaderMap::new();
        sent.insert(SIGNATURE, HeaderValue::from_static("abcdef0123456789"));
        assert_eq!(redact(&sent, "bad: ABCDEF01234567"), "bad: ");
        assert_eq!(redact(&sent, "abcdef0123456789 abcdef0123"), "[signature] ");
        assert_eq!(redact(&sent, "a cab"), "a cab");
    }

    #[test]
    fn an_echoed_signature_is_taken_out_whatever_its_case() {
        let mut sent = HeaderMap::new();
        sent.insert(SIGNATURE, HeaderValue::from_static("abcdef0123"));
        assert_eq!(
            redact(&sent, "bad é ABCDEF0123, sorry"),
            "bad é [signature], sorry"
        );
    }
}
