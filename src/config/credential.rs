//! `[credential.NAME.SCHEME]`.

mod aws;
mod gateway;
mod http_signature;
mod oauth;

use http::HeaderName;

use super::decode::Field;
use super::secret::{decode_secret, decode_text};
use super::suggest::nearest;
use super::upstream::check_name;
use super::{Credential, CredentialScheme};
use crate::message;

/// One sub-table each, named after the scheme.
const SCHEMES: [&str; 6] = [
    "auth-gateway",
    "headers",
    "bearer",
    "oauth-client-credentials",
    "http-signature",
    "aws-sigv4",
];

pub fn decode_credential(field: &Field<'_>) -> Option<Credential> {
    check_name(field);
    let name = field.key();
    let mut schemes = Vec::new();
    let mut places: Vec<Field<'_>> = Vec::new();
    for scheme in field.section()?.entries() {
        schemes.push(match scheme.key() {
            "auth-gateway" => gateway::decode(&scheme),
            "headers" => headers(&scheme),
            "bearer" => bearer(&scheme),
            "oauth-client-credentials" => oauth::decode(&scheme),
            "http-signature" => http_signature::decode(&scheme),
            "aws-sigv4" => aws::decode(&scheme),
            unknown => {
                scheme.unknown(&advice(name, unknown));
                None
            }
        });
        if SCHEMES.contains(&scheme.key()) {
            places.push(scheme);
        }
    }
    if schemes.is_empty() {
        field.key_problem(format!(
            "the scheme is missing; write [credential.{name}.auth-gateway]"
        ));
    }
    if let [first, .., last] = places.as_slice() {
        last.key_problem(format!(
            "a credential has one scheme, and \"{}\" ({}) is there; keep one",
            first.key(),
            field.report.place(first.key_origin, last.key_origin)
        ));
        return None;
    }
    Some(Credential {
        name: name.to_owned(),
        scheme: schemes.pop()??,
    })
}

fn advice(name: &str, unknown: &str) -> String {
    // What belongs one level deeper, rather than a scheme nobody has heard of.
    let scheme = match unknown {
        "key_id" | "secret" => "auth-gateway",
        "token" => "bearer",
        "client_id" | "client_secret" | "token_url" | "issuer" => "oauth-client-credentials",
        "access_key_id" | "secret_access_key" | "region" => "aws-sigv4",
        _ => {
            return match nearest(unknown, SCHEMES.into_iter()) {
                Some(near) => format!("did you mean the scheme \"{near}\"?"),
                None => format!("the schemes are {}", SCHEMES.join(", ")),
            };
        }
    };
    format!("it belongs under [credential.{name}.{scheme}]")
}

fn bearer(field: &Field<'_>) -> Option<CredentialScheme> {
    let mut s = field.section()?;
    let advice = "write token = { file = \"/path/to/it\" }";
    let token = s.required("token", advice).and_then(|field| {
        let token = decode_secret(&field)?;
        let is_plain = |byte: &u8| (0x21..0x7f).contains(byte);
        if !token.expose().iter().all(is_plain) {
            field.problem(
                "a bearer token has no spaces, and printable ASCII characters only; correct it",
            );
            return None;
        }
        Some(token)
    });
    s.finish();
    Some(CredentialScheme::Bearer { token: token? })
}

fn headers(field: &Field<'_>) -> Option<CredentialScheme> {
    let entries: Vec<_> = field.section()?.entries().collect();
    if entries.is_empty() {
        field.key_problem("no header is named; write NAME = { file = \"/path/to/it\" }");
        return None;
    }
    let headers: Vec<_> = entries
        .iter()
        .map(|field| {
            Some((
                credential_header(field, field.key())?,
                decode_text(field, "the value")?,
            ))
        })
        .collect();
    let headers: Vec<_> = headers.into_iter().collect::<Option<_>>()?;
    for (index, (name, _)) in headers.iter().enumerate() {
        if headers[..index].iter().any(|(before, _)| before == name) {
            entries[index].key_problem("this header is named twice, in another case; keep one");
        }
    }
    Some(CredentialScheme::Headers(headers))
}

/// A header that a credential may be put in.
fn credential_header(field: &Field<'_>, text: &str) -> Option<HeaderName> {
    let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
        field.problem(format!(
            "{text:?} is no header name; write one such as \"x-api-key\""
        ));
        return None;
    };
    let is_taken = matches!(
        name.as_str(),
        "host" | "content-length" | "content-type" | "expect" | "mcp-session-id" | "x-request-id"
    );
    if is_taken || message::is_hop_by_hop(&name) {
        field.key_problem(format!(
            "{name} has a meaning of its own; choose another header"
        ));
        return None;
    }
    Some(name)
}
