//! An upstream's certificates and keys.

use std::path::Path;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::decode::{Field, Section};
use super::{ClientIdentity, Tls};
use crate::file;
use crate::secret::read_private_file;

/// The largest PEM file that is read, in bytes; the system's whole bundle has a fifth of it.
const MAX_PEM: usize = 1024 * 1024;

const NOT_VERIFIED: &str = "the upstream's certificate is not verified, so anybody on the way can \
                            pose as it; name its authority's certificate in ca_file instead";

pub fn decode_tls(s: &mut Section<'_>) -> Tls {
    let extra_roots = s.field("ca_file").and_then(|field| certificates(&field));
    let client_identity = decode_identity(s);
    let skip = s.field("insecure_skip_verify").and_then(|field| {
        let skip = field.boolean()?;
        if skip {
            field.warn(NOT_VERIFIED);
        }
        Some(skip)
    });
    Tls {
        extra_roots: extra_roots.unwrap_or_default(),
        client_identity,
        insecure_skip_verify: skip.unwrap_or_default(),
    }
}

fn decode_identity(s: &mut Section<'_>) -> Option<ClientIdentity> {
    match (s.field("client_cert"), s.field("client_key")) {
        (None, None) => None,
        (Some(cert), Some(key)) => {
            let chain = certificates(&cert);
            let identity = ClientIdentity {
                key: private_key(&key)?,
                chain: chain?,
            };
            // Found out at the first connection, it would be every request's failure.
            if let Err(error) = fits(&identity) {
                key.problem(format!(
                    "does not belong to \"client_cert\" ({error}); name the files of one pair"
                ));
            }
            Some(identity)
        }
        (Some(cert), None) => {
            cert.key_problem(
                "\"client_key\" is missing; name the certificate's key file beside it",
            );
            None
        }
        (None, Some(key)) => {
            key.key_problem(
                "\"client_cert\" is missing; name the key's certificate file beside it",
            );
            None
        }
    }
}

pub fn fits(identity: &ClientIdentity) -> Result<(), rustls::Error> {
    let provider = aws_lc_rs::default_provider();
    CertifiedKey::from_der(identity.chain.clone(), identity.key.clone_key(), &provider).map(drop)
}

pub fn certificates(field: &Field<'_>) -> Option<Vec<CertificateDer<'static>>> {
    let path = field.path()?;
    read_certificates(&path)
        .map_err(|message| field.problem(message))
        .ok()
}

pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let contents = file::read(path, MAX_PEM).map_err(|error| format!("{shown} {error}"))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&contents.bytes).collect();
    match found {
        Ok(list) if list.is_empty() => Err(format!(
            "{shown} holds no certificate; it must be PEM, with -----BEGIN CERTIFICATE----- lines"
        )),
        Ok(list) => Ok(list),
        Err(error) => Err(format!("{shown} is broken PEM ({error}); write it anew")),
    }
}

pub fn private_key(field: &Field<'_>) -> Option<PrivateKeyDer<'static>> {
    let path = field.path()?;
    read_private_key(&path)
        .map_err(|message| field.problem(message))
        .ok()
}

fn read_private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let bytes = read_private_file(path, MAX_PEM, false).map_err(|error| error.to_string())?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
        // The parser's own words might repeat a line of the key.
        format!(
            "{} holds no private key; it must be PEM and unencrypted, with a -----BEGIN PRIVATE KEY----- line",
            path.display()
        )
    })
}

impl Drop for ClientIdentity {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.key);
    }
}
