//! Why an exchange with an upstream failed, and whether the request may have left.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

/// What went wrong, as far as an operator can act upon it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The host name does not resolve.
    Dns,
    /// Nothing answers at the address, or the socket does not exist.
    Unreachable,
    ConnectTimeout,
    /// The TLS handshake failed; most often a certificate that does not verify.
    Tls,
    /// The connection ended before the response's head was complete.
    Reset,
    /// The response is no valid HTTP.
    BadResponse,
}

/// An error before or during an exchange.
#[derive(Debug)]
pub(super) struct Error {
    pub kind: Kind,
    pub cause: String,
}

/// A failed attempt.
pub struct Failure {
    pub kind: Kind,
    /// For the log: the whole chain of causes.
    pub cause: String,
    /// No byte of the request can have reached the upstream, and its body is whole.
    pub unsent: bool,
}

/// A name that did not resolve.
#[derive(Debug)]
pub struct DnsError {
    pub host: String,
    pub cause: io::Error,
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot resolve {}: {}", self.host, self.cause)
    }
}

impl std::error::Error for DnsError {}

impl Failure {
    pub(super) fn unsent(error: Error) -> Self {
        Self {
            kind: error.kind,
            cause: error.cause,
            unsent: true,
        }
    }

    pub(super) fn of_exchange(error: &hyper::Error, unsent: bool) -> Self {
        let kind = if error.is_parse() || error.is_parse_too_large() {
            Kind::BadResponse
        } else {
            Kind::Reset
        };
        Self {
            kind,
            cause: chain(error),
            unsent,
        }
    }
}

/// Why a response's body ends before its end.
#[derive(Debug)]
pub enum Broken {
    /// The connection was closed before the last byte.
    Cut,
    Io(io::Error),
    /// What came is no body as HTTP/1.1 has it.
    Malformed(&'static str),
    Http2(hyper::Error),
    /// Nothing came for this long.
    Silent(Duration),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut => f.write_str("the connection was closed before the body's end"),
            Self::Io(error) => error.fmt(f),
            Self::Malformed(fault) => write!(f, "not valid HTTP: {fault}"),
            Self::Http2(error) => error.fmt(f),
            Self::Silent(patience) => write!(
                f,
                "nothing came within response_idle_timeout ({})",
                humantime::format_duration(*patience)
            ),
        }
    }
}

impl std::error::Error for Broken {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            kind: error.kind,
            cause: error.cause,
            unsent: false,
        }
    }
}

impl Error {
    pub fn new(kind: Kind, cause: impl Into<String>) -> Self {
        Self {
            kind,
            cause: cause.into(),
        }
    }

    /// Tells apart what a connector reports: names, TLS, and the rest.
    pub fn of_connect(error: &(dyn StdError + 'static)) -> Self {
        let kind = if find::<DnsError>(error).is_some() {
            Kind::Dns
        } else if find::<rustls::Error>(error).is_some() {
            Kind::Tls
        } else if find::<io::Error>(error).is_some_and(|e| e.kind() == io::ErrorKind::TimedOut) {
            Kind::ConnectTimeout
        } else {
            Kind::Unreachable
        };
        Self {
            kind,
            cause: chain(error),
        }
    }
}

impl From<hyper::Error> for Error {
    fn from(error: hyper::Error) -> Self {
        Self::new(Kind::Reset, chain(&error))
    }
}

/// Looks for a cause of type `T`, also inside `io::Error`s, whose `source` skips their own content.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        current = next(error);
    }
    None
}

fn next<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// All causes in one line, each said once.
pub(super) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut current = next(error);
    while let Some(cause) = current {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        current = next(cause);
    }
    text
}
