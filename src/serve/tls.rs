//! The handshake with a client of a listener that speaks TLS.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::time::Duration;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use webpki::EndEntityCert;

use super::Connection;
use crate::config::ServerTls;

/// A client that needs longer has nothing to say.
const PATIENCE: Duration = Duration::from_secs(10);

/// By which certificate a connection's client proved who it is.
#[derive(Debug)]
pub struct Certified {
    pub client: Arc<str>,
    /// Whose signature on it was believed.
    pub roots: Arc<[CertificateDer<'static>]>,
}

/// Runs the handshake and notes what came of it in `connection`.
///
/// # Errors
/// It failed, took longer than 10 s, or the connection is to be closed meanwhile.
pub async fn accept(
    stream: TcpStream,
    tls: &ServerTls,
    connection: &Connection,
) -> io::Result<Box<TlsStream<TcpStream>>> {
    let mut handshake = pin!(TlsAcceptor::from(Arc::clone(&tls.server)).accept(stream));
    let handshake = std::future::poll_fn(|cx| {
        if connection.must_end(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        handshake.as_mut().poll(cx)
    });
    let stream = tokio::time::timeout(PATIENCE, handshake)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let chain = stream.get_ref().1.peer_certificates();
    let certified = chain.and_then(<[_]>::first).map(|certificate| Certified {
        client: name(certificate),
        roots: Arc::clone(&tls.client_roots),
    });
    connection.secured(certified);
    Ok(Box::new(stream))
}

/// The certificate's first DNS name, else its first URI, else its digest.
fn name(certificate: &CertificateDer<'_>) -> Arc<str> {
    let parsed = EndEntityCert::try_from(certificate).ok();
    let named = parsed.as_ref().and_then(|certificate| {
        let mut names = certificate
            .valid_dns_names()
            .chain(certificate.valid_uri_names());
        names.next()
    });
    named.map_or_else(|| digest(certificate).into(), Arc::from)
}

fn digest(certificate: &CertificateDer<'_>) -> String {
    use sha2::{Digest, Sha256};
    use std::fmt::Write;
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(certificate) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
