//! `[credential.NAME.http-signature]`.

use http::HeaderName;

use crate::config::decode::Field;
use crate::config::scheme::signing_key;
use crate::config::secret::{decode_secret, decode_text};
use crate::config::{Component, CredentialScheme, HttpSignature};
use crate::key::Algorithm;
use crate::message;
use crate::secret::Secret;

const DEFAULT_COMPONENTS: [&str; 3] = ["@method", "@target-uri", "content-digest"];

pub fn decode(field: &Field<'_>) -> Option<CredentialScheme> {
    let mut s = field.section()?;
    let key_id = s
        .required("key_id", "write the key's identifier")
        .and_then(|field| decode_text(&field, "the key's identifier"));
    let algorithms = "write one of hmac-sha256, ed25519, ecdsa-p256-sha256, rsa-pss-sha512";
    let algorithm = s.required("algorithm", algorithms).and_then(|field| {
        field.choice(&[
            ("hmac-sha256", Algorithm::HmacSha256),
            ("ed25519", Algorithm::Ed25519),
            ("ecdsa-p256-sha256", Algorithm::EcdsaP256Sha256),
            ("rsa-pss-sha512", Algorithm::RsaPssSha512),
        ])
    });
    let encoding = s.field("key_encoding").map_or(Some(false), |field| {
        field.choice(&[("raw", false), ("base64", true)])
    });
    let key = s
        .required("key", "write key = { file = \"/path/to/it\" }")
        .and_then(|field| key(&field, algorithm?, encoding?));
    let components = match s.field("components") {
        Some(field) => components(&field),
        None => DEFAULT_COMPONENTS
            .iter()
            .map(|text| component(text).ok())
            .collect(),
    };
    let label = match s.field("label") {
        Some(field) => field.parse(label),
        None => Some("sig1".to_owned()),
    };
    let created = s
        .field("created")
        .map_or(Some(true), |field| field.boolean());
    let expires = s.field("expires").map(|field| field.duration());
    let nonce = s
        .field("nonce")
        .map_or(Some(false), |field| field.boolean());
    s.finish();
    Some(CredentialScheme::HttpSignature(Box::new(HttpSignature {
        key_id: key_id?,
        algorithm: algorithm?,
        key: key?,
        key_is_base64: encoding?,
        components: components?,
        label: label?,
        created: created?,
        expires: expires.map_or(Some(None), |expires| expires.map(Some))?,
        nonce: nonce?,
    })))
}

fn key(field: &Field<'_>, algorithm: Algorithm, is_base64: bool) -> Option<Secret> {
    let secret = decode_secret(field)?;
    signing_key(algorithm, &secret, is_base64)
        .map_err(|error| field.problem(error))
        .ok()?;
    Some(secret)
}

fn components(field: &Field<'_>) -> Option<Vec<Component>> {
    let items = field.items()?;
    let list: Vec<Option<Component>> = items.iter().map(|item| item.parse(component)).collect();
    let list: Vec<Component> = list.into_iter().collect::<Option<_>>()?;
    for (index, item) in list.iter().enumerate() {
        // RFC 9421, section 2: each only once.
        if list[..index].contains(item) {
            items[index].problem("this component is there twice; keep one");
        }
    }
    Some(list)
}

fn component(text: &str) -> Result<Component, String> {
    if let Some(rest) = text.strip_prefix("@query-param;name=") {
        let name = rest.trim_matches('"');
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "*-._%".contains(c);
        if name.is_empty() || !name.chars().all(is_plain) {
            return Err("write @query-param;name=NAME, percent-encoded as in a form".to_owned());
        }
        return Ok(Component::QueryParam(name.to_owned()));
    }
    Ok(match text {
        "@method" => Component::Method,
        "@target-uri" => Component::TargetUri,
        "@authority" => Component::Authority,
        "@scheme" => Component::Scheme,
        "@request-target" => Component::RequestTarget,
        "@path" => Component::Path,
        "@query" => Component::Query,
        _ if text.starts_with('@') => {
            return Err(format!(
                "{text:?} is no component of a request; there are @method, @target-uri, @authority, \
                 @scheme, @request-target, @path, @query and @query-param;name=NAME"
            ));
        }
        _ => Component::Header(header(text)?),
    })
}

fn header(text: &str) -> Result<HeaderName, String> {
    let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| {
        format!("{text:?} is no header name; parameters of headers are not supported")
    })?;
    let is_late = matches!(
        name.as_str(),
        "host" | "content-length" | "signature" | "signature-input"
    );
    if is_late || message::is_hop_by_hop(&name) {
        return Err(format!(
            "{name} is not yet there when a request is signed; for the host, write @authority"
        ));
    }
    Ok(name)
}

/// A key of a dictionary (RFC 9651, section 3.2).
fn label(text: &str) -> Result<String, String> {
    let begins = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '*');
    let is_legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.*".contains(c);
    if !begins || text.len() > 64 || !text.chars().all(is_legal) {
        return Err("a label has up to 64 lower-case letters, digits, \"_\", \"-\", \".\" and \"*\", and begins with a letter".to_owned());
    }
    Ok(text.to_owned())
}
