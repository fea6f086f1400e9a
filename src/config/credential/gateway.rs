//! `[credential.NAME.auth-gateway]`.

use std::time::SystemTime;

use http::HeaderName;

use super::credential_header;
use crate::config::decode::{Field, Section};
use crate::config::secret::{decode_secret, decode_text};
use crate::config::{AuthGateway, CredentialScheme, GatewayHeaders, GatewayKey, PreviousKey, Text};

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
        .map(|field| previous(&field, key_id.as_ref(), SystemTime::now()));
    let headers = headers(&mut s);
    s.finish();
    Some(CredentialScheme::AuthGateway(Box::new(AuthGateway {
        key: GatewayKey {
            key_id: key_id?,
            secret: secret?,
        },
        previous: match previous {
            Some(previous) => previous?,
            None => None,
        },
        headers: headers?,
    })))
}

fn key_id(field: &Field<'_>) -> Option<Text> {
    decode_text(field, "the key's identifier")
}

/// The key before, whose identifier may be the same; `Some(None)` once its time is over.
fn previous(
    field: &Field<'_>,
    present: Option<&Text>,
    now: SystemTime,
) -> Option<Option<PreviousKey>> {
    let mut s = field.section()?;
    let until = s.field("until").map(|field| (field.time(), field));
    let own = s.field("key_id");
    let secret = s.required("secret", NO_SECRET);
    s.finish();
    let until = match until {
        Some((until, field)) => {
            let until = until?;
            if until <= now {
                // Its file may be gone by now, and nobody needs what is in it.
                field.warn("the previous key is not used any more; remove \"previous\"");
                return Some(None);
            }
            Some(until)
        }
        None => None,
    };
    let own = own.map(|field| key_id(&field));
    let secret = secret.and_then(|field| decode_secret(&field));
    Some(Some(PreviousKey {
        key: GatewayKey {
            key_id: own.unwrap_or_else(|| present.cloned())?,
            secret: secret?,
        },
        until,
    }))
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
