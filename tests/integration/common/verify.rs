//! The gateway's side of the signature, written anew: nothing here comes from the proxy.

use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use percent_encoding::percent_decode_str;
use sha2::Sha256;

/// How old a timestamp may be that was made for this very attempt. The gateway allows 300 s.
const FRESH: Duration = Duration::from_secs(5);

/// A key id and the secrets that are good for it.
pub type Accepted = Vec<(String, String)>;

/// Checks a request as the gateway does, and more strictly.
pub fn verify(
    method: &str,
    raw_path: &str,
    headers: &HeaderMap,
    accepted: &Accepted,
) -> Result<(), String> {
    let key_id = the_only(headers, "x-api-key-id")?;
    let timestamp = the_only(headers, "x-timestamp")?;
    let signature = the_only(headers, "x-signature")?;
    check_fresh(timestamp)?;
    let is_good = accepted
        .iter()
        .filter(|(id, _)| id == key_id)
        .any(|(_, secret)| signature == sign(secret, method, raw_path, timestamp));
    if is_good {
        Ok(())
    } else {
        Err(format!("Invalid Signature: {method} {raw_path}"))
    }
}

/// The signature in lower-case hex.
pub fn sign(secret: &str, method: &str, raw_path: &str, timestamp: &str) -> String {
    let path: Vec<u8> = percent_decode_str(raw_path).collect();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length will do");
    for part in [method.as_bytes(), b"\n", &path, b"\n", timestamp.as_bytes()] {
        mac.update(part);
    }
    let digest = mac.finalize().into_bytes();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn the_only<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, String> {
    let values: Vec<_> = headers.get_all(name).iter().collect();
    match values[..] {
        [value] => value.to_str().map_err(|_| format!("{name} is no text")),
        _ => Err(format!("{} times {name}", values.len())),
    }
}

/// RFC 3339, UTC, whole seconds, `Z`, and of now.
fn check_fresh(timestamp: &str) -> Result<(), String> {
    let shape: String = timestamp
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    if shape != "0000-00-00T00:00:00Z" {
        return Err(format!("x-timestamp is {timestamp}"));
    }
    let at = humantime::parse_rfc3339(timestamp).map_err(|error| error.to_string())?;
    let now = SystemTime::now();
    let age = now
        .duration_since(at)
        .unwrap_or_else(|ahead| ahead.duration());
    if age <= FRESH {
        Ok(())
    } else {
        Err(format!("x-timestamp is {age:?} old"))
    }
}
