//! One credential of each kind, and how an upstream would check what it signs.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, KeyPair, RSA_PSS_2048_8192_SHA512, UnparsedPublicKey,
    VerificationAlgorithm,
};
use aws_lc_rs::{rsa, signature};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::common::verify;
use crate::common::{KEY_ID, SECRET, Seen, Setup};

type Check = Box<dyn Fn(&Seen) -> Result<(), String> + Send + Sync>;

pub struct Scheme {
    pub name: &'static str,
    /// The credential's table.
    pub toml: String,
    pub check: Check,
    /// Whether its bodies are read before they are sent.
    pub covers_body: bool,
}

const AWS_KEY: &str = "hush-wJalrXUtnFEMI/K7MDENG+bPxRfiCY";

/// All but the one that needs an issuer.
pub fn all(setup: &Setup) -> Vec<Scheme> {
    setup.file("secret", SECRET);
    setup.file("token", "hush-bearer-token\n");
    setup.file("aws", AWS_KEY);
    let mut all = vec![
        Scheme {
            name: "auth-gateway",
            toml: format!(
                "[credential.key.auth-gateway]\nkey_id = {KEY_ID:?}\nsecret = {{ file = \"DIR/secret\" }}"
            ),
            check: Box::new(|seen| {
                let accepted = vec![(KEY_ID.to_owned(), SECRET.to_owned())];
                verify::verify(&seen.method, seen.path(), &seen.headers, &accepted)
            }),
            covers_body: false,
        },
        Scheme {
            name: "auth-gateway with nonce and digest",
            toml: format!(
                "[credential.key.auth-gateway]\nkey_id = {KEY_ID:?}\nsecret = {{ file = \"DIR/secret\" }}\n\
                 signature_header = \"x-mac\"\nnonce_header = \"x-nonce\"\ndigest_header = \"x-digest\""
            ),
            check: Box::new(family),
            covers_body: true,
        },
        Scheme {
            name: "headers",
            toml:
                "[credential.key.headers]\nx-tenant = \"acme\"\nX-Token = { file = \"DIR/token\" }"
                    .to_owned(),
            check: Box::new(|seen| {
                same(one(seen, "x-tenant")?, "acme")?;
                same(one(seen, "x-token")?, "hush-bearer-token")
            }),
            covers_body: false,
        },
        Scheme {
            name: "bearer",
            toml: "[credential.key.bearer]\ntoken = { file = \"DIR/token\" }".to_owned(),
            check: Box::new(|seen| same(one(seen, "authorization")?, "Bearer hush-bearer-token")),
            covers_body: false,
        },
        Scheme {
            name: "aws-sigv4",
            toml:
                "[credential.key.aws-sigv4]\nregion = \"eu-central-1\"\nservice = \"execute-api\"\n\
                   access_key_id = \"AKIDEXAMPLE\"\nsecret_access_key = { file = \"DIR/aws\" }"
                    .to_owned(),
            check: Box::new(aws),
            covers_body: true,
        },
    ];
    all.extend(http_signatures(setup));
    all
}

fn http_signatures(setup: &Setup) -> Vec<Scheme> {
    let ed25519 = signature::Ed25519KeyPair::generate().unwrap();
    let p256 = rcgen::KeyPair::generate().unwrap();
    let rsa = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
    setup.file("ed25519.pem", &pem(ed25519.to_pkcs8().unwrap().as_ref()));
    setup.file("p256.pem", &p256.serialize_pem());
    let rsa_pkcs8 = aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&rsa);
    setup.file("rsa.pem", &pem(rsa_pkcs8.unwrap().as_ref()));
    let scheme = |name: &'static str, algorithm: &str, file: &str, verify: Verify| Scheme {
        name,
        toml: format!(
            "[credential.key.http-signature]\nkey_id = \"k1\"\nalgorithm = \"{algorithm}\"\n\
             key = {{ file = \"DIR/{file}\" }}\nlabel = \"proxy\"\nexpires = \"5m\"\nnonce = true\n\
             components = [\"@method\", \"@target-uri\", \"@authority\", \"content-type\", \"content-digest\"]"
        ),
        check: Box::new(move |seen| message_signature(seen, &verify)),
        covers_body: true,
    };
    vec![
        scheme(
            "http-signature ed25519",
            "ed25519",
            "ed25519.pem",
            public(&ED25519, ed25519.public_key().as_ref()),
        ),
        scheme(
            "http-signature ecdsa",
            "ecdsa-p256-sha256",
            "p256.pem",
            public(&ECDSA_P256_SHA256_FIXED, p256.public_key_raw()),
        ),
        scheme(
            "http-signature rsa",
            "rsa-pss-sha512",
            "rsa.pem",
            public(&RSA_PSS_2048_8192_SHA512, rsa.public_key().as_ref()),
        ),
        scheme(
            "http-signature hmac",
            "hmac-sha256",
            "secret",
            Box::new(|base, given| mac(SECRET.as_bytes(), base) == given),
        ),
    ]
}

type Verify = Box<dyn Fn(&[u8], &[u8]) -> bool + Send + Sync>;

fn public(algorithm: &'static dyn VerificationAlgorithm, key: &[u8]) -> Verify {
    let key = UnparsedPublicKey::new(algorithm, key.to_vec());
    Box::new(move |base, given| key.verify(base, given).is_ok())
}

pub fn pem(der: &[u8]) -> String {
    let body = BASE64.encode(der);
    format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn one<'a>(seen: &'a Seen, name: &str) -> Result<&'a str, String> {
    let values: Vec<_> = seen.headers.get_all(name).iter().collect();
    match values[..] {
        [value] => Ok(value.to_str().unwrap()),
        _ => Err(format!("{} times {name}", values.len())),
    }
}

fn same(is: &str, should: &str) -> Result<(), String> {
    if is == should {
        Ok(())
    } else {
        Err(format!("{is} instead of {should}"))
    }
}

fn family(seen: &Seen) -> Result<(), String> {
    let digest = hex(&Sha256::digest(seen.body()));
    same(one(seen, "x-digest")?, &digest)?;
    let lines = [
        &seen.method,
        seen.path(),
        one(seen, "x-timestamp")?,
        one(seen, "x-nonce")?,
        &digest,
    ];
    let mac = mac(SECRET.as_bytes(), lines.join("\n").as_bytes());
    same(one(seen, "x-mac")?, &hex(&mac))
}

/// RFC 9421, section 3.2, from the headers alone.
fn message_signature(seen: &Seen, verify: &Verify) -> Result<(), String> {
    let input = one(seen, "signature-input")?
        .strip_prefix("proxy=")
        .ok_or("the label")?;
    let (names, parameters) = input[1..].split_once(')').ok_or("the list")?;
    for wanted in ["@target-uri", "content-digest"] {
        if !names.contains(wanted) {
            return Err(format!("{wanted} is not covered"));
        }
    }
    let mut base = String::new();
    for name in names.split(' ') {
        let bare = name.trim_matches('"');
        let value = match bare {
            "@method" => seen.method.clone(),
            "@authority" => seen.authority.clone(),
            "@target-uri" => format!("https://{}{}", seen.authority, seen.target),
            header => one(seen, header)?.to_owned(),
        };
        base.push_str(&format!("{name}: {value}\n"));
    }
    base.push_str(&format!("\"@signature-params\": {input}"));
    let parameters: BTreeMap<&str, &str> = parameters
        .split(';')
        .filter_map(|pair| pair.split_once('='))
        .collect();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let created: u64 = parameters["created"].parse().unwrap();
    if now.abs_diff(created) > 10 || parameters["expires"].parse() != Ok(created + 300) {
        return Err(format!("its time is {parameters:?}"));
    }
    let digest = BASE64.encode(Sha256::digest(seen.body()));
    same(one(seen, "content-digest")?, &format!("sha-256=:{digest}:"))?;
    let given = one(seen, "signature")?
        .strip_prefix("proxy=:")
        .ok_or("the label")?;
    let given = BASE64
        .decode(given.trim_end_matches(':'))
        .map_err(|error| error.to_string())?;
    if verify(base.as_bytes(), &given) {
        Ok(())
    } else {
        Err(format!("bad signature over {base}"))
    }
}

/// From what the request itself says it signed.
fn aws(seen: &Seen) -> Result<(), String> {
    let authorization = one(seen, "authorization")?;
    let fields: BTreeMap<&str, &str> = authorization
        .strip_prefix("AWS4-HMAC-SHA256 ")
        .ok_or("the algorithm")?
        .split(", ")
        .filter_map(|pair| pair.split_once('='))
        .collect();
    let (id, scope) = fields["Credential"].split_once('/').ok_or("the scope")?;
    same(id, "AKIDEXAMPLE")?;
    let time = one(seen, "x-amz-date")?;
    same(
        scope,
        &format!("{}/eu-central-1/execute-api/aws4_request", &time[..8]),
    )?;
    let digest = hex(&Sha256::digest(seen.body()));
    same(one(seen, "x-amz-content-sha256")?, &digest)?;
    // The tests ask with queries that are canonical already.
    let query = seen.target.split('?').nth(1).unwrap_or_default();
    let mut canonical = format!("{}\n{}\n{query}\n", seen.method, seen.path());
    for name in fields["SignedHeaders"].split(';') {
        let value = match name {
            "host" => &seen.authority,
            name => one(seen, name)?,
        };
        canonical.push_str(&format!("{name}:{value}\n"));
    }
    canonical.push_str(&format!("\n{}\n{digest}", fields["SignedHeaders"]));
    let mut key = format!("AWS4{AWS_KEY}").into_bytes();
    for part in scope.split('/') {
        key = mac(&key, part.as_bytes());
    }
    let hashed = hex(&Sha256::digest(canonical));
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hashed}");
    same(fields["Signature"], &hex(&mac(&key, to_sign.as_bytes())))
}
