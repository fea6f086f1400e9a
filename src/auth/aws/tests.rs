use std::time::Duration;

use http::{Method, Uri};

use super::*;
use crate::config::{Target, Text};
use crate::secret::Secret;

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

fn signer(service: &str, token: Option<&str>) -> Signer {
    Signer::new(&AwsSigv4 {
        region: "us-east-1".to_owned(),
        service: service.to_owned(),
        keys: AwsKeys::Separate {
            access_key_id: Text {
                secret: secret("AKIDEXAMPLE"),
                hidden: false,
            },
            secret_access_key: secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            session_token: token.map(secret),
        },
    })
    .unwrap()
}

fn authorization(
    signer: &Signer,
    method: &str,
    uri: &str,
    headers: &[(&'static str, &str)],
) -> String {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            )
        })
        .collect();
    let request = Unsigned {
        method: &method.parse::<Method>().unwrap(),
        uri: &uri.parse::<Uri>().unwrap(),
        headers: &headers,
        target: &Target::endpoint("https://example.amazonaws.com/").unwrap(),
    };
    let now = humantime::parse_rfc3339("2015-08-30T12:36:00Z").unwrap();
    let empty = hex::text(digest::digest(&SHA256, b"").as_ref());
    let signed = signer.sign_with(&request, HeaderMap::new(), &empty, now);
    assert_eq!(signed[DATE], "20150830T123600Z");
    signed[AUTHORIZATION].to_str().unwrap().to_owned()
}

/// From AWS's Signature Version 4 test suite: those cases that such a request can have, by name.
#[test]
fn every_published_vector_is_reproduced() {
    let token = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
    let cases = [
        (
            "get-vanilla",
            "GET",
            "/",
            None,
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            "post-vanilla",
            "POST",
            "/",
            None,
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
        (
            "get-vanilla-query-order-encoded",
            "GET",
            "/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1",
            None,
            "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
        ),
        (
            "get-slashes-normalized",
            "GET",
            "//example//",
            None,
            "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
        ),
        (
            "get-vanilla-with-session-token",
            "GET",
            "/",
            Some(token),
            "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
        ),
        (
            "get-vanilla-query-order-key-case",
            "GET",
            "/?Param2=value2&Param1=value1",
            None,
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "get-vanilla-query-unreserved",
            "GET",
            "/?-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
            None,
            "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
        ),
        (
            "get-vanilla-empty-query-key",
            "GET",
            "/?Param1=value1",
            None,
            "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
        ),
        (
            "get-unreserved",
            "GET",
            "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
            None,
            "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
        ),
    ];
    for (name, method, uri, token, signature) in cases {
        let signed = authorization(&signer("service", token), method, uri, &[]);
        let scope = "Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request";
        assert!(
            signed.starts_with(&format!(
                "AWS4-HMAC-SHA256 {scope}, SignedHeaders=host;x-amz-date"
            )),
            "{name}"
        );
        assert!(
            signed.ends_with(&format!(", Signature={signature}")),
            "{name}: {signed}"
        );
    }
}

#[test]
fn a_path_is_encoded_once_more_but_for_s3() {
    assert_eq!(
        canonical::path("/test/@connections/JBDvjfGEIAMCERw%3D"),
        "/test/%40connections/JBDvjfGEIAMCERw%253D"
    );
    let once = authorization(&signer("s3", None), "GET", "/a%20b", &[]);
    let twice = authorization(&signer("service", None), "GET", "/a%20b", &[]);
    assert_ne!(once, twice);
    assert_eq!(
        canonical::query("b=%7e&a=1+2&a=%31&c"),
        "a=1&a=1%202&b=~&c="
    );
}

#[test]
fn the_media_type_and_every_amz_header_of_the_request_are_signed() {
    let headers = [
        ("content-type", "application/json"),
        ("x-amz-target", "a   b"),
        ("accept", "*/*"),
    ];
    let signed = authorization(&signer("service", None), "POST", "/", &headers);
    assert!(
        signed.contains("SignedHeaders=content-type;host;x-amz-date;x-amz-target,"),
        "{signed}"
    );
}

#[test]
fn the_body_and_the_day_change_the_signature() {
    let signer = signer("service", None);
    let request = Unsigned {
        method: &Method::POST,
        uri: &Uri::from_static("/"),
        headers: &HeaderMap::new(),
        target: &Target::endpoint("https://example.amazonaws.com/").unwrap(),
    };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160);
    let one = signer.sign(&request, &[1; 32], now);
    let two = signer.sign(&request, &[2; 32], now);
    let later = signer.sign(&request, &[1; 32], now + Duration::from_secs(86_400));
    assert_eq!(one[CONTENT_SHA256], "01".repeat(32));
    assert!(one[AUTHORIZATION].is_sensitive());
    assert_ne!(one[AUTHORIZATION], two[AUTHORIZATION]);
    assert_ne!(one[AUTHORIZATION], later[AUTHORIZATION]);
}
