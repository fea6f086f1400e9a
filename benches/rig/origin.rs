//! The server behind all: answers at once, and checks every signature that it is shown.

mod answer;
mod h1;
mod h2;
mod verify;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

pub use verify::Gateway;

use crate::Outcome;

#[derive(Args)]
pub struct Options {
    /// Where to put the certificate
    directory: PathBuf,
    /// What signatures are made with
    #[arg(long)]
    secret: String,
}

#[derive(Clone)]
enum Manner {
    Clear,
    H1(TlsAcceptor),
    H2(TlsAcceptor),
}

pub async fn run(options: Options) -> Outcome {
    let gateway = Arc::new(Gateway::new(options.secret.as_bytes()));
    let tls = certificate(&options.directory)?;
    let acceptor = |protocol: &[u8]| {
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![protocol.to_vec()];
        TlsAcceptor::from(Arc::new(tls))
    };
    let manners = [
        Manner::Clear,
        Manner::H1(acceptor(b"http/1.1")),
        Manner::H2(acceptor(b"h2")),
    ];
    let mut ports = Vec::new();
    for manner in manners {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind("127.0.0.1:0".parse()?)?;
        let listener = socket.listen(8192)?;
        ports.push(listener.local_addr()?.port());
        tokio::spawn(accept(listener, manner, Arc::clone(&gateway)));
    }
    println!(
        "{}",
        json!({ "clear": ports[0], "h1": ports[1], "h2": ports[2] })
    );
    std::future::pending().await
}

async fn accept(listener: TcpListener, manner: Manner, gateway: Arc<Gateway>) {
    loop {
        // A connection that failed before it was accepted is its client's affair.
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, manner.clone(), Arc::clone(&gateway)));
        }
    }
}

/// Ends, in whatever way, with the connection; what went wrong is counted by the client.
async fn serve(stream: TcpStream, manner: Manner, gateway: Arc<Gateway>) {
    let _ = stream.set_nodelay(true);
    let _ = match manner {
        Manner::Clear => h1::serve(stream, gateway).await,
        Manner::H1(tls) => match tls.accept(stream).await {
            Ok(stream) => h1::serve(stream, gateway).await,
            Err(error) => Err(error),
        },
        Manner::H2(tls) => match tls.accept(stream).await {
            Ok(stream) => h2::serve(stream, gateway).await,
            Err(error) => Err(error),
        },
    };
}

fn certificate(directory: &Path) -> Result<rustls::ServerConfig, Box<dyn Error>> {
    let key = KeyPair::generate()?;
    let names = ["localhost", "127.0.0.1"].map(str::to_owned);
    let certificate = CertificateParams::new(names)?.self_signed(&key)?;
    std::fs::write(directory.join("origin.pem"), certificate.pem())?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?)
}
