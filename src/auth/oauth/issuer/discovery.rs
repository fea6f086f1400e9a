//! From an issuer's name to its token endpoint (RFC 8414; OpenID Connect Discovery 1.0).

use http::header::{ACCEPT, HeaderValue};
use http::{Request, StatusCode, Uri};
use serde::Deserialize;

use super::send;
use crate::client::Client;
use crate::json;
use crate::message::RequestBody;

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    token_endpoint: Option<String>,
}

/// The URL of the token endpoint. The error goes on with a sentence about the issuer.
pub async fn token_endpoint(issuer: &str, client: &Client) -> Result<String, String> {
    let mut refused = String::new();
    for path in paths(issuer) {
        let mut request = Request::new(RequestBody::empty());
        *request.uri_mut() = Uri::try_from(&path).map_err(|_| "has a malformed path")?;
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(ACCEPT, json);
        let (status, body) = send(client, request).await?;
        if status == StatusCode::OK {
            return of_metadata(issuer, &body);
        }
        refused = format!("has no metadata: {path} is answered with {status}");
    }
    Err(refused)
}

/// Where metadata may be: RFC 8414, section 3.1, puts the well-known part first, and OpenID
/// Connect last.
fn paths(issuer: &str) -> [String; 2] {
    let path = issuer
        .split_once("://")
        .and_then(|(_, rest)| rest.split_once('/'))
        .map_or("", |(_, path)| path)
        .trim_end_matches('/');
    let slash = if path.is_empty() { "" } else { "/" };
    [
        format!("/.well-known/oauth-authorization-server{slash}{path}"),
        format!("{slash}{path}/.well-known/openid-configuration"),
    ]
}

fn of_metadata(issuer: &str, body: &[u8]) -> Result<String, String> {
    let metadata: Metadata =
        json::object(body).map_err(|_| "answers with something that is no metadata".to_owned())?;
    // RFC 8414, section 3.3: or one issuer could pose as another.
    if metadata.issuer != issuer {
        let other: String = metadata
            .issuer
            .chars()
            .filter(char::is_ascii_graphic)
            .take(200)
            .collect();
        return Err(format!(
            "calls itself {other:?} in its metadata, which must be \"issuer\" to the letter"
        ));
    }
    metadata
        .token_endpoint
        .ok_or_else(|| "names no token endpoint in its metadata".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_looked_for_where_both_standards_put_it() {
        assert_eq!(
            paths("https://as.example/"),
            [
                "/.well-known/oauth-authorization-server",
                "/.well-known/openid-configuration"
            ]
        );
        assert_eq!(
            paths("https://as.example/tenant/1"),
            [
                "/.well-known/oauth-authorization-server/tenant/1",
                "/tenant/1/.well-known/openid-configuration"
            ]
        );
    }

    #[test]
    fn metadata_of_another_issuer_is_refused() {
        let body = br#"{"issuer":"https://evil/","token_endpoint":"https://evil/token"}"#;
        assert!(of_metadata("https://as.example", body).is_err());
        let values = br#"["https://evil/","https://evil/token"]"#;
        assert!(of_metadata("https://evil/", values).is_err());
        assert_eq!(
            of_metadata("https://evil/", body).unwrap(),
            "https://evil/token"
        );
    }
}
