//! The gateway's check: the same work for a request that is signed and one that is not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

/// How far a timestamp may be from the clock.
const WINDOW: Duration = Duration::from_secs(300);

pub struct Gateway {
    mac: Hmac<Sha256>,
    accepted: AtomicU64,
    refused: AtomicU64,
    unsigned: AtomicU64,
}

/// What of a request's head is checked.
#[derive(Default)]
pub struct Claim<'a> {
    pub key_id: Option<&'a [u8]>,
    pub timestamp: Option<&'a [u8]>,
    pub signature: Option<&'a [u8]>,
    /// One of the three came twice.
    pub is_ambiguous: bool,
}

impl<'a> Claim<'a> {
    /// Takes note of a header, `name` in lower case.
    pub fn note(&mut self, name: &str, value: &'a [u8]) {
        let place = match name {
            "x-api-key-id" => &mut self.key_id,
            "x-timestamp" => &mut self.timestamp,
            "x-signature" => &mut self.signature,
            _ => return,
        };
        self.is_ambiguous |= place.replace(value).is_some();
    }
}

impl Gateway {
    pub fn new(secret: &[u8]) -> Self {
        Self {
            mac: Hmac::new_from_slice(secret).expect("HMAC takes keys of any length"),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            unsigned: AtomicU64::new(0),
        }
    }

    /// Whether to answer at all: a signature may be missing, but not wrong.
    pub fn admits(&self, method: &str, path: &str, claim: &Claim<'_>) -> bool {
        let timestamp = claim.timestamp.unwrap_or(b"2026-11-22T09:00:00Z");
        let mut mac = self.mac.clone();
        mac.update(method.as_bytes());
        mac.update(b"\n");
        mac.update(path.as_bytes());
        mac.update(b"\n");
        mac.update(timestamp);
        let digest = mac.finalize().into_bytes();
        let is_right = claim.key_id.is_some()
            && claim.signature.is_some_and(|hex| is_hex_of(hex, &digest))
            && is_recent(timestamp)
            && !claim.is_ambiguous;
        let is_unsigned =
            claim.key_id.is_none() && claim.signature.is_none() && claim.timestamp.is_none();
        let count = match (is_unsigned, is_right) {
            (true, _) => &self.unsigned,
            (_, true) => &self.accepted,
            (_, false) => &self.refused,
        };
        count.fetch_add(1, Ordering::Relaxed);
        is_unsigned || is_right
    }

    pub fn counts(&self) -> Value {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        json!({
            "accepted": read(&self.accepted),
            "refused": read(&self.refused),
            "unsigned": read(&self.unsigned),
        })
    }
}

fn is_hex_of(hex: &[u8], digest: &[u8]) -> bool {
    let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
    hex.len() == digest.len() * 2
        && hex
            .chunks_exact(2)
            .zip(digest)
            .all(|(pair, byte)| pair == [digit(byte >> 4), digit(byte & 15)])
}

fn is_recent(timestamp: &[u8]) -> bool {
    let parsed = std::str::from_utf8(timestamp)
        .ok()
        .and_then(|text| humantime::parse_rfc3339(text).ok());
    let now = SystemTime::now();
    parsed.is_some_and(|then| {
        let off = now
            .duration_since(then)
            .or_else(|_| then.duration_since(now));
        off.is_ok_and(|off| off <= WINDOW)
    })
}
