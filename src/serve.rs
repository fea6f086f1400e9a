//! Accepting, serving and draining connections; knows nothing of what is served.
//!
//! The control thread accepts and hands each connection to the worker with the
//! fewest; there it stays, with its requests and their upstream connections.

mod activity;
mod connection;
mod head;
mod io;
mod registry;
mod tracked;
mod workers;

pub use connection::{Connection, Handler};
pub use registry::Registry;
pub use tracked::Tracked;
pub use workers::{Arrival, Workers};

use std::sync::Arc;
use std::time::Duration;

use slog::{Logger, debug, error};

use crate::listen::{AcceptError, Bound, Stream};

/// How long the accept loop rests when the host has run out of descriptors or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Accepts for ever; `take` gets each connection. Ends only when dropped.
///
/// A peer that fails costs itself its connection; a host without resources
/// costs a pause. Neither ends the loop.
pub async fn accept(listener: &Bound, log: &Logger, mut take: impl FnMut(Stream)) {
    loop {
        match listener.accept().await {
            Ok(accepted) => take(accepted),
            Err(AcceptError::Peer(reason)) => {
                debug!(log, "a connection was gone before it was accepted"; "reason" => %reason);
            }
            Err(AcceptError::Exhausted(reason)) => {
                error!(log, "cannot accept connections for now; raise the limit (LimitNOFILE=) or find what leaks";
                    "listener" => %listener.address(), "reason" => %reason);
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

/// Takes what the kernel has already accepted on a listener that is about to close.
pub async fn accept_pending(listener: &Bound, mut take: impl FnMut(Stream)) {
    // One that is not there at once is not pending.
    let patience = Duration::from_millis(1);
    while let Ok(Ok(accepted)) = tokio::time::timeout(patience, listener.accept()).await {
        take(accepted);
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

/// A shared handle to one connection's facts.
pub type ConnectionRef = Arc<Connection>;
