//! `[credential.NAME.SCHEME]`, and secrets wherever they stand.

use http::HeaderValue;

use super::decode::{Field, Section};
use super::suggest::nearest;
use super::tree::Value;
use super::upstream::check_name;
use super::{Credential, CredentialScheme};
use crate::secret::{Secret, Source};

pub fn decode_credential(field: &Field<'_>) -> Option<Credential> {
    check_name(field);
    let name = field.key();
    let mut schemes = Vec::new();
    for scheme in field.section()?.entries() {
        match scheme.key() {
            "auth-gateway" => schemes.push(auth_gateway(&scheme)),
            // What belongs one level deeper, rather than a scheme nobody has heard of.
            "key_id" | "secret" => {
                let advice = format!("it belongs under [credential.{name}.auth-gateway]");
                scheme.unknown(&advice);
                schemes.push(None);
            }
            unknown => {
                scheme.unknown(&match nearest(unknown, SCHEMES.into_iter()) {
                    Some(near) => format!("did you mean the scheme \"{near}\"?"),
                    None => format!("the schemes are {}", SCHEMES.join(", ")),
                });
                schemes.push(None);
            }
        }
    }
    if schemes.is_empty() {
        field.key_problem(format!(
            "the scheme is missing; write [credential.{name}.auth-gateway]"
        ));
    }
    Some(Credential {
        name: name.to_owned(),
        scheme: schemes.pop()??,
    })
}

/// One sub-table each, named after the scheme.
const SCHEMES: [&str; 1] = ["auth-gateway"];

fn auth_gateway(field: &Field<'_>) -> Option<CredentialScheme> {
    let mut s = field.section()?;
    let key_id = s
        .required("key_id", "write the key's identifier")
        .and_then(|f| decode_key_id(&f));
    let advice = "write secret = { file = \"/path/to/it\" }";
    let secret = s
        .required("secret", advice)
        .and_then(|field| decode_secret(&field));
    s.finish();
    Some(CredentialScheme::AuthGateway {
        key_id: key_id?,
        secret: secret?,
    })
}

/// The identifier travels in a header: a string, or a secret's table for those who hide it.
fn decode_key_id(field: &Field<'_>) -> Option<HeaderValue> {
    let (bytes, hidden) = match &field.node.value {
        Value::Table(_) => (decode_secret(field)?, true),
        _ => (Secret::new(field.text()?.as_bytes().to_vec()), false),
    };
    let text = bytes.expose();
    if text.is_empty() {
        field.problem("the key's identifier is empty; write it");
        return None;
    }
    let Ok(mut value) = HeaderValue::from_bytes(text) else {
        field.problem("the identifier has characters that no HTTP header may hold; correct it");
        return None;
    };
    // Whitespace at either end is lost on the wire, and the gateway would know no such key.
    if text.trim_ascii().len() != text.len() {
        field.problem("the identifier begins or ends with a space; remove it");
    }
    value.set_sensitive(hidden);
    Some(value)
}

/// Reads a secret: a table that names its source, or, with a warning, the secret itself.
pub fn decode_secret(field: &Field<'_>) -> Option<Secret> {
    if let Value::Table(_) = &field.node.value {
        let mut s = field.section()?;
        let source = decode_source(&mut s);
        s.finish();
        let (source, place) = source?;
        return source
            .read(field.report.env)
            .map_err(|error| place.problem(error.to_string()))
            .ok();
    }
    let text = field.text()?;
    if text.is_empty() {
        field.problem("the secret is empty; write { file = \"/path/to/it\" }");
        return None;
    }
    warn_of_plain_text(field);
    Some(Secret::new(text.as_bytes().to_vec()))
}

fn warn_of_plain_text(field: &Field<'_>) {
    let document = field.report.document(field.origin());
    let readers = match document {
        Some(document) if document.world_readable => {
            "every user of this host, and whoever copies the file,"
        }
        _ => "whoever copies the file",
    };
    field.warn(format!(
        "the secret stands in the configuration, where {readers} can read it; \
         move it to a file of its own and write {{ file = \"/path/to/it\" }}"
    ));
}

/// The source, and the field that names it.
fn decode_source<'a>(s: &mut Section<'a>) -> Option<(Source, Field<'a>)> {
    let advice = "write { file = \"/path/to/it\" }";
    let field = s.exactly_one(&["file", "env", "credential"], advice);
    let insecure = s
        .field("insecure_permissions")
        .and_then(|field| field.boolean());
    let (field, insecure_permissions) = (field?, insecure.unwrap_or_default());
    let source = match field.key() {
        "file" => Source::File {
            path: field.path()?,
            insecure_permissions,
        },
        "env" => {
            let name = field.text()?.to_owned();
            field
                .report
                .secret_variables
                .borrow_mut()
                .insert(name.clone());
            return Some((Source::Env(name), field));
        }
        _ => Source::Credential {
            name: field.text()?.to_owned(),
            insecure_permissions,
        },
    };
    Some((source, field))
}
