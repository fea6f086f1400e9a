//! HTTP/1.1 or HTTP/2, told by a connection's first bytes (RFC 9113, section 3.3).
//!
//! They are only looked at: a server that is handed them in a piece of their own
//! takes twice the buffer for a request that would have come in one.

use std::io;
use std::os::fd::AsRawFd;
use std::task::{Context, Poll, ready};

use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::Interest;

use super::stream::Stream;

/// Largest request head; more gets a 431.
const MAX_HEAD: usize = 64 * 1024;
/// HTTP/2: what a client may send ahead of a slow upstream, and how many requests at a time.
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
    /// Fewer bytes have come than it takes to tell.
    Unclear,
}

impl Spoken {
    fn of(begin: &[u8]) -> Self {
        if begin.starts_with(PREFACE) {
            Self::H2
        } else if !begin.is_empty() && PREFACE.starts_with(begin) {
            Self::Unclear
        } else {
            Self::H1
        }
    }

    /// What the TLS handshake settled (RFC 7301).
    fn agreed(protocol: Option<&[u8]>) -> Self {
        match protocol {
            Some(b"h2") => Self::H2,
            Some(_) => Self::H1,
            None => Self::Unclear,
        }
    }
}

/// The settings every connection is served with.
pub struct Protocol {
    h1: auto::Builder<TokioExecutor>,
    /// For those who look themselves whether the client is still there. hyper would do so by
    /// reading ahead, which takes a fresh buffer for each request.
    h1_watched: auto::Builder<TokioExecutor>,
    h2: auto::Builder<TokioExecutor>,
    either: auto::Builder<TokioExecutor>,
}

impl Default for Protocol {
    fn default() -> Self {
        let mut watched = settings();
        watched.http1().half_close(true);
        Self {
            h1: settings().http1_only(),
            h1_watched: watched.http1_only(),
            h2: settings().http2_only(),
            either: settings(),
        }
    }
}

impl Protocol {
    pub fn of(&self, spoken: Spoken, is_watched: bool) -> &auto::Builder<TokioExecutor> {
        match spoken {
            Spoken::H1 if is_watched => &self.h1_watched,
            Spoken::H1 => &self.h1,
            Spoken::H2 => &self.h2,
            Spoken::Unclear => &self.either,
        }
    }
}

fn settings() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .max_buf_size(MAX_HEAD)
        .timer(TokioTimer::new())
        .header_read_timeout(None);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD as u32);
    builder
}

/// Waits for the first bytes, or the end, and says what they are the beginning of.
pub fn poll_spoken(stream: &Stream, cx: &mut Context<'_>) -> Poll<io::Result<Spoken>> {
    let mut begin = [0; PREFACE.len()];
    loop {
        let mut look = |fd: i32| recv(fd, &mut begin, MsgFlags::MSG_PEEK).map_err(io::Error::from);
        let looked = match stream {
            Stream::Unix(stream) => {
                ready!(stream.poll_read_ready(cx))?;
                stream.try_io(Interest::READABLE, || look(stream.as_raw_fd()))
            }
            Stream::Tcp(stream) => {
                ready!(stream.poll_read_ready(cx))?;
                stream.try_io(Interest::READABLE, || look(stream.as_raw_fd()))
            }
            Stream::Tls(stream) => {
                let agreed = stream.get_ref().1.alpn_protocol();
                return Poll::Ready(Ok(Spoken::agreed(agreed)));
            }
        };
        match looked {
            Ok(length) => return Poll::Ready(Ok(Spoken::of(&begin[..length]))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_the_protocol_as_soon_as_they_can() {
        for (begin, spoken) in [
            ("PRI", Spoken::H2),
            ("P", Spoken::Unclear),
            ("PR", Spoken::Unclear),
            ("PO", Spoken::H1),
            ("GET", Spoken::H1),
            ("\r\n", Spoken::H1),
            ("", Spoken::H1),
        ] {
            assert_eq!(Spoken::of(begin.as_bytes()), spoken, "{begin:?}");
        }
    }
}
