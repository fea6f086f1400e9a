use std::time::Duration;

use http::{HeaderMap, Method, Uri};

use super::*;
use crate::client::ProxyVariables;
use crate::config::{Target, Text};
use crate::metrics::Metrics;
use crate::secret::Secret;

const VECTORS: &str = include_str!("vectors.json");

fn gateway_key(key_id: &str, secret: &str) -> GatewayKey {
    GatewayKey {
        key_id: Text {
            secret: Secret::new(key_id.as_bytes().to_vec()),
            hidden: false,
        },
        secret: Secret::new(secret.as_bytes().to_vec()),
    }
}

fn gateway(key: GatewayKey, change: impl FnOnce(&mut AuthGateway)) -> Gateway {
    let mut config = AuthGateway {
        key,
        previous: None,
        headers: GatewayHeaders::default(),
    };
    change(&mut config);
    let around = Surroundings {
        proxies: &ProxyVariables::new(|_| None),
        metrics: Metrics::default().credential("test"),
        log: &Logger::root(slog::Discard, slog::o!()),
    };
    Gateway::new("test", &config, &around).unwrap()
}

fn sign(gateway: &Gateway, method: &Method, uri: &str, now: SystemTime) -> HeaderMap {
    let request = Unsigned {
        method,
        uri: &uri.parse::<Uri>().unwrap(),
        headers: &HeaderMap::new(),
        target: &Target::endpoint("https://mcp.example.com/").unwrap(),
    };
    let added = gateway.sign(Which::Present, &request, Some(&[0xab; 32]), now);
    added.into()
}

#[test]
fn every_published_vector_is_reproduced() {
    let vectors: serde_json::Value = serde_json::from_str(VECTORS).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    assert!(cases.len() >= 16);
    for case in cases {
        let text = |name: &str| case[name].as_str().unwrap();
        let gateway = gateway(gateway_key(text("key_id"), text("secret")), |_| {});
        let method = text("method").parse().unwrap();
        let now = humantime::parse_rfc3339(text("timestamp")).unwrap();
        let signed = sign(&gateway, &method, text("request_target"), now);
        assert_eq!(signed[SIGNATURE], text("signature"), "{}", case["name"]);
        assert_eq!(signed[TIMESTAMP], text("timestamp"));
        assert_eq!(signed[KEY_ID], text("key_id"));
        assert_eq!(signed.len(), 3);
    }
}

#[test]
fn a_later_attempt_has_a_later_timestamp_and_another_signature() {
    let gateway = gateway(gateway_key("k", "s"), |_| {});
    let first = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let one = sign(&gateway, &Method::POST, "/mcp", first);
    let two = sign(
        &gateway,
        &Method::POST,
        "/mcp",
        first + Duration::from_secs(1),
    );
    assert_ne!(one[SIGNATURE], two[SIGNATURE]);
    assert_eq!(two[TIMESTAMP], "2023-11-14T22:13:21Z");
    assert!(two[SIGNATURE].is_sensitive());
}

#[test]
fn a_gateway_of_the_family_gets_its_headers_and_its_lines_in_order() {
    let gateway = gateway(gateway_key("k", "s"), |config| {
        config.headers = GatewayHeaders {
            key_id: HeaderName::from_static("x-id"),
            timestamp: HeaderName::from_static("x-when"),
            signature: HeaderName::from_static("x-mac"),
            nonce: Some(HeaderName::from_static("x-nonce")),
            digest: Some(HeaderName::from_static("x-sha256")),
        };
    });
    assert!(gateway.covers_body());
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let signed = sign(&gateway, &Method::POST, "/mcp?q", now);
    let nonce = signed["x-nonce"].to_str().unwrap();
    assert_eq!(nonce.len(), 32);
    assert_eq!(signed["x-sha256"], "ab".repeat(32));
    let mut mac = Hmac::<Sha256>::new_from_slice(b"s").unwrap();
    let text = format!(
        "POST\n/mcp\n2023-11-14T22:13:20Z\n{nonce}\n{}",
        "ab".repeat(32)
    );
    mac.update(text.as_bytes());
    assert_eq!(signed["x-mac"], hex::text(&mac.finalize().into_bytes()));
    assert_eq!((&signed["x-id"], signed.len()), (&"k".parse().unwrap(), 5));
    let again = sign(&gateway, &Method::POST, "/mcp?q", now);
    assert_ne!(again["x-nonce"], signed["x-nonce"]);
    assert!(gateway.owns(&HeaderName::from_static("x-nonce")));
    assert!(!gateway.owns(&HeaderName::from_static(SIGNATURE)));
}

#[test]
fn a_previous_key_is_there_until_its_time_is_over() {
    let now = SystemTime::now();
    let hour = Duration::from_secs(3600);
    for (until, before, after) in [
        (Some(now + hour), true, false),
        (Some(now), false, false),
        (None, true, true),
    ] {
        let gateway = gateway(gateway_key("k", "s"), |config| {
            let key = gateway_key("k", "before");
            config.previous = Some(PreviousKey { key, until });
        });
        assert_eq!(gateway.has_previous_at(|| now), before, "{until:?}");
        assert_eq!(gateway.has_previous_at(|| now + hour), after, "{until:?}");
        // What asks the clock says the same.
        assert_eq!(gateway.refused(Which::Present, Instant::now()), before);
        assert_eq!(gateway.previous_until(), before.then_some(until));
    }
}
