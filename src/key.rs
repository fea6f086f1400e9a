//! Keys that sign, for the schemes and grants that want more than a shared MAC.
//!
//! AWS-LC holds them, and wipes what it frees.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RsaEncoding,
};
use aws_lc_rs::{hmac, rand};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use zeroize::Zeroize;

use crate::secret::Secret;

/// How something is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    HmacSha256,
    Ed25519,
    EcdsaP256Sha256,
    RsaPssSha512,
    /// RSASSA-PKCS1-v1_5, as most OAuth issuers expect it.
    RsaSha256,
}

/// A key together with the one thing that it is used for.
pub enum SigningKey {
    Hmac(Box<hmac::Key>),
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
}

/// Signing itself failed: the system has no randomness left, or the key is too short.
#[derive(Debug)]
pub struct SigningFailed;

const NO_PEM: &str = "the key is no private key; it must be PEM and unencrypted, with a \
                      -----BEGIN PRIVATE KEY----- line";

impl SigningKey {
    /// Takes the secret's bytes for a MAC, and PEM for all else.
    ///
    /// # Errors
    /// A sentence that never repeats a part of the key.
    pub fn new(algorithm: Algorithm, secret: &Secret) -> Result<Self, String> {
        if algorithm == Algorithm::HmacSha256 {
            return Ok(Self::Hmac(Box::new(hmac::Key::new(
                hmac::HMAC_SHA256,
                secret.expose(),
            ))));
        }
        let key = Der::from_pem(secret)?;
        let unfit = |what: &str| format!("the key is no {what} private key; name one that is");
        match algorithm {
            Algorithm::HmacSha256 => Err(NO_PEM.to_owned()),
            Algorithm::Ed25519 => ed25519(&key)
                .map(Self::Ed25519)
                .ok_or_else(|| unfit("Ed25519")),
            Algorithm::EcdsaP256Sha256 => ecdsa(&key)
                .map(Self::Ecdsa)
                .ok_or_else(|| unfit("ECDSA P-256")),
            Algorithm::RsaPssSha512 => rsa(&key)
                .map(|key| Self::Rsa(key, &signature::RSA_PSS_SHA512))
                .ok_or_else(|| unfit("RSA (2048 to 8192 bits)")),
            Algorithm::RsaSha256 => rsa(&key)
                .map(|key| Self::Rsa(key, &signature::RSA_PKCS1_SHA256))
                .ok_or_else(|| unfit("RSA (2048 to 8192 bits)")),
        }
    }

    /// The key in a PEM file, used as keys of its kind are used for JSON Web Signatures,
    /// and what that is called there (RFC 7518, section 3.1; RFC 8037).
    ///
    /// # Errors
    /// A sentence that never repeats a part of the key.
    pub fn for_jws(secret: &Secret) -> Result<(Self, &'static str), String> {
        let key = Der::from_pem(secret)?;
        if let Some(key) = ed25519(&key) {
            return Ok((Self::Ed25519(key), "EdDSA"));
        }
        if let Some(key) = ecdsa(&key) {
            return Ok((Self::Ecdsa(key), "ES256"));
        }
        rsa(&key)
            .map(|key| (Self::Rsa(key, &signature::RSA_PKCS1_SHA256), "RS256"))
            .ok_or_else(|| {
                "the key is neither RSA (2048 to 8192 bits), ECDSA P-256 nor Ed25519; \
                 name one that is"
                    .to_owned()
            })
    }

    /// # Errors
    /// When the system cannot do it.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningFailed> {
        let random = SystemRandom::new();
        match self {
            Self::Hmac(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            Self::Ed25519(key) => Ok(key.sign(message).as_ref().to_vec()),
            Self::Ecdsa(key) => key
                .sign(&random, message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| SigningFailed),
            Self::Rsa(key, encoding) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(*encoding, &random, message, &mut signature)
                    .map_err(|_| SigningFailed)?;
                Ok(signature)
            }
        }
    }
}

/// Sixteen bytes that nobody can guess, for nonces.
///
/// # Errors
/// When the system has no randomness.
pub fn nonce() -> Result<[u8; 16], SigningFailed> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| SigningFailed)?;
    Ok(bytes)
}

/// A private key's DER, wiped when dropped.
struct Der(PrivateKeyDer<'static>);

impl Der {
    fn from_pem(secret: &Secret) -> Result<Self, String> {
        // The parser's own words might repeat a line of the key.
        PrivateKeyDer::from_pem_slice(secret.expose())
            .map(Self)
            .map_err(|_| NO_PEM.to_owned())
    }
}

impl Drop for Der {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

fn ed25519(key: &Der) -> Option<Ed25519KeyPair> {
    match &key.0 {
        PrivateKeyDer::Pkcs8(der) => {
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).ok()
        }
        _ => None,
    }
}

fn ecdsa(key: &Der) -> Option<EcdsaKeyPair> {
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    match &key.0 {
        PrivateKeyDer::Pkcs8(der) => {
            EcdsaKeyPair::from_pkcs8(algorithm, der.secret_pkcs8_der()).ok()
        }
        PrivateKeyDer::Sec1(der) => {
            EcdsaKeyPair::from_private_key_der(algorithm, der.secret_sec1_der()).ok()
        }
        _ => None,
    }
}

fn rsa(key: &Der) -> Option<RsaKeyPair> {
    match &key.0 {
        PrivateKeyDer::Pkcs8(der) => {
            let der = der.secret_pkcs8_der();
            // A key that says it is for PSS alone holds the same numbers.
            RsaKeyPair::from_pkcs8(der)
                .or_else(|_| RsaKeyPair::from_der(inside_pkcs8(der).unwrap_or_default()))
                .ok()
        }
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).ok(),
        _ => None,
    }
}

/// `PrivateKeyInfo`'s third part, the key itself (RFC 5208, section 5).
fn inside_pkcs8(der: &[u8]) -> Option<&[u8]> {
    const INTEGER: u8 = 0x02;
    const OCTET_STRING: u8 = 0x04;
    const SEQUENCE: u8 = 0x30;
    let (info, _) = element(SEQUENCE, der)?;
    let (_, rest) = element(INTEGER, info)?;
    let (_, rest) = element(SEQUENCE, rest)?;
    Some(element(OCTET_STRING, rest)?.0)
}

/// The content of the DER element that `bytes` begin with, and what follows it.
fn element(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[first, length], rest) = bytes.split_first_chunk::<2>()?;
    if first != tag {
        return None;
    }
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_key_is_refused_without_a_word_of_it() {
        for text in [
            "",
            "hunter2",
            "-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n",
        ] {
            let secret = Secret::new(text.as_bytes().to_vec());
            for algorithm in [
                Algorithm::Ed25519,
                Algorithm::EcdsaP256Sha256,
                Algorithm::RsaPssSha512,
            ] {
                let error = SigningKey::new(algorithm, &secret).err().unwrap();
                assert!(error.starts_with("the key is no "), "{error}");
                assert!(!error.contains("hunter2") && !error.contains("aHVud"));
            }
            assert!(SigningKey::for_jws(&secret).is_err());
        }
    }

    #[test]
    fn broken_der_ends_in_nothing() {
        for der in [
            &b""[..],
            b"\x30",
            b"\x30\x05\x02\x01",
            b"\x30\x84\xff\xff\xff\xff",
            b"\x30\x82\xff",
        ] {
            assert_eq!(inside_pkcs8(der), None);
        }
    }
}
