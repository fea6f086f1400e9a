//! Names and addresses: what the resolver says, and which addresses take a connection.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

use super::{Code, Finding, Findings};

/// More are not tried: they would only be more of the same.
const MAX_ADDRESSES: usize = 16;

/// Whether there is a way on from here.
pub async fn unix(path: &Path, findings: &mut Findings) -> bool {
    match UnixStream::connect(path).await {
        Ok(_) => {
            let message = format!("{} takes connections", path.display());
            findings.add(Finding::new(Code::ConnectOk, message));
            true
        }
        Err(error) => {
            let message = format!("nothing takes connections at {}: {error}", path.display());
            findings.add(
                Finding::new(Code::ConnectFailed, message).next("start the upstream on this host"),
            );
            false
        }
    }
}

/// Whether there is a way on from here.
pub async fn tcp(host: &str, port: u16, patience: Duration, findings: &mut Findings) -> bool {
    let Some(addresses) = resolve(host, port, patience, findings).await else {
        return false;
    };
    let tries = addresses.iter().map(|address| connect(*address, patience));
    let tried = join_all(tries).await;
    let reached = tried.iter().filter(|(_, is_there)| *is_there).count();
    let lines: Vec<_> = tried.into_iter().map(|(line, _)| line).collect();
    let finding = if reached == lines.len() {
        Finding::new(Code::ConnectOk, lines.join(", "))
    } else if reached == 0 {
        Finding::new(Code::ConnectFailed, format!("no address of {host} takes connections at port {port}"))
            .details(lines)
            .next("is the port right? does a firewall or a VPN stand between, or does HTTPS_PROXY have to be set?")
    } else {
        let message = format!(
            "{reached} of {} addresses take connections, so some requests wait",
            lines.len()
        );
        Finding::new(Code::ConnectPartly, message)
            .details(lines)
            .next("tell the upstream's operator, or mend this host's route to these addresses")
    };
    findings.add(finding);
    reached > 0
}

async fn resolve(
    host: &str,
    port: u16,
    patience: Duration,
    findings: &mut Findings,
) -> Option<Vec<SocketAddr>> {
    let reason = match timeout(patience, lookup_host((host, port))).await {
        Ok(Ok(found)) => {
            let mut addresses: Vec<SocketAddr> = Vec::new();
            for address in found.take(MAX_ADDRESSES) {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            if !addresses.is_empty() {
                if host.parse::<std::net::IpAddr>().is_err() {
                    let v6 = addresses.iter().filter(|a| a.is_ipv6()).count();
                    let v4 = addresses.len() - v6;
                    let message = format!("{host} has {v4} IPv4 and {v6} IPv6 address(es)");
                    findings.add(Finding::new(Code::DnsOk, message));
                }
                return Some(addresses);
            }
            "it has no address".to_owned()
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {patience:?}"),
    };
    let message = format!("{host} does not resolve: {reason}");
    findings.add(Finding::new(Code::DnsFailed, message).next(format!(
        "is the url right? getent hosts {host} asks the same"
    )));
    None
}

async fn connect(address: SocketAddr, patience: Duration) -> (String, bool) {
    let started = Instant::now();
    match timeout(patience, TcpStream::connect(address)).await {
        Ok(Ok(_)) => {
            let took = started.elapsed().as_millis();
            (format!("{address} in {took} ms"), true)
        }
        Ok(Err(error)) => (format!("{address}: {error}"), false),
        Err(_) => (format!("{address}: no answer within {patience:?}"), false),
    }
}
