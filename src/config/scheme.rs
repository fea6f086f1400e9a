//! What each scheme of a credential was told: one type per scheme, named after its sub-table.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{Target, Tls};
use crate::key::{Algorithm, SigningKey};
use crate::secret::Secret;

#[derive(Debug, Clone, PartialEq)]
pub enum CredentialScheme {
    AuthGateway(Box<AuthGateway>),
    Headers(Vec<(HeaderName, Text)>),
    Bearer { token: Secret },
    OauthClientCredentials(Box<Oauth>),
    HttpSignature(Box<HttpSignature>),
    AwsSigv4(Box<AwsSigv4>),
}

/// What travels in a header and may be nobody else's business: a string, or a secret.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    pub secret: Secret,
    /// Whether it came from a secret's source rather than from the file itself.
    pub hidden: bool,
}

impl Text {
    /// `None` if a header may not hold it.
    pub fn header_value(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_bytes(self.secret.expose()).ok()?;
        value.set_sensitive(self.hidden);
        Some(value)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct AuthGateway {
    pub key: GatewayKey,
    /// What was valid before, for as long as the gateway may not know `key` yet.
    pub previous: Option<PreviousKey>,
    pub headers: GatewayHeaders,
}

#[derive(Debug, Clone, PartialEq)]
pub struct PreviousKey {
    pub key: GatewayKey,
    /// From then on it is not used.
    pub until: Option<SystemTime>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct GatewayKey {
    pub key_id: Text,
    pub secret: Secret,
}

/// Where the parts of the signature go, for gateways of the same family.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewayHeaders {
    pub key_id: HeaderName,
    pub timestamp: HeaderName,
    pub signature: HeaderName,
    /// Adds a line with a nonce to what is signed.
    pub nonce: Option<HeaderName>,
    /// Adds a line with the body's SHA-256 to what is signed.
    pub digest: Option<HeaderName>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Oauth {
    pub issuer: TokenIssuer,
    pub client_id: Text,
    pub client: ClientProof,
    pub scope: Option<String>,
    /// RFC 8707.
    pub resource: Option<String>,
    /// For one exchange with the issuer.
    pub timeout: Duration,
    pub tls: Arc<Tls>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum TokenIssuer {
    TokenUrl {
        url: String,
        target: Target,
    },
    /// The token endpoint is looked up there (RFC 8414; OpenID Connect Discovery 1.0).
    Issuer {
        issuer: String,
        target: Target,
    },
}

impl Default for GatewayHeaders {
    fn default() -> Self {
        Self {
            key_id: HeaderName::from_static("x-api-key-id"),
            timestamp: HeaderName::from_static("x-timestamp"),
            signature: HeaderName::from_static("x-signature"),
            nonce: None,
            digest: None,
        }
    }
}

/// How the client shows the issuer who it is.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientProof {
    /// RFC 6749, section 2.3.1: in the `Authorization` header.
    SecretBasic(Secret),
    /// The same section: in the form.
    SecretPost(Secret),
    /// `private_key_jwt` (RFC 7523, section 2.2): PEM, and the `kid` that the issuer knows it by.
    PrivateKey { key: Secret, id: Option<String> },
}

#[derive(Debug, Clone, PartialEq)]
pub struct HttpSignature {
    pub key_id: Text,
    pub algorithm: Algorithm,
    pub key: Secret,
    /// Whether `key` is base64 of the key.
    pub key_is_base64: bool,
    /// As in the signature's base: `@method`, `@query-param;name="x"`, `content-digest`.
    pub components: Vec<Component>,
    pub label: String,
    pub created: bool,
    pub expires: Option<Duration>,
    pub nonce: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Component {
    Method,
    TargetUri,
    Authority,
    Scheme,
    RequestTarget,
    Path,
    Query,
    /// The parameter's name, as it stands encoded in the query.
    QueryParam(String),
    Header(HeaderName),
}

#[derive(Debug, Clone, PartialEq)]
pub struct AwsSigv4 {
    pub region: String,
    pub service: String,
    pub keys: AwsKeys,
}

#[derive(Debug, Clone, PartialEq)]
pub enum AwsKeys {
    Separate {
        access_key_id: Text,
        secret_access_key: Secret,
        session_token: Option<Secret>,
    },
    /// All of them in one JSON object, as a `credential_process` prints it.
    Process(Secret),
}

/// What a `credential_process` prints.
pub struct AwsProcess {
    pub access_key_id: Zeroizing<String>,
    pub secret_access_key: Zeroizing<String>,
    pub session_token: Option<Zeroizing<String>>,
}

/// Reads the JSON of a `credential_process` (AWS CLI User Guide, "Sourcing credentials with an
/// external process"), and that of `aws configure export-credentials`.
///
/// # Errors
/// A sentence that shows nothing of it.
pub fn aws_process(json: &Secret) -> Result<AwsProcess, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Printed {
        access_key_id: String,
        secret_access_key: String,
        session_token: Option<String>,
    }
    let printed: Printed = serde_json::from_slice(json.expose()).map_err(|_| {
        "the secret is not what a credential_process prints: JSON with AccessKeyId, \
         SecretAccessKey and perhaps SessionToken"
            .to_owned()
    })?;
    Ok(AwsProcess {
        access_key_id: Zeroizing::new(printed.access_key_id),
        secret_access_key: Zeroizing::new(printed.secret_access_key),
        session_token: printed.session_token.map(Zeroizing::new),
    })
}

impl HttpSignature {
    /// # Errors
    /// A sentence that never repeats a part of the key.
    pub fn signing_key(&self) -> Result<SigningKey, String> {
        signing_key(self.algorithm, &self.key, self.key_is_base64)
    }
}

/// As [`HttpSignature::signing_key`], before there is one.
pub(super) fn signing_key(
    algorithm: Algorithm,
    key: &Secret,
    is_base64: bool,
) -> Result<SigningKey, String> {
    if !is_base64 {
        return SigningKey::new(algorithm, key);
    }
    let decoded = BASE64.decode(key.expose().trim_ascii()).map(Zeroizing::new);
    let decoded =
        decoded.map_err(|_| "the key is not base64; correct it, or leave \"key_encoding\" out")?;
    SigningKey::new(algorithm, &Secret::new(decoded))
}

impl CredentialScheme {
    /// Every secret in it, for [`super::Config::with_secret`].
    pub(super) fn secrets_mut(&mut self) -> Vec<&mut Secret> {
        match self {
            Self::AuthGateway(config) => std::iter::once(&mut config.key)
                .chain(config.previous.as_mut().map(|previous| &mut previous.key))
                .flat_map(|key| [&mut key.key_id.secret, &mut key.secret])
                .collect(),
            Self::Headers(headers) => headers
                .iter_mut()
                .map(|(_, value)| &mut value.secret)
                .collect(),
            Self::Bearer { token } => vec![token],
            Self::OauthClientCredentials(config) => {
                let proof = match &mut config.client {
                    ClientProof::SecretBasic(secret) | ClientProof::SecretPost(secret) => secret,
                    ClientProof::PrivateKey { key, .. } => key,
                };
                vec![&mut config.client_id.secret, proof]
            }
            Self::HttpSignature(config) => vec![&mut config.key_id.secret, &mut config.key],
            Self::AwsSigv4(config) => match &mut config.keys {
                AwsKeys::Process(json) => vec![json],
                AwsKeys::Separate {
                    access_key_id,
                    secret_access_key,
                    session_token,
                } => [&mut access_key_id.secret, secret_access_key]
                    .into_iter()
                    .chain(session_token)
                    .collect(),
            },
        }
    }
}
