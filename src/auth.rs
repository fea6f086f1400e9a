//! How a request proves to its upstream who sends it: one enum, one file per scheme.

pub mod gateway;

use std::time::SystemTime;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, PROXY_AUTHORIZATION};
use http::{Method, Uri};

use crate::config::CredentialScheme;

/// A credential ready for use: its key material is scheduled once, then cloned per attempt.
#[derive(Clone)]
pub enum Auth {
    Gateway(gateway::Key),
}

impl Auth {
    pub fn new(scheme: &CredentialScheme) -> Self {
        match scheme {
            CredentialScheme::AuthGateway { key_id, secret } => {
                Self::Gateway(gateway::Key::new(key_id.clone(), secret))
            }
        }
    }

    /// Adds this credential's headers to one attempt at a request whose URI is final.
    ///
    /// Called once per attempt, with the time of that attempt. What the client
    /// may have sent under the same names is replaced.
    pub fn apply(&self, method: &Method, uri: &Uri, headers: &mut HeaderMap, now: SystemTime) {
        match self {
            Self::Gateway(key) => key.sign(method, uri.path(), now).write_to(headers),
        }
    }

    /// Replaces whatever in `text` would let its reader act as us: upstreams echo requests.
    pub fn redact(&self, sent: &HeaderMap, text: &str) -> String {
        match self {
            Self::Gateway(_) => gateway::redact(sent, text),
        }
    }
}

/// Whether `name` carries a credential in any scheme we know.
///
/// Such headers are removed from every client's request: exactly one of each,
/// ours, may reach an upstream.
pub fn is_credential_header(name: &HeaderName) -> bool {
    *name == AUTHORIZATION
        || *name == PROXY_AUTHORIZATION
        || matches!(
            name.as_str(),
            gateway::KEY_ID
                | gateway::TIMESTAMP
                | gateway::SIGNATURE
                | "signature"
                | "signature-input"
                | "x-amz-content-sha256"
                | "x-amz-date"
                | "x-amz-security-token"
        )
}
