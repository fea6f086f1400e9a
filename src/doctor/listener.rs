//! Where clients come in: whether each listener lets this user in and is the daemon's.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::{Code, Finding, Findings};
use crate::config::{Config, Sources};
use crate::listen::connect_within;

/// It is on this host.
const PATIENCE: Duration = Duration::from_secs(3);
const MAX_HEAD: u64 = 4096;

/// `daemon` is its status page, which knows the ports that the kernel chose.
pub fn all(sources: &Sources, daemon: Option<&Value>, findings: &mut Findings) {
    let doors: Vec<(String, bool)> = match daemon {
        Some(page) => {
            let listeners = page["listeners"].as_array().into_iter().flatten();
            listeners
                .filter(|listener| listener["for"] == "clients")
                .filter_map(|listener| {
                    let address = listener["address"].as_str()?;
                    Some((address.to_owned(), listener["tls"] == true))
                })
                .collect()
        }
        None => {
            let listeners = Config::outline(sources).listeners.into_iter();
            listeners
                .map(|listener| (listener.address.to_string(), listener.tls))
                .collect()
        }
    };
    for (address, tls) in doors {
        findings
            .0
            .extend(judge(&address, knock(&address, tls), daemon.is_some()));
    }
}

/// What is behind an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// The daemon's `/healthz`.
    Daemon,
    /// Somebody who takes connections: by TLS we would not be let in without a proof of who we are.
    Taken,
    Stranger,
}

fn knock(address: &str, tls: bool) -> io::Result<Answer> {
    match address.parse::<SocketAddr>() {
        Ok(address) => {
            let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            if tls {
                return Ok(Answer::Taken);
            }
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            healthy(stream)
        }
        Err(_) => {
            let stream = connect_within(Path::new(address), PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            healthy(stream)
        }
    }
}

fn healthy(mut stream: impl Read + Write) -> io::Result<Answer> {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_HEAD).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let is_ours = answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(r#"{"status":"ok"}"#);
    Ok(if is_ours {
        Answer::Daemon
    } else {
        Answer::Stranger
    })
}

/// `None` where nothing is to be said: without a daemon nobody should answer.
fn judge(address: &str, knocked: io::Result<Answer>, runs: bool) -> Option<Finding> {
    let taken = |how: &str| {
        let message = format!("{address} {how}, so the daemon cannot listen there");
        Finding::new(Code::ListenerTaken, message).next(format!(
            "ss -lxtnp | grep -F {address} names it; stop that, or choose another address"
        ))
    };
    match knocked {
        Ok(Answer::Taken) if runs => Some(Finding::new(
            Code::ListenerOk,
            format!("{address} takes connections, by TLS"),
        )),
        Ok(Answer::Daemon) => Some(Finding::new(
            Code::ListenerOk,
            format!("{address} serves clients"),
        )),
        Ok(Answer::Taken | Answer::Stranger) => Some(taken("is another program's")),
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
            (Ok(Answer::Daemon), true, Some(Code::ListenerOk)),
            (Ok(Answer::Taken), true, Some(Code::ListenerOk)),
            (Ok(Answer::Taken), false, Some(Code::ListenerTaken)),
            (Ok(Answer::Stranger), true, Some(Code::ListenerTaken)),
            (Ok(Answer::Stranger), false, Some(Code::ListenerTaken)),
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
