//! The requests, keys and signatures are those of RFC 9421, appendix B.

use aws_lc_rs::signature::{self, UnparsedPublicKey};
use http::{Method, Uri};

use super::*;
use crate::config::{Target, Text};
use crate::key::Algorithm;
use crate::secret::Secret;

const CREATED: u64 = 1_618_884_473;

const SHARED_SECRET: &str =
    "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==";

const ED25519: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF
-----END PRIVATE KEY-----
";

const P256: &str = "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIFKbhfNZfpDsW43+0+JjUr9K+bTeuxopu653+hBaXGA7oAoGCCqGSM49
AwEHoUQDQgAEqIVYZVLCrPZHGHjP17CTW0/+D9Lfw0EkjqF7xB4FivAxzic30tMM
4GF+hR6Dxh71Z50VGGdldkkDXZCnTNnoXQ==
-----END EC PRIVATE KEY-----
";

const P256_PUBLIC: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqIVYZVLCrPZHGHjP17CTW0/+D9Lf\
    w0EkjqF7xB4FivAxzic30tMM4GF+hR6Dxh71Z50VGGdldkkDXZCnTNnoXQ==";

const RSA_PSS: &str = include_str!("test-key-rsa-pss.pem");

const RSA_PSS_PUBLIC: &str = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAr4tmm3r20Wd/PbqvP1s2\
    +QEtvpuRaV8Yq40gjUR8y2Rjxa6dpG2GXHbPfvMs8ct+Lh1GH45x28Rw3Ry53mm+\
    oAXjyQ86OnDkZ5N8lYbggD4O3w6M6pAvLkhk95AndTrifbIFPNU8PPMO7OyrFAHq\
    gDsznjPFmTOtCEcN2Z1FpWgchwuYLPL+Wokqltd11nqqzi+bJ9cvSKADYdUAAN5W\
    Utzdpiy6LbTgSxP7ociU4Tn0g5I6aDZJ7A8Lzo0KSyZYoA485mqcO0GVAdVw9lq4\
    aOT9v6d+nb4bnNkQVklLQ3fVAvJm+xdDOp9LCNCN48V2pnDOkFV6+U9nV5oyc6XI\
    2wIDAQAB";

/// The SHA-256 of `{"hello": "world"}`.
const BODY: &str = "X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=";

fn config(
    algorithm: Algorithm,
    key: Vec<u8>,
    key_id: &str,
    components: &[Component],
) -> HttpSignature {
    HttpSignature {
        key_id: Text {
            secret: Secret::new(key_id.as_bytes().to_vec()),
            hidden: false,
        },
        algorithm,
        key: Secret::new(key),
        key_is_base64: false,
        components: components.to_vec(),
        label: "sig1".to_owned(),
        created: true,
        expires: None,
        nonce: false,
    }
}

fn header(name: &'static str) -> Component {
    Component::Header(HeaderName::from_static(name))
}

fn test_request<T>(work: impl FnOnce(&Unsigned<'_>) -> T) -> T {
    let headers: HeaderMap = [
        ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
        ("content-type", "application/json"),
        ("content-length", "18"),
    ]
    .into_iter()
    .map(|(name, value)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    })
    .collect();
    work(&Unsigned {
        method: &Method::POST,
        uri: &Uri::from_static("/foo?param=Value&Pet=dog"),
        headers: &headers,
        target: &Target::endpoint("https://example.com/").unwrap(),
    })
}

fn sign(config: &HttpSignature) -> HeaderMap {
    let body: BodyDigest = BASE64.decode(BODY).unwrap().try_into().unwrap();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(CREATED);
    let signer = Signer::new(config).unwrap();
    test_request(|request| signer.sign(request, &body, now))
}

/// What of a `Signature` header is between the colons.
fn signature(headers: &HeaderMap) -> Vec<u8> {
    let value = headers[SIGNATURE].to_str().unwrap();
    let encoded = value
        .strip_prefix("sig1=:")
        .unwrap()
        .strip_suffix(':')
        .unwrap();
    BASE64.decode(encoded).unwrap()
}

#[test]
fn b_2_5_signing_a_request_using_hmac_sha256() {
    let components = [header("date"), Component::Authority, header("content-type")];
    let key = BASE64.decode(SHARED_SECRET).unwrap();
    let signed = sign(&config(
        Algorithm::HmacSha256,
        key,
        "test-shared-secret",
        &components,
    ));
    assert_eq!(
        signed[SIGNATURE_INPUT],
        r#"sig1=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#
    );
    assert_eq!(
        signed[SIGNATURE],
        "sig1=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:"
    );
    assert!(signed[SIGNATURE].is_sensitive());
}

#[test]
fn b_2_6_signing_a_request_using_ed25519() {
    let components = [
        header("date"),
        Component::Method,
        Component::Path,
        Component::Authority,
        header("content-type"),
        header("content-length"),
    ];
    let signed = sign(&config(
        Algorithm::Ed25519,
        ED25519.into(),
        "test-key-ed25519",
        &components,
    ));
    assert_eq!(
        signed[SIGNATURE],
        "sig1=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:"
    );
}

/// RSASSA-PSS and ECDSA sign differently each time: the appendix's public keys must take it.
#[test]
fn b_2_2_selective_coverage_using_rsa_pss_sha512() {
    let components = [
        Component::Authority,
        header("content-digest"),
        Component::QueryParam("Pet".to_owned()),
    ];
    let signed = sign(&config(
        Algorithm::RsaPssSha512,
        RSA_PSS.into(),
        "test-key-rsa-pss",
        &components,
    ));
    let base = format!(
        "\"@authority\": example.com\n\"content-digest\": sha-256=:{BODY}:\n\
         \"@query-param\";name=\"Pet\": dog\n\
         \"@signature-params\": (\"@authority\" \"content-digest\" \"@query-param\";name=\"Pet\")\
         ;created=1618884473;keyid=\"test-key-rsa-pss\""
    );
    assert_eq!(signed[CONTENT_DIGEST], format!("sha-256=:{BODY}:"));
    UnparsedPublicKey::new(
        &signature::RSA_PSS_2048_8192_SHA512,
        BASE64.decode(RSA_PSS_PUBLIC).unwrap(),
    )
    .verify(base.as_bytes(), &self::signature(&signed))
    .unwrap();
}

#[test]
fn every_derived_component_stands_in_the_base_as_the_rfc_writes_it() {
    let components = [
        Component::Method,
        Component::TargetUri,
        Component::Authority,
        Component::Scheme,
        Component::RequestTarget,
        Component::Path,
        Component::Query,
        header("x-absent"),
        Component::QueryParam("none".to_owned()),
    ];
    let signed = sign(&config(
        Algorithm::EcdsaP256Sha256,
        P256.into(),
        "test-key-ecc-p256",
        &components,
    ));
    let base = "\"@method\": POST\n\
        \"@target-uri\": https://example.com/foo?param=Value&Pet=dog\n\
        \"@authority\": example.com\n\"@scheme\": https\n\
        \"@request-target\": /foo?param=Value&Pet=dog\n\"@path\": /foo\n\
        \"@query\": ?param=Value&Pet=dog\n\
        \"@signature-params\": (\"@method\" \"@target-uri\" \"@authority\" \"@scheme\" \
        \"@request-target\" \"@path\" \"@query\");created=1618884473;keyid=\"test-key-ecc-p256\"";
    UnparsedPublicKey::new(
        &signature::ECDSA_P256_SHA256_FIXED,
        BASE64.decode(P256_PUBLIC).unwrap(),
    )
    .verify(base.as_bytes(), &self::signature(&signed))
    .unwrap();
}

#[test]
fn expiry_and_nonce_are_written_where_they_were_asked_for() {
    let mut config = config(
        Algorithm::HmacSha256,
        b"key".to_vec(),
        r#"a"b\c"#,
        &[Component::Method],
    );
    config.expires = Some(Duration::from_secs(300));
    config.nonce = true;
    let (one, two) = (sign(&config), sign(&config));
    let input = one[SIGNATURE_INPUT].to_str().unwrap();
    assert!(input.starts_with(r#"sig1=("@method");created=1618884473;expires=1618884773;nonce=""#));
    assert!(input.ends_with(r#"";keyid="a\"b\\c""#), "{input}");
    assert_ne!(one[SIGNATURE_INPUT], two[SIGNATURE_INPUT]);
    assert_ne!(one[SIGNATURE], two[SIGNATURE]);
    config.created = false;
    assert!(
        !sign(&config)[SIGNATURE_INPUT]
            .to_str()
            .unwrap()
            .contains("created")
    );
}

#[test]
fn several_lines_of_a_header_are_one_value() {
    let mut headers = HeaderMap::new();
    headers.append("x-many", HeaderValue::from_static(" one "));
    headers.append("x-many", HeaderValue::from_static("two"));
    let request = Unsigned {
        method: &Method::GET,
        uri: &Uri::from_static("/"),
        headers: &headers,
        target: &Target::endpoint("https://example.com/").unwrap(),
    };
    let (lines, names) = base::lines(
        &[header("x-many"), Component::Query],
        &request,
        &HeaderMap::new(),
    );
    assert_eq!(lines, "\"x-many\": one, two\n\"@query\": ?\n");
    assert_eq!(names, "\"x-many\" \"@query\"");
}
