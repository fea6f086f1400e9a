//! For `doctor`: which certificates a server showed, and what the daemon's own check says of them.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

/// What was seen in the latest handshake.
#[derive(Debug, Default)]
pub struct Seen(Mutex<Shown>);

#[derive(Debug, Default, Clone)]
pub struct Shown {
    /// As the server sent it, its own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    pub refused: Option<Error>,
}

impl Seen {
    pub fn shown(&self) -> Shown {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Passes every question on to `inner`, and notes what came of it.
#[derive(Debug)]
pub struct Observer {
    pub inner: Arc<dyn ServerCertVerifier>,
    pub seen: Arc<Seen>,
}

impl ServerCertVerifier for Observer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        let all = std::iter::once(end_entity).chain(intermediates);
        let shown = Shown {
            chain: all.map(|one| one.clone().into_owned()).collect(),
            refused: verdict.as_ref().err().cloned(),
        };
        *self.seen.0.lock().unwrap_or_else(PoisonError::into_inner) = shown;
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
