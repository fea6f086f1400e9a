//! `[listener.tls]`: TLS towards clients, and the certificates that they may show.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::ClientIdentity;
use super::decode::{Field, Section};
use super::tls::{certificates, fits, private_key};

/// What a listener shows its clients, and what it asks of them.
#[derive(Clone)]
pub struct ServerTls {
    pub server: Arc<ServerConfig>,
    /// Whose certificates clients may show; empty if none is asked for.
    pub client_roots: Arc<[CertificateDer<'static>]>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roots = self.client_roots.len();
        write!(f, "ServerTls({roots} client roots)")
    }
}

/// Read anew at each load, so no two are the same.
impl PartialEq for ServerTls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.server, &other.server)
    }
}

impl Eq for ServerTls {}

/// `has_tokens`: a client may do without a certificate, as it can show a token.
pub fn decode_server_tls(field: &Field<'_>, has_tokens: bool) -> Option<ServerTls> {
    let mut s = field.section()?;
    let identity = decode_identity(&mut s);
    let client_ca = s.field("client_ca");
    s.finish();
    let client_roots: Arc<[_]> = match &client_ca {
        Some(field) => certificates(field)?.into(),
        None => Arc::default(),
    };
    let server = build(&identity?, &client_roots, has_tokens);
    let blamed = client_ca.as_ref().unwrap_or(field);
    let server = server.map_err(|error| blamed.problem(format!("{error}; name other files")));
    Some(ServerTls {
        server: Arc::new(server.ok()?),
        client_roots,
    })
}

fn decode_identity(s: &mut Section<'_>) -> Option<ClientIdentity> {
    let cert = s.required(
        "cert",
        "name a PEM file with the listener's certificate chain",
    );
    let key = s.required("key", "name a PEM file with the certificate's key");
    let (chain, key_field) = (cert.and_then(|field| certificates(&field)), key?);
    let identity = ClientIdentity {
        key: private_key(&key_field)?,
        chain: chain?,
    };
    if let Err(error) = fits(&identity) {
        key_field.problem(format!(
            "does not belong to \"cert\" ({error}); name the files of one pair"
        ));
        return None;
    }
    Some(identity)
}

fn build(
    identity: &ClientIdentity,
    client_roots: &[CertificateDer<'static>],
    has_tokens: bool,
) -> Result<ServerConfig, Box<dyn std::error::Error>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = if client_roots.is_empty() {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        for certificate in client_roots {
            roots.add(certificate.clone())?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = if has_tokens {
            verifier.allow_unauthenticated()
        } else {
            verifier
        };
        builder.with_client_cert_verifier(verifier.build()?)
    };
    let mut server = builder.with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(server)
}
