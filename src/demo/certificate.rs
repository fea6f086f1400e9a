//! A certificate authority that lives as long as the demo, and the server's certificate from it.

use std::error::Error;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

pub struct Certificate {
    /// What whoever connects has to trust; its key is forgotten at once.
    pub ca_pem: String,
    pub server: Arc<ServerConfig>,
    /// For a client that trusts this authority alone.
    pub client: ClientConfig,
}

impl Certificate {
    pub fn for_loopback() -> Result<Self, Box<dyn Error>> {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        authority
            .distinguished_name
            .push(DnType::CommonName, "mcp-auth-proxy demo");
        let authority_key = KeyPair::generate()?;
        let ca = authority.self_signed(&authority_key)?;

        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let key = KeyPair::generate()?;
        let issuer = Issuer::from_params(&authority, &authority_key);
        let leaf = CertificateParams::new(names)?.signed_by(&key, &issuer)?;

        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone())?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)?;
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            ca_pem: ca.pem(),
            server: Arc::new(server),
            client,
        })
    }
}
