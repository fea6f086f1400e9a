//! HTTP/1.1 or HTTP/2, told by a connection's first bytes (RFC 9113, section 3.3); and the latter's settings.

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::framing::MAX_HEAD;

/// What a client may send ahead of a slow upstream, and how many requests at a time.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const MAX_STREAMS: u32 = 1000;

/// No HTTP/1.1 method begins like an HTTP/2 connection.
const PREFACE: &[u8] = b"PRI";

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    H1,
    H2,
}

impl Spoken {
    /// `None`: fewer bytes have come than it takes to tell.
    pub fn of(begin: &[u8]) -> Option<Self> {
        if begin.starts_with(PREFACE) {
            Some(Self::H2)
        } else if PREFACE.starts_with(begin) {
            None
        } else {
            Some(Self::H1)
        }
    }

    /// What a TLS handshake settled.
    pub fn agreed(protocol: &[u8]) -> Self {
        match protocol {
            b"h2" => Self::H2,
            _ => Self::H1,
        }
    }
}

/// The settings every HTTP/2 connection is served with.
pub fn h2() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD as u32);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_the_protocol_as_soon_as_they_can() {
        for (begin, spoken) in [
            ("PRI", Some(Spoken::H2)),
            ("P", None),
            ("PR", None),
            ("", None),
            ("PO", Some(Spoken::H1)),
            ("GET", Some(Spoken::H1)),
            ("\r\n", Some(Spoken::H1)),
        ] {
            assert_eq!(Spoken::of(begin.as_bytes()), spoken, "{begin:?}");
        }
    }
}
