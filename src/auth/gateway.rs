//! The auth-gateway signature, version 1.
//!
//! `x-signature` is the lower-case hex of HMAC-SHA256 over METHOD LF PATH LF
//! TIMESTAMP, where PATH is the request path without its query, percent-decoded
//! exactly once. The gateway accepts a signature for 300 seconds, and it covers
//! neither body, query nor host: whoever reads one holds a key for that long,
//! so it is treated as a secret.
//!
//! Gateways of the same family may want other header names, and a line with a
//! nonce or with the body's SHA-256 (lower-case hex) after these, in this order.

mod preference;

use std::cell::RefCell;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use http::header::{HeaderName, HeaderValue};
use sha2::Sha256;
use slog::{Logger, info, warn};

use super::{Added, BodyDigest, Surroundings, Unsigned};
use crate::config::{AuthGateway, GatewayHeaders, GatewayKey, PreviousKey};
use crate::hex;
use crate::key;
use crate::metrics::CredentialMetrics;
use crate::path;

pub use self::preference::Which;
use self::preference::{Change, Preference};

pub const KEY_ID: &str = "x-api-key-id";
pub const TIMESTAMP: &str = "x-timestamp";
pub const SIGNATURE: &str = "x-signature";

/// A credential for gateways of this family: its key, and the one before it.
pub struct Gateway {
    key: Key,
    previous: Option<Previous>,
    headers: GatewayHeaders,
    preference: Preference,
    name: String,
    metrics: Arc<CredentialMetrics>,
    log: Logger,
}

/// The key before, and when its time is over.
struct Previous {
    key: Key,
    until: Option<SystemTime>,
}

/// A key id and its secret, the latter only as a keyed MAC.
struct Key {
    id: HeaderValue,
    mac: Hmac<Sha256>,
}

impl Gateway {
    pub fn new(
        name: &str,
        config: &AuthGateway,
        around: &Surroundings<'_>,
    ) -> Result<Self, String> {
        Ok(Self {
            key: Key::new(&config.key)?,
            previous: config.previous.as_ref().map(Previous::new).transpose()?,
            headers: config.headers.clone(),
            preference: Preference::default(),
            name: name.to_owned(),
            metrics: Arc::clone(&around.metrics),
            log: around.log.clone(),
        })
    }

    pub fn covers_body(&self) -> bool {
        self.headers.digest.is_some()
    }

    /// Whether there is a previous key whose time is not over.
    pub fn has_previous(&self) -> bool {
        self.has_previous_at(SystemTime::now)
    }

    fn has_previous_at(&self, now: impl FnOnce() -> SystemTime) -> bool {
        let previous = self.previous.as_ref();
        previous.is_some_and(|previous| previous.until.is_none_or(|until| now() < until))
    }

    /// Until when there is a previous key; the inner `None`: for as long as it is configured.
    pub fn previous_until(&self) -> Option<Option<SystemTime>> {
        let previous = self.previous.as_ref().filter(|_| self.has_previous());
        previous.map(|previous| previous.until)
    }

    pub fn owns(&self, name: &HeaderName) -> bool {
        let headers = &self.headers;
        [&headers.key_id, &headers.timestamp, &headers.signature].contains(&name)
            || headers.nonce.as_ref() == Some(name)
            || headers.digest.as_ref() == Some(name)
    }

    /// Which key the next request is signed with.
    pub fn choose(&self, now: Instant) -> Which {
        if self.has_previous() {
            self.preference.choose(now)
        } else {
            Which::Present
        }
    }

    /// Whether the other key may be taken.
    pub fn refused(&self, which: Which, now: Instant) -> bool {
        self.has_previous() && self.preference.refused(which, now)
    }

    pub fn accepted(&self, which: Which, now: Instant) {
        if self.previous.is_none() {
            return;
        }
        if which == Which::Previous {
            self.metrics.previous_used();
        }
        match self.preference.accepted(which, now) {
            Some(Change::ToPrevious) => {
                warn!(self.log, "the gateway refuses the key and still takes the previous one";
                    "credential" => &self.name);
            }
            Some(Change::ToPresent) => {
                info!(self.log, "the gateway takes the key; the previous one can be removed";
                    "credential" => &self.name);
            }
            None => {}
        }
    }

    pub fn sign(
        &self,
        which: Which,
        request: &Unsigned<'_>,
        body: Option<&BodyDigest>,
        now: SystemTime,
    ) -> Added {
        let key = match (which, &self.previous) {
            (Which::Previous, Some(previous)) => &previous.key,
            _ => &self.key,
        };
        let timestamp = timestamp(now);
        let mut mac = key.mac.clone();
        mac.update(request.method.as_str().as_bytes());
        mac.update(b"\n");
        mac.update(&path::decode(request.uri.path()));
        mac.update(b"\n");
        mac.update(timestamp.as_bytes());
        let mut added = Vec::with_capacity(3);
        let mut line = |name: &HeaderName, text: String| {
            mac.update(b"\n");
            mac.update(text.as_bytes());
            added.push((name.clone(), header_value(text)));
        };
        if let Some(name) = &self.headers.nonce {
            line(name, hex::text(&key::nonce().unwrap_or_default()));
        }
        if let (Some(name), Some(body)) = (&self.headers.digest, body) {
            line(name, hex::text(body));
        }
        let mut signature = header_value(hex::text(&mac.finalize().into_bytes()));
        signature.set_sensitive(true);
        let own = [
            (&self.headers.key_id, key.id.clone()),
            (&self.headers.timestamp, timestamp),
            (&self.headers.signature, signature),
        ];
        added.extend(own.map(|(name, value)| (name.clone(), value)));
        added.into_iter().collect()
    }
}

impl Previous {
    fn new(config: &PreviousKey) -> Result<Self, String> {
        Ok(Self {
            key: Key::new(&config.key)?,
            until: config.until,
        })
    }
}

impl Key {
    fn new(config: &GatewayKey) -> Result<Self, String> {
        let id = config.key_id.header_value();
        Ok(Self {
            id: id.ok_or("the identifier has characters that no HTTP header may hold")?,
            mac: Hmac::new_from_slice(config.secret.expose())
                .expect("HMAC takes keys of any length"),
        })
    }
}

/// RFC 3339, UTC, whole seconds.
fn timestamp(now: SystemTime) -> HeaderValue {
    thread_local! {
        /// The last one made, and for which second.
        static LAST: RefCell<Option<(u64, HeaderValue)>> = const { RefCell::new(None) };
    }
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    let second = since.unwrap_or_default().as_secs();
    LAST.with_borrow_mut(|last| match last {
        Some((of, text)) if *of == second => text.clone(),
        _ => {
            let second_of = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            let mut text = String::with_capacity(20);
            // It writes years up to 9999 and fails at others.
            let _ = write!(text, "{}", humantime::format_rfc3339_seconds(second_of));
            let text = header_value(text);
            *last = Some((second, text.clone()));
            text
        }
    })
}

fn header_value(ascii: String) -> HeaderValue {
    HeaderValue::try_from(ascii).expect("digits and letters are legal in a header")
}

#[cfg(test)]
mod tests;
