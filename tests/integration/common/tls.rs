//! Certificates made on the spot, and what an upstream offers with them.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

/// One for all tests: the daemon trusts it by `ca_file`.
pub fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| Authority::new("the tests' own"))
}

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate and its key, as PEM.
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    pub fn issue(&self, names: &[&str]) -> Identity {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A certificate for this host that was good until `year` began.
    pub fn issue_until(&self, year: i32) -> Identity {
        self.issue_with(|params| params.not_after = rcgen::date_time_ymd(year, 1, 1))
    }

    /// A certificate for this host that is good for this time.
    pub fn issue_between(&self, from: SystemTime, until: SystemTime) -> Identity {
        self.issue_with(|params| {
            (params.not_before, params.not_after) = (from.into(), until.into())
        })
    }

    /// What `openssl req -x509` makes by itself: an authority's certificate, and no server's.
    pub fn issue_authority(&self) -> Identity {
        self.issue_with(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))
    }

    fn issue_with(&self, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap();
        roots.add(certificate).unwrap();
        roots
    }
}

/// What an upstream's TLS is like; the default is what a good one has.
pub struct Tls {
    pub identity: Identity,
    pub alpn: Vec<&'static str>,
    pub versions: Vec<&'static SupportedProtocolVersion>,
    /// Wants a certificate of [`authority`] from its clients.
    pub wants_client: bool,
    pub provider: CryptoProvider,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            identity: authority().issue(&["localhost", "127.0.0.1"]),
            alpn: vec!["h2", "http/1.1"],
            versions: vec![&rustls::version::TLS13, &rustls::version::TLS12],
            wants_client: false,
            provider: aws_lc_rs::default_provider(),
        }
    }
}

impl Tls {
    pub fn h1() -> Self {
        Self {
            alpn: vec!["http/1.1"],
            ..Self::default()
        }
    }

    pub fn server(self) -> Arc<ServerConfig> {
        let provider = Arc::new(self.provider);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.versions)
            .unwrap();
        let builder = if self.wants_client {
            let roots = Arc::new(authority().roots());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let chain = CertificateDer::pem_slice_iter(self.identity.certificate.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(self.identity.key.as_bytes()).unwrap();
        let mut config = builder
            .with_single_cert(chain.collect::<Result<_, _>>().unwrap(), key)
            .unwrap();
        config.alpn_protocols = self
            .alpn
            .iter()
            .map(|name| name.as_bytes().into())
            .collect();
        Arc::new(config)
    }
}

/// What a client of the daemon's own TLS has: trust in [`authority`], and a certificate or none.
pub fn client(identity: Option<&Identity>, alpn: &str) -> Arc<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(authority().roots());
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes());
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
            let chain = chain.collect::<Result<_, _>>().unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![alpn.as_bytes().into()];
    Arc::new(config)
}
