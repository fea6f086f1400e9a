//! One exchange with the issuer: find its token endpoint, show who we are, take the token.

mod discovery;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::assertion::{self, ASSERTION_TYPE};
use super::form::{self, Form};
use crate::auth::bearer;
use crate::auth::redact::redact_values;
use crate::client::{Client, ProxyVariables};
use crate::config::{ClientProof, Oauth, Target, TargetPath, TokenIssuer, Upstream};
use crate::json;
use crate::message::RequestBody;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// How much of an issuer's own words is passed on, in characters.
const MAX_WORDS: usize = 200;
/// What an issuer says of a lifetime is believed within these.
const SHORTEST: Duration = Duration::from_secs(1);
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

pub struct Issuer {
    config: Oauth,
    client_id: String,
    key: Option<assertion::Key>,
    proxies: ProxyVariables,
    /// Found once, forgotten when an exchange fails.
    endpoint: Mutex<Option<Arc<Endpoint>>>,
}

/// Where tokens are had.
struct Endpoint {
    client: Client,
    uri: Uri,
    /// What an assertion is made out to.
    audience: String,
}

/// What the issuer gave.
pub struct Granted {
    /// `Bearer TOKEN`.
    pub header: HeaderValue,
    pub lifetime: Option<Duration>,
}

impl Issuer {
    pub fn new(config: &Oauth, proxies: ProxyVariables) -> Result<Self, String> {
        let key = match &config.client {
            ClientProof::PrivateKey { key, id } => Some(assertion::Key::new(key, id.as_deref())?),
            ClientProof::SecretBasic(_) | ClientProof::SecretPost(_) => None,
        };
        let client_id = String::from_utf8(config.client_id.secret.expose().to_vec())
            .map_err(|_| "the client_id is not UTF-8; correct it")?;
        Ok(Self {
            config: config.clone(),
            client_id,
            key,
            proxies,
            endpoint: Mutex::default(),
        })
    }

    /// # Errors
    /// A sentence about what stands in the way.
    pub async fn fetch(&self) -> Result<Granted, String> {
        let timeout = self.config.timeout;
        let outcome = tokio::time::timeout(timeout, self.exchange())
            .await
            .unwrap_or_else(|_| Err(format!("{} did not answer within {timeout:?}", self.name())));
        if outcome.is_err() {
            *self.known_endpoint() = None;
        }
        outcome
    }

    async fn exchange(&self) -> Result<Granted, String> {
        let endpoint = self.endpoint().await?;
        let (request, sent) = self.request(&endpoint)?;
        let (status, body) = send(&endpoint.client, request)
            .await
            .map_err(|reason| format!("{} {reason}", self.name()))?;
        if status != StatusCode::OK {
            return Err(format!(
                "{} refused: {}",
                self.name(),
                words_of_refusal(status, &body, &sent)
            ));
        }
        granted(&body, &sent).map_err(|reason| format!("{} {reason}", self.name()))
    }

    async fn endpoint(&self) -> Result<Arc<Endpoint>, String> {
        if let Some(endpoint) = &*self.known_endpoint() {
            return Ok(Arc::clone(endpoint));
        }
        let endpoint = Arc::new(match &self.config.issuer {
            TokenIssuer::TokenUrl { url, target } => self.endpoint_at(target, url)?,
            TokenIssuer::Issuer { issuer, target } => {
                let url = discovery::token_endpoint(issuer, &self.client_for(target))
                    .await
                    .map_err(|reason| format!("{} {reason}", self.name()))?;
                let target = Target::token_endpoint(&url).map_err(|reason| {
                    format!(
                        "{} names a token endpoint that cannot be used: {reason}",
                        self.name()
                    )
                })?;
                self.endpoint_at(&target, issuer)?
            }
        });
        *self.known_endpoint() = Some(Arc::clone(&endpoint));
        Ok(endpoint)
    }

    fn endpoint_at(&self, target: &Target, audience: &str) -> Result<Endpoint, String> {
        let TargetPath::Endpoint(path) = &target.path else {
            return Err("the token endpoint has no path".to_owned());
        };
        Ok(Endpoint {
            client: self.client_for(target),
            uri: Uri::from(path.clone()),
            audience: audience.to_owned(),
        })
    }

    fn client_for(&self, target: &Target) -> Client {
        let mut place = Upstream::unsigned("issuer", target.clone());
        place.tls = Arc::clone(&self.config.tls);
        Client::new(&place, &self.proxies)
    }

    /// The request, and what of it may not come back in anybody's words.
    fn request(&self, endpoint: &Endpoint) -> Result<(Request<RequestBody>, Sent), String> {
        let mut sent = Sent::default();
        if self.config.client_id.hidden {
            sent.hide(self.client_id.as_bytes());
        }
        let mut form = Form::default().field("grant_type", b"client_credentials");
        if let Some(scope) = &self.config.scope {
            form = form.field("scope", scope.as_bytes());
        }
        if let Some(resource) = &self.config.resource {
            form = form.field("resource", resource.as_bytes());
        }
        let mut authorization = None;
        match (&self.config.client, &self.key) {
            (ClientProof::SecretPost(secret), _) => {
                sent.hide(secret.expose());
                form = form
                    .field("client_id", self.client_id.as_bytes())
                    .field("client_secret", secret.expose());
            }
            (ClientProof::SecretBasic(secret), _) => {
                sent.hide(secret.expose());
                let value = basic(&self.client_id, secret.expose());
                sent.hide(value.as_bytes());
                authorization = Some(value);
            }
            (ClientProof::PrivateKey { .. }, Some(key)) => {
                let assertion = key
                    .assertion(&self.client_id, &endpoint.audience, SystemTime::now())
                    .map_err(|_| "the client's assertion could not be signed")?;
                sent.hide(assertion.as_bytes());
                // What makes it one is its signature.
                sent.hide(assertion.rsplit('.').next().unwrap_or_default().as_bytes());
                form = form
                    .field("client_id", self.client_id.as_bytes())
                    .field("client_assertion_type", ASSERTION_TYPE.as_bytes())
                    .field("client_assertion", assertion.as_bytes());
            }
            (ClientProof::PrivateKey { .. }, None) => {}
        }
        let body = Bytes::copy_from_slice(form.as_bytes());
        let mut request = Request::new(RequestBody::full(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = endpoint.uri.clone();
        let headers = request.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, value);
        }
        Ok((request, sent))
    }

    /// The issuer, for a sentence that goes on.
    fn name(&self) -> String {
        let (TokenIssuer::TokenUrl { target, .. } | TokenIssuer::Issuer { target, .. }) =
            &self.config.issuer;
        format!("the issuer at {target}")
    }

    fn known_endpoint(&self) -> std::sync::MutexGuard<'_, Option<Arc<Endpoint>>> {
        self.endpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sensitive values of a request, each as it is and as a form has it.
#[derive(Default)]
struct Sent(Vec<Zeroizing<String>>);

impl Sent {
    fn hide(&mut self, value: &[u8]) {
        let mut encoded = Zeroizing::new(String::new());
        form::encode(value, &mut encoded);
        let plain = String::from_utf8_lossy(value).into_owned();
        self.0.extend([Zeroizing::new(plain), encoded]);
    }

    /// The issuer's words without them, fit for one line, at most so many characters.
    fn words(&self, text: &str, most: usize) -> String {
        let values = self.0.iter().map(|value| value.as_str());
        // Cut last: half a value could not be told any more.
        let text = redact_values(values, text);
        let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        printable.take(most).collect()
    }
}

/// `error` and `error_description` (RFC 6749, section 5.2), without what we sent.
fn words_of_refusal(status: StatusCode, body: &[u8], sent: &Sent) -> String {
    #[derive(Default, Deserialize)]
    struct Refusal {
        error: Option<String>,
        error_description: Option<String>,
    }
    let refusal: Refusal = json::object(body).unwrap_or_default();
    let words = match (refusal.error, refusal.error_description) {
        (Some(error), Some(description)) => format!("{status}, {error}: {description}"),
        (Some(error), None) => format!("{status}, {error}"),
        (None, _) => return status.to_string(),
    };
    sent.words(&words, MAX_WORDS)
}

/// RFC 6749, section 2.3.1: both encoded as in a form first.
fn basic(client: &str, secret: &[u8]) -> HeaderValue {
    let mut pair = Zeroizing::new(String::new());
    form::encode(client.as_bytes(), &mut pair);
    pair.push(':');
    form::encode(secret, &mut pair);
    let text = Zeroizing::new(format!("Basic {}", BASE64.encode(pair.as_bytes())));
    let value = HeaderValue::from_str(&text);
    let mut value = value.unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// The answer's status and its body, wiped when dropped. The error goes on with a sentence.
async fn send(
    client: &Client,
    mut request: Request<RequestBody>,
) -> Result<(StatusCode, Zeroizing<Vec<u8>>), String> {
    let response = client
        .send(&mut request, |_| ())
        .await
        .map_err(|failure| format!("cannot be reached: {}", failure.cause))?;
    let (head, mut body) = response.into_parts();
    // Allocated once: growing would leave copies of a token behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_ANSWER));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("broke its answer off: {error}"))?;
        let data = frame.data_ref().map_or(&[][..], |data| data);
        if bytes.len() + data.len() > MAX_ANSWER {
            return Err("answered with more than 64 KiB".to_owned());
        }
        bytes.extend_from_slice(data);
    }
    Ok((head.status, bytes))
}

/// RFC 6749, section 5.1.
fn granted(body: &[u8], sent: &Sent) -> Result<Granted, String> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        access_token: std::borrow::Cow<'a, str>,
        token_type: Option<String>,
        /// A number; some issuers send it as a string.
        expires_in: Option<serde_json::Value>,
    }
    let answer: Answer<'_> =
        json::object(body).map_err(|_| "answered without an access_token in JSON".to_owned())?;
    if let Some(kind) = answer.token_type
        && !kind.eq_ignore_ascii_case("bearer")
    {
        let kind = sent.words(&kind, 20);
        return Err(format!(
            "gives {kind} tokens; only bearer tokens can be used"
        ));
    }
    let header = bearer::header_value(answer.access_token.trim().as_bytes())
        .filter(|_| !answer.access_token.trim().is_empty())
        .ok_or("gave a token that no HTTP header may hold")?;
    let seconds = match answer.expires_in {
        Some(serde_json::Value::Number(number)) => number.as_f64(),
        Some(serde_json::Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    let lifetime = seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        // Some write 0 for what they do not tell; no token of use has expired already.
        .filter(|lifetime| !lifetime.is_zero())
        .map(|lifetime| lifetime.clamp(SHORTEST, LONGEST));
    Ok(Granted { header, lifetime })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_whatever_its_lifetime_is_written_as() {
        for (text, lifetime) in [
            (
                r#"{"access_token":"t","token_type":"Bearer","expires_in":60}"#,
                Some(60),
            ),
            (
                r#"{"access_token":"t","token_type":"bearer","expires_in":"60"}"#,
                Some(60),
            ),
            (r#"{"access_token":"t"}"#, None),
            (r#"{"access_token":"t","expires_in":null}"#, None),
            (r#"{"access_token":"t","expires_in":-5}"#, None),
            (r#"{"access_token":"t","expires_in":0}"#, None),
            (r#"{"access_token":"t","expires_in":"0"}"#, None),
            (r#"{"access_token":"t","expires_in":0.01}"#, Some(1)),
            (r#"{"access_token":"t","expires_in":1e12}"#, Some(86_400)),
        ] {
            let granted = granted(text.as_bytes(), &Sent::default())
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(granted.header, "Bearer t");
            assert!(granted.header.is_sensitive());
            assert_eq!(granted.lifetime.map(|it| it.as_secs()), lifetime, "{text}");
        }
    }

    #[test]
    fn what_is_no_bearer_token_is_refused_in_words_that_do_not_show_it() {
        for text in [
            "",
            "null",
            "<html>",
            r#"{"token":"hush"}"#,
            r#"{"access_token":""}"#,
            r#"{"access_token":"hush\n"}  x"#,
            r#"{"access_token":"hu\nsh"}"#,
            r#"["hush","Bearer",60]"#,
            r#"{"access_token":"hush","token_type":"DPoP"}"#,
        ] {
            let error = granted(text.as_bytes(), &Sent::default()).err().unwrap();
            assert!(!error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn a_clients_name_and_secret_are_encoded_before_they_are_joined() {
        let value = basic("a:b", b"c d");
        let encoded = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
        assert_eq!(BASE64.decode(encoded).unwrap(), b"a%3Ab:c+d");
    }

    #[test]
    fn an_issuer_that_echoes_what_it_was_sent_gives_nothing_of_it_away() {
        const SECRET: &str = "hush hush+s3cret/value";
        let mut sent = Sent::default();
        let authorization = basic("me", SECRET.as_bytes());
        sent.hide(SECRET.as_bytes());
        sent.hide(authorization.as_bytes());
        let authorization = authorization.to_str().unwrap();
        let encoded = authorization.strip_prefix("Basic ").unwrap();
        let long = "x".repeat(MAX_WORDS - 60);
        for echo in [
            authorization.to_owned(),
            format!("bad credentials {encoded} for me"),
            "client_secret=hush+hush%2Bs3cret%2Fvalue&x=y".to_owned(),
            format!("{SECRET} is wrong"),
            // Where the words are cut.
            format!("{long} {encoded}"),
        ] {
            let body = serde_json::json!({ "error": "invalid_client", "error_description": echo });
            let status = StatusCode::UNAUTHORIZED;
            let words = words_of_refusal(status, body.to_string().as_bytes(), &sent);
            assert!(words.contains("invalid_client"), "{words}");
            for part in [&encoded[..12], "s3cret", "S3CRET"] {
                assert!(!words.contains(part), "{words}");
            }
            let body = serde_json::json!({ "access_token": "t", "token_type": echo });
            let words = granted(body.to_string().as_bytes(), &sent).err().unwrap();
            assert!(
                !words.contains(&encoded[..12]) && !words.contains("s3cret"),
                "{words}"
            );
        }
    }
}
