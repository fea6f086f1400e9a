//! What is asked: everything about a request that may change its result, in one digest.
//!
//! MCP names method and parameters (2026-07-28, "Caching", section "Cache Key").
//! Servers also look at who asks (`clientInfo`), at what it can do
//! (`clientCapabilities`), at its protocol version, language and headers of their
//! own. So all of `_meta` and all headers count, but for those that are known to
//! differ from one request to the next without any bearing on its result.

use std::borrow::Cow;
use std::fmt;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::auth;
use crate::mcp::cacheable::Kind;
use crate::mcp::{self, mirror};
use crate::message;

const IGNORED_HEADERS: [&str; 12] = [
    "accept",
    "accept-encoding",
    "baggage",
    "content-length",
    "cookie",
    "expect",
    "host",
    "traceparent",
    "tracestate",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-request-id",
];

const IGNORED_META: [&str; 4] = ["baggage", "progressToken", "traceparent", "tracestate"];

/// What has been answered once by the user is no part of any key.
const ROUND_TRIP: [&str; 2] = ["inputResponses", "requestState"];

pub struct Question {
    pub kind: Kind,
    pub digest: [u8; 32],
    /// Of the resource that is read.
    pub uri: Option<Box<str>>,
    /// JSON as it stood in the request.
    pub id: Box<str>,
    /// Whether it is asked in 2026-07-28 or later, where results say how long they are good for.
    pub is_stateless: bool,
}

impl Question {
    /// `None` for whatever is no single request for a cacheable result.
    ///
    /// `across_sessions` leaves the session out of the digest.
    pub fn read(
        head: &Parts,
        target: &PathAndQuery,
        body: &[u8],
        across_sessions: bool,
    ) -> Option<Self> {
        let Members(request) = serde_json::from_slice(body).ok()?;
        let member = |name: &str| request.iter().find(|(key, _)| key == name).map(|(_, v)| *v);
        let method: Text<'_> = serde_json::from_str(member("method")?.get()).ok()?;
        let kind = Kind::of(&method.0)?;
        let id = member("id")?.get();
        if !id.starts_with(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
            return None;
        }
        let params = members(member("params"))?;
        if params.iter().any(|(key, _)| ROUND_TRIP.contains(&&**key)) {
            return None;
        }
        let value = |name: &str| params.iter().find(|(key, _)| key == name).map(|(_, v)| *v);
        let uri = match kind {
            Kind::Read => {
                let uri: Text<'_> = serde_json::from_str(value("uri")?.get()).ok()?;
                Some(uri.0.into())
            }
            _ => None,
        };
        let meta = members(value("_meta"))?;
        let mut digest = Sums(Sha256::new());
        digest.add(method.0.as_bytes());
        digest.add(target.as_str().as_bytes());
        digest.members(params.iter().filter(|(key, _)| key != "_meta"));
        digest.members(
            meta.iter()
                .filter(|(key, _)| !IGNORED_META.contains(&&**key)),
        );
        digest.add(host(head));
        digest.headers(&head.headers, across_sessions);
        Some(Self {
            kind,
            digest: digest.0.finalize().into(),
            uri,
            id: id.into(),
            is_stateless: mcp::is_stateless(&head.headers),
        })
    }
}

/// What the upstream is told in `X-Forwarded-Host`, and may write into links.
fn host(head: &Parts) -> &[u8] {
    let authority = head
        .uri
        .authority()
        .map(|authority| authority.as_str().as_bytes());
    let header = head.headers.get(header::HOST).map(HeaderValue::as_bytes);
    header.or(authority).unwrap_or_default()
}

/// Whether a client takes an answer that is plain JSON.
pub fn accepts_json(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .any(|range| {
            ["application/json", "application/*", "*/*"]
                .iter()
                .any(|json| range.trim().eq_ignore_ascii_case(json))
        })
}

/// Sums up parts so that no two lists of parts are the same.
struct Sums(Sha256);

impl Sums {
    fn add(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    /// Whatever order they came in.
    fn pairs<'a>(&mut self, pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort_unstable();
        self.0.update((pairs.len() as u64).to_le_bytes());
        for (key, value) in pairs {
            self.add(key);
            self.add(value);
        }
    }

    fn members<'a>(&mut self, members: impl Iterator<Item = &'a (Cow<'a, str>, &'a RawValue)>) {
        self.pairs(members.map(|(key, value)| (key.as_bytes(), value.get().as_bytes())));
    }

    fn headers(&mut self, headers: &HeaderMap, across_sessions: bool) {
        let counts = |name: &HeaderName| {
            !(IGNORED_HEADERS.contains(&name.as_str())
                || message::is_hop_by_hop(name)
                || auth::is_credential_header(name)
                || across_sessions && *name == mirror::SESSION_ID)
        };
        let counting = headers.iter().filter(|(name, _)| counts(name));
        self.pairs(counting.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())));
    }
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// An object's members. One that has a key twice is none: servers could differ on what it says.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

fn members(object: Option<&RawValue>) -> Option<Vec<(Cow<'_, str>, &RawValue)>> {
    let Some(object) = object else {
        return Some(Vec::new());
    };
    let Members(members) = serde_json::from_str(object.get()).ok()?;
    Some(members)
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
                while let Some((Text(key), value)) = map.next_entry()? {
                    if members.len() == MAX_MEMBERS || members.iter().any(|(k, _)| *k == key) {
                        return Err(A::Error::custom("a key comes twice, or there are too many"));
                    }
                    members.push((key, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// No request for a list or a resource has nearly as many; comparing each with each stays cheap.
const MAX_MEMBERS: usize = 64;

#[cfg(test)]
mod tests;
