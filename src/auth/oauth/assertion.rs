//! The signed statement of who the client is: `private_key_jwt` (RFC 7523, section 2.2).

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde_json::json;

use crate::hex;
use crate::key::{self, SigningFailed, SigningKey};
use crate::secret::Secret;

pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Long enough for clocks that differ, too short to be worth stealing.
const LIFETIME: Duration = Duration::from_secs(60);

pub struct Key {
    key: SigningKey,
    algorithm: &'static str,
    id: Option<String>,
}

impl Key {
    pub fn new(pem: &Secret, id: Option<&str>) -> Result<Self, String> {
        let (key, algorithm) = SigningKey::for_jws(pem)?;
        Ok(Self {
            key,
            algorithm,
            id: id.map(str::to_owned),
        })
    }

    /// A statement of `client`'s for `audience`, good for one use.
    pub fn assertion(
        &self,
        client: &str,
        audience: &str,
        now: SystemTime,
    ) -> Result<String, SigningFailed> {
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let mut header = json!({ "alg": self.algorithm, "typ": "JWT" });
        if let Some(id) = &self.id {
            header["kid"] = id.as_str().into();
        }
        let claims = json!({
            "iss": client,
            "sub": client,
            "aud": audience,
            "jti": hex::text(&key::nonce()?),
            "iat": now.as_secs(),
            "exp": (now + LIFETIME).as_secs(),
        });
        let mut jwt = BASE64URL.encode(header.to_string());
        jwt.push('.');
        BASE64URL.encode_string(claims.to_string(), &mut jwt);
        let signature = self.key.sign(jwt.as_bytes())?;
        jwt.push('.');
        BASE64URL.encode_string(signature, &mut jwt);
        Ok(jwt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_says_who_for_whom_and_for_how_long() {
        let pem = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let key = Key::new(&Secret::new(pem.into_bytes()), Some("k1")).unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let jwt = key.assertion("me", "https://issuer/", now).unwrap();
        let parts: Vec<&str> = jwt.split('.').collect();
        let json = |part: &str| -> serde_json::Value {
            serde_json::from_slice(&BASE64URL.decode(part).unwrap()).unwrap()
        };
        assert_eq!(
            json(parts[0]),
            json!({"alg": "ES256", "typ": "JWT", "kid": "k1"})
        );
        let claims = json(parts[1]);
        assert_eq!(
            (&claims["iss"], &claims["sub"]),
            (&json!("me"), &json!("me"))
        );
        assert_eq!(claims["aud"], "https://issuer/");
        assert_eq!(
            (&claims["iat"], &claims["exp"]),
            (&json!(1000), &json!(1060))
        );
        assert_eq!(BASE64URL.decode(parts[2]).unwrap().len(), 64);
        let again = key.assertion("me", "https://issuer/", now).unwrap();
        assert_ne!(json(again.split('.').nth(1).unwrap())["jti"], claims["jti"]);
    }
}
