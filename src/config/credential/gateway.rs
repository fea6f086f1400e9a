//! `[credential.NAME.auth-gateway]`.

use http::HeaderName;

use super::credential_header;
use crate::config::decode::{Field, Section};
use crate::config::secret::{decode_secret, decode_text};
use crate::config::{AuthGateway, CredentialScheme, GatewayHeaders, GatewayKey, Text};

const NO_SECRET: &str = "write secret = { file = \"/path/to/it\" }";

pub fn decode(field: &Field<'_>) -> Option<CredentialScheme> {
    let mut s = field.section()?;
    let key_id = s
        .required("key_id", "write the key's identifier")
        .and_then(|field| key_id(&field));
    let secret = s
        .required("secret", NO_SECRET)
        .and_then(|field| decode_secret(&field));
    let previous = s
        .field("previous")
        .map(|field| previous(&field, key_id.as_ref()));
    let headers = headers(&mut s);
    s.finish();
    Some(CredentialScheme::AuthGateway(Box::new(AuthGateway {
        key: GatewayKey {
            key_id: key_id?,
            secret: secret?,
        },
        previous: match previous {
            Some(previous) => Some(previous?),
            None => None,
        },
        headers: headers?,
    })))
}

fn key_id(field: &Field<'_>) -> Option<Text> {
    decode_text(field, "the key's identifier")
}

/// The key before, whose identifier may be the same.
fn previous(field: &Field<'_>, present: Option<&Text>) -> Option<GatewayKey> {
    let mut s = field.section()?;
    let own = s.field("key_id").map(|field| key_id(&field));
    let secret = s
        .required("secret", NO_SECRET)
        .and_then(|field| decode_secret(&field));
    s.finish();
    Some(GatewayKey {
        key_id: own.unwrap_or_else(|| present.cloned())?,
        secret: secret?,
    })
}

fn headers(s: &mut Section<'_>) -> Option<GatewayHeaders> {
    let default = GatewayHeaders::default();
    let mut fields: Vec<(Field<'_>, HeaderName)> = Vec::new();
    let mut faulty = false;
    let mut name = |key| {
        let field = s.field(key)?;
        let name = field
            .text()
            .and_then(|text| credential_header(&field, text));
        match &name {
            Some(name) => fields.push((field, name.clone())),
            None => faulty = true,
        }
        name
    };
    let headers = GatewayHeaders {
        key_id: name("key_id_header").unwrap_or(default.key_id),
        timestamp: name("timestamp_header").unwrap_or(default.timestamp),
        signature: name("signature_header").unwrap_or(default.signature),
        nonce: name("nonce_header"),
        digest: name("digest_header"),
    };
    let mut all = vec![&headers.key_id, &headers.timestamp, &headers.signature];
    all.extend(headers.nonce.iter().chain(&headers.digest));
    for (field, name) in &fields {
        if all.iter().filter(|other| **other == name).count() > 1 {
            field.problem("two parts of the signature cannot share one header; choose another");
            faulty = true;
        }
    }
    (!faulty).then_some(headers)
}
