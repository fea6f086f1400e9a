//! Where clients come in: whether each listener lets this user in and is the daemon's.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

use super::{Code, Finding, Findings};
use crate::config::{Config, Sources};

/// It is on this host.
const PATIENCE: Duration = Duration::from_secs(3);
const MAX_HEAD: u64 = 4096;

/// `daemon` is its status page, which knows the ports that the kernel chose.
pub fn all(sources: &Sources, daemon: Option<&Value>, findings: &mut Findings) {
    let addresses: Vec<String> = match daemon {
        Some(page) => {
            let listeners = page["listeners"].as_array().into_iter().flatten();
            listeners
                .filter(|listener| listener["for"] == "clients")
                .filter_map(|listener| listener["address"].as_str().map(str::to_owned))
                .collect()
        }
        None => {
            let listeners = Config::outline(sources).listeners.into_iter();
            listeners.map(|(address, _)| address.to_string()).collect()
        }
    };
    for address in addresses {
        findings
            .0
            .extend(judge(&address, knock(&address), daemon.is_some()));
    }
}

/// Whether the daemon's `/healthz` answers there.
fn knock(address: &str) -> io::Result<bool> {
    match address.parse::<SocketAddr>() {
        Ok(address) => {
            let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            healthy(stream)
        }
        Err(_) => {
            let stream = UnixStream::connect(address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            healthy(stream)
        }
    }
}

fn healthy(mut stream: impl Read + Write) -> io::Result<bool> {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_HEAD).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    Ok(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(r#"{"status":"ok"}"#))
}

/// `None` where nothing is to be said: without a daemon nobody should answer.
fn judge(address: &str, knocked: io::Result<bool>, runs: bool) -> Option<Finding> {
    let taken = |how: &str| {
        let message = format!("{address} {how}, so the daemon cannot listen there");
        Finding::new(Code::ListenerTaken, message).next(format!(
            "ss -lxtnp | grep -F {address} names it; stop that, or choose another address"
        ))
    };
    match knocked {
        Ok(true) => Some(Finding::new(
            Code::ListenerOk,
            format!("{address} serves clients"),
        )),
        Ok(false) => Some(taken("is another program's")),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let message = format!("this user may not connect to {address}");
            let next = "sudo gpasswd --add \"$USER\" mcp-auth-proxy, then log in anew";
            Some(Finding::new(Code::ListenerForbidden, message).next(next))
        }
        Err(_) if !runs && address.parse::<SocketAddr>().is_ok_and(|a| a.port() == 0) => None,
        Err(error) if !runs && is_absent(&error) => None,
        Err(error) => {
            let message = format!("{address} does not answer: {error}");
            let next = "mcp-auth-proxy status, then restart the daemon";
            Some(Finding::new(Code::ListenerDead, message).next(next))
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::NotFound
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_at_a_listener_is_told_apart() {
        let failed = |kind: ErrorKind| Err(io::Error::from(kind));
        for (knocked, runs, code) in [
            (Ok(true), true, Some(Code::ListenerOk)),
            (Ok(false), true, Some(Code::ListenerTaken)),
            (Ok(false), false, Some(Code::ListenerTaken)),
            (
                failed(ErrorKind::PermissionDenied),
                true,
                Some(Code::ListenerForbidden),
            ),
            (
                failed(ErrorKind::ConnectionRefused),
                true,
                Some(Code::ListenerDead),
            ),
            (failed(ErrorKind::ConnectionRefused), false, None),
            (failed(ErrorKind::NotFound), false, None),
            (failed(ErrorKind::TimedOut), false, Some(Code::ListenerDead)),
        ] {
            let finding = judge("127.0.0.1:8080", knocked, runs);
            assert_eq!(finding.map(|finding| finding.code), code);
        }
    }
}
