//! `[credential.NAME.oauth-client-credentials]`.

use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;

use crate::config::decode::{Field, Section};
use crate::config::secret::{decode_secret, decode_text};
use crate::config::tls::decode_tls;
use crate::config::{ClientProof, CredentialScheme, Oauth, Target, TokenIssuer};
use crate::key::SigningKey;
use crate::secret::Secret;

const TIMEOUT: Duration = Duration::from_secs(10);

const IN_CLEAR: &str =
    "the client's secret and the token would cross the network in clear; use https";

pub fn decode(field: &Field<'_>) -> Option<CredentialScheme> {
    let mut s = field.section()?;
    let issuer = issuer(&mut s);
    let client_id = s
        .required("client_id", "write the client's identifier")
        .and_then(|field| decode_text(&field, "the client's identifier"));
    let client = proof(&mut s);
    let scope = s.field("scope").map(|field| scope(&field));
    let resource = s.field("resource").map(|field| resource(&field));
    let timeout = s.field("timeout").map(|field| field.duration());
    let tls = decode_tls(&mut s);
    s.finish();
    Some(CredentialScheme::OauthClientCredentials(Box::new(Oauth {
        issuer: issuer?,
        client_id: client_id?,
        client: client?,
        scope: scope.map_or(Some(None), |scope| scope.map(Some))?,
        resource: resource.map_or(Some(None), |resource| resource.map(Some))?,
        timeout: timeout.unwrap_or(Some(TIMEOUT))?,
        tls: Arc::new(tls),
    })))
}

fn issuer(s: &mut Section<'_>) -> Option<TokenIssuer> {
    let advice = "write token_url = \"https://…/token\" (or issuer = \"https://…\")";
    let field = s.exactly_one(&["token_url", "issuer"], advice)?;
    let url = field.text()?.to_owned();
    if field.key() == "token_url" {
        let target = field.parse(Target::token_endpoint)?;
        return Some(TokenIssuer::TokenUrl { url, target });
    }
    let target = field.parse(|text| {
        if text.contains('?') {
            return Err("an issuer's name has no query; leave it out".to_owned());
        }
        Target::token_endpoint(text)
    })?;
    Some(TokenIssuer::Issuer {
        issuer: url,
        target,
    })
}

impl Target {
    /// A URL that a client may show its secret at.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn token_endpoint(url: &str) -> Result<Self, String> {
        let target = Self::endpoint(url)?;
        if target.scheme == Scheme::HTTP && !target.is_local() {
            return Err(IN_CLEAR.to_owned());
        }
        Ok(target)
    }
}

fn proof(s: &mut Section<'_>) -> Option<ClientProof> {
    let advice = "write client_secret = { file = \"/path/to/it\" }";
    let field = s.exactly_one(&["client_secret", "private_key"], advice);
    let auth = s.field("client_auth");
    let key_id = s.field("private_key_id");
    let field = field?;
    let secret = decode_secret(&field)?;
    if field.key() == "private_key" {
        if let Some(auth) = auth {
            auth.key_problem("\"client_auth\" belongs to a client_secret; remove it");
        }
        SigningKey::for_jws(&secret)
            .map_err(|error| field.problem(error))
            .ok()?;
        let id = match key_id {
            Some(field) => Some(field.text()?.to_owned()),
            None => None,
        };
        return Some(ClientProof::PrivateKey { key: secret, id });
    }
    if let Some(key_id) = key_id {
        key_id.key_problem("\"private_key_id\" belongs to a private_key; remove it");
    }
    let basic: fn(Secret) -> ClientProof = ClientProof::SecretBasic;
    let how = auth.map_or(Some(basic), |field| {
        field.choice(&[("basic", basic), ("post", ClientProof::SecretPost)])
    })?;
    Some(how(secret))
}

fn scope(field: &Field<'_>) -> Option<String> {
    field.parse(|text| {
        // RFC 6749, section 3.3.
        let is_legal = |c: char| matches!(c, ' ' | '!' | '#'..='[' | ']'..='~');
        if text.is_empty() || !text.chars().all(is_legal) {
            return Err("not a scope; write words with one space between them".to_owned());
        }
        Ok(text.to_owned())
    })
}

fn resource(field: &Field<'_>) -> Option<String> {
    field.parse(|text| {
        // RFC 8707, section 2.
        let uri: Option<http::Uri> = text.parse().ok();
        match uri {
            Some(uri) if uri.scheme().is_some() && !text.contains('#') => Ok(text.to_owned()),
            _ => Err(
                "not an absolute URI without a fragment; write it as in https://mcp.example.com/"
                    .to_owned(),
            ),
        }
    })
}
