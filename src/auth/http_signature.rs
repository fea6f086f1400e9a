//! HTTP Message Signatures (RFC 9421), with the body by its `Content-Digest` (RFC 9530).

pub(crate) mod base;

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::{BodyDigest, Unsigned};
use crate::config::{Component, HttpSignature};
use crate::hex;
use crate::key::{self, SigningKey};

pub const SIGNATURE: &str = "signature";
pub const SIGNATURE_INPUT: &str = "signature-input";
pub const CONTENT_DIGEST: &str = "content-digest";

pub struct Signer {
    key: SigningKey,
    /// As it stands in the parameters, quotes and all.
    key_id: String,
    components: Vec<Component>,
    label: String,
    created: bool,
    expires: Option<Duration>,
    nonce: bool,
}

impl Signer {
    pub fn new(config: &HttpSignature) -> Result<Self, String> {
        Ok(Self {
            key: config.signing_key()?,
            key_id: quoted(config.key_id.secret.expose())
                .ok_or("the key's identifier may have printable ASCII characters only")?,
            components: config.components.clone(),
            label: config.label.clone(),
            created: config.created,
            expires: config.expires,
            nonce: config.nonce,
        })
    }

    pub fn covers_body(&self) -> bool {
        let digest = HeaderName::from_static(CONTENT_DIGEST);
        self.components.contains(&Component::Header(digest))
    }

    pub fn sign(&self, request: &Unsigned<'_>, body: &BodyDigest, now: SystemTime) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(4);
        if self.covers_body() {
            let digest = format!("sha-256=:{}:", BASE64.encode(body));
            headers.insert(HeaderName::from_static(CONTENT_DIGEST), text(digest));
        }
        let (lines, names) = base::lines(&self.components, request, &headers);
        let input = format!("({names}){}", self.parameters(now));
        let base = format!("{lines}\"@signature-params\": {input}");
        // Without a signature the upstream refuses the request, which tells more than we could.
        if let Ok(signature) = self.key.sign(base.as_bytes()) {
            let label = &self.label;
            let mut value = text(format!("{label}=:{}:", BASE64.encode(signature)));
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static(SIGNATURE), value);
            let input = text(format!("{label}={input}"));
            headers.insert(HeaderName::from_static(SIGNATURE_INPUT), input);
        }
        headers
    }

    /// RFC 9421, section 2.3.
    fn parameters(&self, now: SystemTime) -> String {
        let seconds = |time: SystemTime| {
            time.duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs()
        };
        let mut parameters = String::new();
        if self.created {
            parameters.push_str(&format!(";created={}", seconds(now)));
        }
        if let Some(expires) = self.expires {
            parameters.push_str(&format!(";expires={}", seconds(now + expires)));
        }
        if self.nonce {
            let nonce = hex::text(&key::nonce().unwrap_or_default());
            parameters.push_str(&format!(";nonce=\"{nonce}\""));
        }
        parameters.push_str(&format!(";keyid={}", self.key_id));
        parameters
    }
}

/// A string of structured fields (RFC 9651, section 3.3.3); `None` if it cannot be one.
fn quoted(bytes: &[u8]) -> Option<String> {
    let mut out = String::from('"');
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            0x20..=0x7e => out.push(char::from(byte)),
            _ => return None,
        }
    }
    out.push('"');
    Some(out)
}

fn text(ascii: String) -> HeaderValue {
    // Labels, names and identifiers were checked; the rest is our own.
    HeaderValue::try_from(ascii).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests;
