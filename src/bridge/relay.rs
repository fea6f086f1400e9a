//! Between stdin, stdout and the endpoint: what every task of the bridge shares.

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::HeaderValue;
use slog::{Logger, debug, warn};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::answers::{self, Answers, Call};
use super::link::Link;
use super::memory;
use super::output::Output;
use super::session::Session;
use crate::mcp::params::Catalog;

/// Exchanges at a time, each with a connection of its own: far below the usual limit on open files.
const CONCURRENT: usize = 256;

/// Messages at a time that nobody waits for: they must not wait behind requests that wait for them.
const CONCURRENT_NOTES: usize = 64;

pub struct Relay {
    pub link: Link,
    pub session: Session,
    pub answers: Answers,
    pub log: Logger,
    pub user_agent: HeaderValue,
    /// Cancelled when the bridge goes: streams without an end of their own end then.
    pub stopping: CancellationToken,
    pub slots: Semaphore,
    pub note_slots: Semaphore,
    /// The stream of the server's own messages is held open.
    pub is_listening: AtomicBool,
    catalog: Mutex<Catalog>,
    output: Output,
}

impl Relay {
    pub fn new(link: Link, output: Output, user_agent: HeaderValue, log: Logger) -> Self {
        Self {
            link,
            session: Session::default(),
            answers: Answers::default(),
            log,
            user_agent,
            stopping: CancellationToken::new(),
            slots: Semaphore::new(CONCURRENT),
            note_slots: Semaphore::new(CONCURRENT_NOTES),
            is_listening: AtomicBool::new(false),
            catalog: Mutex::default(),
            output,
        }
    }

    /// Passes on what an upstream sent, if it is MCP and, where it is an answer, the first one.
    pub async fn pass(&self, bytes: Bytes, call: Option<&Call>, is_whole: bool) {
        let length = bytes.len();
        memory::passes(length);
        let Some(passed) = self.answers.admit(bytes, call, is_whole) else {
            debug!(self.log, "dropped what is no MCP message or a second answer"; "bytes" => length);
            return;
        };
        match passed.answers.as_deref() {
            Some("initialize") => {
                if let Some(version) = answers::negotiated_version(&passed.bytes) {
                    self.session.negotiated(&version);
                }
            }
            Some("tools/list") => {
                let learned = self.catalog().learn(&passed.bytes);
                for (tool, reason) in learned.invalid {
                    warn!(
                        self.log,
                        "tool {} asks for Mcp-Param headers in a wrong way, so it gets none: {}",
                        tool,
                        reason
                    );
                }
            }
            _ => {}
        }
        self.output.send(passed.bytes).await;
    }

    /// Sends a message of the bridge's own making.
    pub async fn say(&self, message: Bytes) {
        self.output.send(message).await;
    }

    pub fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when nobody reads stdout any more.
    pub async fn client_gone(&self) {
        self.output.gone().await;
    }

    /// Resolves when everything is with the client, or it reads no more.
    pub async fn flush(&self) {
        self.output.flush().await;
    }
}
