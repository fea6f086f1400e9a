//! What the gateway does with a request before anything else: exactly one of each header, a known
//! key, a timestamp within 300 s, the right signature.
//!
//! Written apart from the code that signs, so that a mistake there is not repeated here.

use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, Method};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::hex;
use crate::path;

const WINDOW: Duration = Duration::from_secs(300);
/// Length of `2026-11-22T09:00:00Z`.
const TIMESTAMP_LEN: usize = 20;

pub struct Verifier {
    key_id: String,
    mac: Hmac<Sha256>,
}

/// What a good signature covered.
#[derive(Debug, Clone)]
pub struct Signed {
    pub method: Method,
    pub path: String,
    pub timestamp: String,
    pub key_id: String,
    /// The first digits alone: whoever reads all of them holds a key.
    pub signature_start: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// None of this header, or more than one.
    Count(&'static str),
    UnknownKey,
    Timestamp,
    OutsideWindow,
    Signature,
}

impl Refused {
    /// The gateway's own words.
    pub fn words(self) -> &'static str {
        match self {
            Self::UnknownKey => "Invalid Api Key",
            _ => "Invalid Signature",
        }
    }
}

impl Verifier {
    pub fn new(key_id: String, secret: &[u8]) -> Self {
        let mac = Hmac::new_from_slice(secret).expect("HMAC takes keys of any length");
        Self { key_id, mac }
    }

    /// # Errors
    /// The first fault found.
    pub fn verify(
        &self,
        method: &Method,
        raw_path: &str,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Result<Signed, Refused> {
        let key_id = only(headers, "x-api-key-id")?;
        let timestamp = only(headers, "x-timestamp")?;
        let signature = only(headers, "x-signature")?;
        if key_id != self.key_id {
            return Err(Refused::UnknownKey);
        }
        check_window(timestamp, now)?;
        let path = path::decode(raw_path);
        let mut mac = self.mac.clone();
        for part in [method.as_str().as_bytes(), b"\n", &path, b"\n"] {
            mac.update(part);
        }
        mac.update(timestamp.as_bytes());
        let expected = hex::text(&mac.finalize().into_bytes());
        if !bool::from(expected.as_bytes().ct_eq(signature.as_bytes())) {
            return Err(Refused::Signature);
        }
        Ok(Signed {
            method: method.clone(),
            path: String::from_utf8_lossy(&path).into_owned(),
            timestamp: timestamp.to_owned(),
            key_id: key_id.to_owned(),
            signature_start: signature[..8].to_owned(),
        })
    }
}

fn only<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, Refused> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().map_err(|_| Refused::Count(name)),
        _ => Err(Refused::Count(name)),
    }
}

fn check_window(timestamp: &str, now: SystemTime) -> Result<(), Refused> {
    let signed_at = match humantime::parse_rfc3339(timestamp) {
        Ok(at) if timestamp.len() == TIMESTAMP_LEN => at,
        _ => return Err(Refused::Timestamp),
    };
    let age = now
        .duration_since(signed_at)
        .unwrap_or_else(|ahead| ahead.duration());
    if age > WINDOW {
        return Err(Refused::OutsideWindow);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const VECTORS: &str = include_str!("../auth/gateway/vectors.json");

    struct Case {
        verifier: Verifier,
        method: Method,
        path: String,
        headers: HeaderMap,
        now: SystemTime,
    }

    impl Case {
        fn of(case: &serde_json::Value) -> Self {
            let text = |name: &str| case[name].as_str().unwrap();
            let mut headers = HeaderMap::new();
            for (name, from) in [
                ("x-api-key-id", "key_id"),
                ("x-timestamp", "timestamp"),
                ("x-signature", "signature"),
            ] {
                headers.insert(name, HeaderValue::from_str(text(from)).unwrap());
            }
            let target: http::Uri = text("request_target").parse().unwrap();
            Self {
                verifier: Verifier::new(text("key_id").to_owned(), text("secret").as_bytes()),
                method: text("method").parse().unwrap(),
                path: target.path().to_owned(),
                headers,
                now: humantime::parse_rfc3339(text("timestamp")).unwrap(),
            }
        }

        fn first() -> Self {
            let vectors: serde_json::Value = serde_json::from_str(VECTORS).unwrap();
            Self::of(&vectors["cases"][0])
        }

        fn with(mut self, name: &'static str, value: &str) -> Self {
            self.headers
                .insert(name, HeaderValue::from_str(value).unwrap());
            self
        }

        fn after(mut self, seconds: u64) -> Self {
            self.now += Duration::from_secs(seconds);
            self
        }

        fn verdict(&self) -> Result<(), Refused> {
            self.verifier
                .verify(&self.method, &self.path, &self.headers, self.now)
                .map(drop)
        }
    }

    #[test]
    fn every_published_vector_is_accepted() {
        let vectors: serde_json::Value = serde_json::from_str(VECTORS).unwrap();
        for case in vectors["cases"].as_array().unwrap() {
            assert_eq!(Case::of(case).verdict(), Ok(()), "{}", case["name"]);
        }
    }

    #[test]
    fn a_header_that_is_missing_or_twice_there_is_refused() {
        for name in ["x-api-key-id", "x-timestamp", "x-signature"] {
            let mut missing = Case::first();
            let value = missing.headers.remove(name).unwrap();
            assert_eq!(missing.verdict(), Err(Refused::Count(name)));
            let mut twice = Case::first();
            twice.headers.append(name, value);
            assert_eq!(twice.verdict(), Err(Refused::Count(name)));
        }
    }

    #[test]
    fn an_unknown_key_gets_the_gateways_words_for_it() {
        let refused = Case::first().with("x-api-key-id", "mallory").verdict();
        assert_eq!(refused, Err(Refused::UnknownKey));
        assert_eq!(Refused::UnknownKey.words(), "Invalid Api Key");
        assert_eq!(Refused::OutsideWindow.words(), "Invalid Signature");
    }

    #[test]
    fn a_signature_holds_for_300_seconds_either_way() {
        assert_eq!(Case::first().after(300).verdict(), Ok(()));
        let late = Case::first().after(301);
        assert_eq!(late.verdict(), Err(Refused::OutsideWindow));
        let mut early = Case::first();
        early.now -= Duration::from_secs(301);
        assert_eq!(early.verdict(), Err(Refused::OutsideWindow));
    }

    #[test]
    fn a_timestamp_of_another_shape_is_refused() {
        for shape in ["", "1700000000", "2023-11-14T22:13:20.5Z", "2023-11-14"] {
            let refused = Case::first().with("x-timestamp", shape).verdict();
            assert_eq!(refused, Err(Refused::Timestamp), "{shape}");
        }
    }

    #[test]
    fn a_signature_for_anything_else_is_refused() {
        let mut path = Case::first();
        path.path.push('x');
        let mut method = Case::first();
        method.method = Method::PATCH;
        let upper = Case::first().headers["x-signature"]
            .to_str()
            .unwrap()
            .to_uppercase();
        let upper = Case::first().with("x-signature", &upper);
        let empty = Case::first().with("x-signature", "");
        for case in [path, method, upper, empty] {
            assert_eq!(case.verdict(), Err(Refused::Signature));
        }
    }
}
