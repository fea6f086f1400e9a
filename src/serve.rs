//! Accepting, serving and draining connections; knows nothing of what is served.
//!
//! The control thread accepts and hands each connection to the worker with the
//! fewest; there it stays, with its requests and their upstream connections.

mod activity;
mod connection;
mod crowd;
pub(crate) mod h1;
mod holder;
mod lifetime;
mod protocol;
mod registry;
mod stream;
mod tls;
mod tracked;
mod workers;

pub use connection::{Connection, Handler};
pub use crowd::{Counted, Crowd, Most, TOO_MANY, TooMany};
pub use registry::Registry;
pub use workers::{Arrival, Workers};

use std::io::Result as IoResult;
use std::sync::Arc;
use std::time::Duration;

use slog::{Logger, debug, error};

use crate::config::Server;
use crate::listen::{AcceptError, Bound, Stream};

/// How long the accept loop rests when the host has run out of descriptors or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Accepts for ever; `take` gets each connection. Ends only when dropped.
///
/// A peer that fails costs itself its connection; a host without resources
/// costs a pause. Neither ends the loop.
pub async fn accept(listener: &Bound, log: &Logger, mut take: impl FnMut(Stream)) {
    let mut is_exhausted = false;
    loop {
        match listener.accept().await {
            Ok(accepted) => {
                is_exhausted = false;
                take(accepted);
            }
            Err(AcceptError::Peer(reason)) => {
                debug!(log, "a connection was gone before it was accepted"; "reason" => %reason);
            }
            Err(AcceptError::Exhausted(reason)) => {
                // Said once for each time it begins, not ten times a second while it lasts.
                if !std::mem::replace(&mut is_exhausted, true) {
                    error!(log, "cannot accept connections for now; raise the limit (LimitNOFILE=) or find what leaks";
                        "listener" => %listener, "reason" => %reason);
                }
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

/// Timeouts of a connection, fixed when it is accepted.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// From the first byte of a request's head to its last.
    pub head: Duration,
    /// Without progress of a response that is no event stream.
    pub write: Duration,
    /// Between requests.
    pub idle: Duration,
}

impl Timeouts {
    pub fn of(server: &Server) -> Self {
        Self {
            head: server.read_timeout,
            write: server.write_timeout,
            idle: server.idle_timeout,
        }
    }
}

/// Serves one connection on the current event loop, whichever that is.
///
/// # Errors
/// When the stream is gone already.
pub async fn serve_here<H: Handler>(
    stream: Stream,
    connection: Arc<Connection>,
    timeouts: Timeouts,
    handler: Arc<H>,
    log: &Logger,
) -> IoResult<()> {
    let stream = stream::Stream::adopt(stream)?;
    lifetime::serve(&protocol::h2(), stream, connection, timeouts, handler, log).await;
    Ok(())
}
