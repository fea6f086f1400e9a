//! `[credential.NAME.aws-sigv4]`.

use crate::config::decode::{Field, Section};
use crate::config::secret::{decode_secret, decode_text};
use crate::config::{AwsKeys, AwsSigv4, CredentialScheme, aws_process};
use crate::secret::Secret;

pub fn decode(field: &Field<'_>) -> Option<CredentialScheme> {
    let mut s = field.section()?;
    let region = s
        .required("region", "write the region, such as \"eu-central-1\"")
        .and_then(|field| field.parse(word));
    let service = s
        .required(
            "service",
            "write the service's signing name, such as \"execute-api\"",
        )
        .and_then(|field| field.parse(word));
    let keys = keys(&mut s);
    s.finish();
    Some(CredentialScheme::AwsSigv4(Box::new(AwsSigv4 {
        region: region?,
        service: service?,
        keys: keys?,
    })))
}

/// A part of the scope, which is written with slashes between.
fn word(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.*".contains(c);
    if text.is_empty() || !text.chars().all(is_plain) {
        return Err("use letters, digits, \"-\", \"_\" and \".\"".to_owned());
    }
    Ok(text.to_owned())
}

fn keys(s: &mut Section<'_>) -> Option<AwsKeys> {
    let access_key_id = s.field("access_key_id");
    let secret_access_key = s.field("secret_access_key");
    let session_token = s.field("session_token");
    let Some(process) = s.field("credentials") else {
        let id = given(s, access_key_id, "access_key_id")
            .and_then(|field| decode_text(&field, "the access key's identifier"));
        let secret = given(s, secret_access_key, "secret_access_key")
            .and_then(|field| decode_secret(&field));
        let token = session_token.map(|field| decode_token(&field));
        return Some(AwsKeys::Separate {
            access_key_id: id?,
            secret_access_key: secret?,
            session_token: token.map_or(Some(None), |token| token.map(Some))?,
        });
    };
    for other in [access_key_id, secret_access_key, session_token]
        .iter()
        .flatten()
    {
        other.key_problem("\"credentials\" holds this too; keep one of them");
    }
    let json = decode_secret(&process)?;
    aws_process(&json)
        .map_err(|error| process.problem(error))
        .ok()?;
    Some(AwsKeys::Process(json))
}

fn given<'a>(
    s: &mut Section<'_>,
    field: Option<Field<'a>>,
    key: &'static str,
) -> Option<Field<'a>> {
    if field.is_none() {
        s.missing(
            &[key, "credentials"],
            format!("\"{key}\" is missing; write {key} = {{ file = \"/path/to/it\" }}, or give all in \"credentials\""),
        );
    }
    field
}

fn decode_token(field: &Field<'_>) -> Option<Secret> {
    let token = decode_secret(field)?;
    if http::HeaderValue::from_bytes(token.expose()).is_err() {
        field.problem("the token has characters that no HTTP header may hold; correct it");
        return None;
    }
    Some(token)
}
