//! How a request proves to its upstream who sends it: one enum, one file per scheme.
//!
//! A request's way through it: [`Auth::ready`] gets what it signs with (a token may have to be
//! fetched, a body digested), [`Auth::sign`] makes the headers of one attempt, and
//! [`Auth::refused`] says whether a 401 is worth a second one.

mod added;
mod aws;
mod bearer;
mod fixed;
pub mod gateway;
pub(crate) mod http_signature;
mod oauth;
mod redact;

pub use added::Added;
pub use redact::{pieces, redact};

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use aws_lc_rs::digest::{self, SHA256};
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, PROXY_AUTHORIZATION};
use http::{Method, Uri};
use slog::Logger;

use crate::client::ProxyVariables;
use crate::config::{Credential, CredentialScheme, Target};
use crate::metrics::CredentialMetrics;
use crate::wipe;

/// A credential ready for use: its key material is scheduled once.
pub struct Auth(Scheme);

enum Scheme {
    Gateway(Box<gateway::Gateway>),
    Headers(fixed::Headers),
    Bearer(bearer::Bearer),
    Oauth(Arc<oauth::Tokens>),
    HttpSignature(Box<http_signature::Signer>),
    Aws(Box<aws::Signer>),
}

/// What credentials report to and reach their issuers by.
pub struct Surroundings<'a> {
    pub proxies: &'a ProxyVariables,
    pub metrics: Arc<CredentialMetrics>,
    pub log: &'a Logger,
}

/// The SHA-256 of a request's body.
pub type BodyDigest = [u8; 32];

/// What one request is signed with, on each of its attempts.
pub struct Ticket {
    grant: Grant,
    digest: Option<BodyDigest>,
}

enum Grant {
    Fixed,
    Key(gateway::Which),
    Token(Arc<oauth::Token>),
}

/// A request that is final but for its credential.
pub struct Unsigned<'a> {
    pub method: &'a Method,
    /// Path and query as they go on the wire.
    pub uri: &'a Uri,
    pub headers: &'a HeaderMap,
    /// Where the request goes: scheme and authority.
    pub target: &'a Target,
}

/// There is nothing to sign with now; says why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable(pub String);

/// What an operator may know of a credential.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Seconds until the token expires, and until it is fetched anew.
    pub token_expires_in: Option<u64>,
    pub token_refresh_in: Option<u64>,
    /// Why there is no fresh token.
    pub error: Option<String>,
    /// Whether requests can be signed all the same.
    pub is_usable: bool,
    /// The gateway takes the previous key only.
    pub previous_in_use: bool,
    /// There is a previous key, until then or (the inner `None`) for as long as it is configured.
    pub previous_until: Option<Option<SystemTime>>,
}

impl Auth {
    /// # Errors
    /// A sentence about a key or value that is unfit for its scheme. Configurations are checked
    /// for that, but a secret may change later.
    pub fn new(credential: &Credential, around: &Surroundings<'_>) -> Result<Self, String> {
        let made = Self::make(credential, around);
        // What a key is derived through was on the stack, and may lie there for as long as no
        // call goes so deep again.
        wipe::stack();
        made
    }

    fn make(credential: &Credential, around: &Surroundings<'_>) -> Result<Self, String> {
        let scheme = match &credential.scheme {
            CredentialScheme::AuthGateway(config) => {
                gateway::Gateway::new(&credential.name, config, around)
                    .map(Box::new)
                    .map(Scheme::Gateway)
            }
            CredentialScheme::Headers(headers) => fixed::Headers::new(headers).map(Scheme::Headers),
            CredentialScheme::Bearer { token } => bearer::Bearer::new(token).map(Scheme::Bearer),
            CredentialScheme::OauthClientCredentials(config) => {
                oauth::Tokens::new(&credential.name, config, around)
                    .map(Arc::new)
                    .map(Scheme::Oauth)
            }
            CredentialScheme::HttpSignature(config) => http_signature::Signer::new(config)
                .map(Box::new)
                .map(Scheme::HttpSignature),
            CredentialScheme::AwsSigv4(config) => {
                aws::Signer::new(config).map(Box::new).map(Scheme::Aws)
            }
        };
        scheme.map(Self)
    }

    /// The scheme's name in the configuration.
    pub fn scheme(&self) -> &'static str {
        match &self.0 {
            Scheme::Gateway(_) => "auth-gateway",
            Scheme::Headers(_) => "headers",
            Scheme::Bearer(_) => "bearer",
            Scheme::Oauth(_) => "oauth-client-credentials",
            Scheme::HttpSignature(_) => "http-signature",
            Scheme::Aws(_) => "aws-sigv4",
        }
    }

    /// Whether the body is signed too, and must be there whole before anything is sent.
    pub fn covers_body(&self) -> bool {
        match &self.0 {
            Scheme::Gateway(gateway) => gateway.covers_body(),
            Scheme::HttpSignature(signer) => signer.covers_body(),
            Scheme::Aws(_) => true,
            Scheme::Headers(_) | Scheme::Bearer(_) | Scheme::Oauth(_) => false,
        }
    }

    /// Whether a request that is refused with 401 can be signed in another way.
    pub fn may_sign_again(&self) -> bool {
        match &self.0 {
            Scheme::Gateway(gateway) => gateway.has_previous(),
            Scheme::Oauth(_) => true,
            _ => false,
        }
    }

    /// Whether this credential has a header of this name: no client's may pass.
    pub fn owns(&self, name: &HeaderName) -> bool {
        match &self.0 {
            Scheme::Gateway(gateway) => gateway.owns(name),
            Scheme::Headers(headers) => headers.owns(name),
            _ => false,
        }
    }

    /// What one request is signed with. `body` is needed if [`Auth::covers_body`].
    ///
    /// Waits for a token where there is none; the caller sets the deadline.
    ///
    /// # Errors
    /// [`Unavailable`] when the issuer gave no token.
    pub async fn ready(&self, body: Option<&Bytes>) -> Result<Ticket, Unavailable> {
        let grant = match &self.0 {
            Scheme::Gateway(gateway) => Grant::Key(gateway.choose(Instant::now())),
            Scheme::Oauth(tokens) => Grant::Token(tokens.token().await?),
            _ => Grant::Fixed,
        };
        let digest = self.covers_body().then(|| {
            let digest = digest::digest(&SHA256, body.map_or(&[], |body| body));
            let mut bytes = BodyDigest::default();
            bytes.copy_from_slice(digest.as_ref());
            bytes
        });
        Ok(Ticket { grant, digest })
    }

    /// The credential's headers for one attempt at a request, as of `now`.
    ///
    /// They replace what the request may have under the same names.
    pub fn sign(&self, ticket: &Ticket, request: &Unsigned<'_>, now: SystemTime) -> Added {
        let digest = ticket.digest.unwrap_or_default();
        match (&self.0, &ticket.grant) {
            (Scheme::Gateway(gateway), Grant::Key(which)) => {
                gateway.sign(*which, request, ticket.digest.as_ref(), now)
            }
            (Scheme::Headers(headers), _) => headers.all(),
            (Scheme::Bearer(bearer), _) => bearer.header(),
            (Scheme::Oauth(_), Grant::Token(token)) => token.header(),
            (Scheme::HttpSignature(signer), _) => signer.sign(request, &digest, now).into(),
            (Scheme::Aws(signer), _) => signer.sign(request, &digest, now).into(),
            // A ticket is used with the credential that made it.
            (Scheme::Gateway(_) | Scheme::Oauth(_), _) => Added::default(),
        }
    }

    /// The upstream answered 401. Returns whether a request signed anew may fare better.
    pub fn refused(&self, ticket: &Ticket, now: Instant) -> bool {
        match (&self.0, &ticket.grant) {
            (Scheme::Gateway(gateway), Grant::Key(which)) => gateway.refused(*which, now),
            (Scheme::Oauth(tokens), Grant::Token(token)) => tokens.refused(token, now),
            _ => false,
        }
    }

    /// The ticket to try again with after [`Auth::refused`] said so.
    ///
    /// # Errors
    /// As [`Auth::ready`].
    pub async fn again(&self, refused: Ticket) -> Result<Ticket, Unavailable> {
        let grant = match (&self.0, refused.grant) {
            (Scheme::Gateway(_), Grant::Key(which)) => Grant::Key(which.other()),
            (Scheme::Oauth(tokens), _) => Grant::Token(tokens.token().await?),
            (_, grant) => grant,
        };
        Ok(Ticket { grant, ..refused })
    }

    /// The upstream took what the ticket signed.
    pub fn accepted(&self, ticket: &Ticket, now: Instant) {
        if let (Scheme::Gateway(gateway), Grant::Key(which)) = (&self.0, &ticket.grant) {
            gateway.accepted(*which, now);
        }
    }

    /// Gets what the first request would have to wait for. Failures show in [`Auth::standing`].
    pub async fn warm_up(&self) {
        if let Scheme::Oauth(tokens) = &self.0 {
            let _ = tokens.token().await;
        }
    }

    pub fn standing(&self, now: Instant) -> Standing {
        match &self.0 {
            Scheme::Oauth(tokens) => tokens.standing(now),
            Scheme::Gateway(gateway) => Standing {
                is_usable: true,
                previous_in_use: gateway.choose(now) == gateway::Which::Previous,
                previous_until: gateway.previous_until(),
                ..Standing::default()
            },
            _ => Standing {
                is_usable: true,
                ..Standing::default()
            },
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
                | http_signature::SIGNATURE
                | http_signature::SIGNATURE_INPUT
                | aws::CONTENT_SHA256
                | aws::DATE
                | aws::SECURITY_TOKEN
        )
}
