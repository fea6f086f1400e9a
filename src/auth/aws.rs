//! AWS Signature Version 4, in headers, as the "AWS Signature Version 4 for API requests"
//! chapter of the IAM User Guide defines it.
//!
//! Why AWS's own crate does not do it is told in mcp-auth-proxy-architecture(7).

mod canonical;

use std::time::SystemTime;

use aws_lc_rs::digest::{self, SHA256};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::{BodyDigest, Unsigned};
use crate::config::{AwsKeys, AwsSigv4, aws_process};
use crate::hex;

pub const CONTENT_SHA256: &str = "x-amz-content-sha256";
pub const DATE: &str = "x-amz-date";
pub const SECURITY_TOKEN: &str = "x-amz-security-token";

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

pub struct Signer {
    access_key_id: String,
    /// `AWS4` and the secret key: what the key of each day comes from.
    secret: hmac::Key,
    session_token: Option<HeaderValue>,
    region: String,
    service: String,
}

impl Signer {
    pub fn new(config: &AwsSigv4) -> Result<Self, String> {
        let process;
        let (id, secret, token) = match &config.keys {
            AwsKeys::Separate {
                access_key_id,
                secret_access_key,
                session_token,
            } => (
                access_key_id.secret.expose(),
                secret_access_key.expose(),
                session_token.as_ref().map(|token| token.expose()),
            ),
            AwsKeys::Process(json) => {
                process = aws_process(json)?;
                (
                    process.access_key_id.as_bytes(),
                    process.secret_access_key.as_bytes(),
                    process.session_token.as_ref().map(|token| token.as_bytes()),
                )
            }
        };
        let secret = Zeroizing::new([b"AWS4", secret].concat());
        let legal = |what: &str| format!("the {what} is not legal in a header; correct it");
        if HeaderValue::from_bytes(id).is_err() {
            return Err(legal("access key id"));
        }
        let session_token = match token.map(HeaderValue::from_bytes) {
            None => None,
            Some(Err(_)) => return Err(legal("session token")),
            Some(Ok(mut token)) => {
                token.set_sensitive(true);
                Some(token)
            }
        };
        Ok(Self {
            access_key_id: String::from_utf8_lossy(id).into_owned(),
            secret: hmac::Key::new(HMAC_SHA256, &secret),
            session_token,
            region: config.region.clone(),
            service: config.service.clone(),
        })
    }

    pub fn sign(&self, request: &Unsigned<'_>, body: &BodyDigest, now: SystemTime) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(4);
        let digest = hex::text(body);
        headers.insert(
            HeaderName::from_static(CONTENT_SHA256),
            text(digest.clone()),
        );
        self.sign_with(request, headers, &digest, now)
    }

    /// Adds date, token and authorization to `headers`, all of which it signs.
    fn sign_with(
        &self,
        request: &Unsigned<'_>,
        mut headers: HeaderMap,
        body: &str,
        now: SystemTime,
    ) -> HeaderMap {
        let time = basic_time(now);
        headers.insert(HeaderName::from_static(DATE), text(time.clone()));
        if let Some(token) = &self.session_token {
            headers.insert(HeaderName::from_static(SECURITY_TOKEN), token.clone());
        }
        // S3 takes the path as it is; the others encode once more what they decoded.
        let path = match self.service.as_str() {
            "s3" | "s3express" => request.uri.path().to_owned(),
            _ => canonical::path(request.uri.path()),
        };
        let query = canonical::query(request.uri.query().unwrap_or_default());
        let (signed, block) = canonical::headers(request, &headers);
        let method = request.method;
        let canonical = format!("{method}\n{path}\n{query}\n{block}\n{signed}\n{body}");
        let date = &time[..8];
        let scope = format!("{date}/{}/{}/aws4_request", self.region, self.service);
        let hashed = hex::text(digest::digest(&SHA256, canonical.as_bytes()).as_ref());
        let to_sign = format!("{ALGORITHM}\n{time}\n{scope}\n{hashed}");
        let signature = hmac::sign(&self.key_of(date), to_sign.as_bytes());
        let mut authorization = text(format!(
            "{ALGORITHM} Credential={}/{scope}, SignedHeaders={signed}, Signature={}",
            self.access_key_id,
            hex::text(signature.as_ref())
        ));
        authorization.set_sensitive(true);
        headers.insert(AUTHORIZATION, authorization);
        headers
    }

    /// Keys are derived by date, region, service and a last word.
    fn key_of(&self, date: &str) -> hmac::Key {
        let parts = [date, &self.region, &self.service, "aws4_request"];
        parts.into_iter().fold(self.secret.clone(), |key, part| {
            hmac::Key::new(HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref())
        })
    }
}

/// `20150830T123600Z`.
fn basic_time(now: SystemTime) -> String {
    let mut time = humantime::format_rfc3339_seconds(now).to_string();
    time.retain(|c| c != '-' && c != ':');
    time
}

fn text(ascii: String) -> HeaderValue {
    // Everything put together here was checked when the signer was made.
    HeaderValue::try_from(ascii).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests;
