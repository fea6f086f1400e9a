//! TLS towards upstreams: 1.2 and 1.3, the post-quantum hybrid first, the system's roots plus the upstream's.

mod insecure;
mod observe;

pub use observe::{Seen, Shown};

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ClientConfig, WantsClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ConfigBuilder, RootCertStore};

use super::error::{Error, Kind};
use crate::config::{ClientIdentity, HttpVersion, Tls};

/// Builds the configuration; slow (it reads the system's roots), so never on an event loop.
///
/// `observer` notes what the server shows.
pub fn config(
    tls: &Tls,
    version: HttpVersion,
    observer: Option<&Arc<Seen>>,
) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| tls_error(&error))?;
    let mut verifier = verifier(tls)?;
    if let Some(seen) = observer {
        let (inner, seen) = (verifier, Arc::clone(seen));
        verifier = Arc::new(observe::Observer { inner, seen });
    }
    let builder = builder
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = identify(builder, tls.client_identity.as_ref())?;
    config.alpn_protocols = match version {
        HttpVersion::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        HttpVersion::Http1 => vec![b"http/1.1".to_vec()],
        HttpVersion::Http2 => vec![b"h2".to_vec()],
    };
    Ok(config)
}

fn verifier(tls: &Tls) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    if tls.insecure_skip_verify {
        return Ok(insecure::accept_any(provider()));
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(tls)?, provider())
        .build()
        .map_err(|error| Error::new(Kind::Tls, error.to_string()))?;
    Ok(verifier)
}

fn identify(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    identity: Option<&ClientIdentity>,
) -> Result<ClientConfig, Error> {
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some(identity) => builder
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(|error| tls_error(&error)),
    }
}

fn roots(tls: &Tls) -> Result<Arc<RootCertStore>, Error> {
    let system = system_roots();
    if tls.extra_roots.is_empty() {
        return if system.is_empty() {
            Err(Error::new(
                Kind::Tls,
                "this system has no trusted root certificates; install ca-certificates or set ca_file",
            ))
        } else {
            Ok(Arc::clone(system))
        };
    }
    let mut roots = RootCertStore::clone(system);
    for certificate in &tls.extra_roots {
        roots
            .add(certificate.clone())
            .map_err(|error| tls_error(&error))?;
    }
    Ok(Arc::new(roots))
}

/// Read once per process: a new system certificate needs a restart.
fn system_roots() -> &'static Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        // A certificate that cannot be read must not take the others away.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    })
}

/// As many as Linux follows.
const MAX_LINKS: usize = 40;

/// Where the files are that [`system_roots`] may read, links followed.
pub fn trust_directories() -> Vec<PathBuf> {
    let probed = openssl_probe::probe();
    let named = ["SSL_CERT_FILE", "SSL_CERT_DIR"].map(std::env::var_os);
    let named = named.iter().flatten().flat_map(std::env::split_paths);
    let places = named.chain(probed.cert_file).chain(probed.cert_dir);
    // Several names for one place are usual.
    let places: BTreeSet<_> = places.filter_map(|it| it.canonicalize().ok()).collect();
    let mut directories = BTreeSet::new();
    for place in places {
        if place.is_dir() {
            directories.extend(behind(&place));
            directories.insert(place);
        } else {
            directories.extend(place.parent().map(Path::to_owned));
        }
    }
    directories.into_iter().collect()
}

/// The directories that links in `place` lead to. Hundreds lead to few: each is resolved once.
fn behind(place: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeMap::new();
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
    for entry in entries {
        let mut file = entry.path();
        for _ in 0..MAX_LINKS {
            let Ok(target) = std::fs::read_link(&file) else {
                break;
            };
            file = file.parent().unwrap_or(place).join(target);
            if file.parent() == Some(place) {
                // It is an entry itself.
                break;
            }
        }
        let Some(directory) = file.parent().filter(|parent| *parent != place) else {
            continue;
        };
        if !found.contains_key(directory) && file.exists() {
            found.insert(directory.to_owned(), directory.canonicalize().ok());
        }
    }
    found.into_values().flatten().collect()
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())))
}

fn tls_error(error: &rustls::Error) -> Error {
    Error::new(Kind::Tls, error.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_to_the_directories_of_their_files() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for name in ["certs", "real", "far", "empty"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        std::fs::write(root.join("far/a.crt"), "").unwrap();
        symlink("../far/a.crt", root.join("real/a.crt")).unwrap();
        symlink(root.join("real/a.crt"), root.join("certs/a.pem")).unwrap();
        symlink("a.pem", root.join("certs/0a1b2c3d.0")).unwrap();
        symlink("loop", root.join("certs/loop")).unwrap();
        symlink("../empty/gone", root.join("certs/dangling")).unwrap();
        let found = behind(&root.join("certs"));
        assert_eq!(found, BTreeSet::from([root.join("far")]));
    }
}
