//! The audit: one record for each request, in a stream of its own.
//!
//! It is apart from the log, because it is for others to read and may not have holes that
//! nobody knows of. Hence this policy:
//!
//! - A record is a line of JSON: a file gets it as it is, the journal and syslog as a message.
//! - The event loop that ends a request appends its record to a queue of at most 4 MiB; the
//!   thread `audit` writes. Neither waits for the other.
//! - What cannot be written stays in the queue and is tried again every second; the log and a
//!   metric say so. With `on_failure = "refuse"` requests are refused meanwhile.
//! - A record that finds the queue full is lost: the log says when that begins, a metric counts,
//!   and a record in the stream itself says how many are missing.
//! - A reload opens the file again, so it can be renamed before.

mod queue;
mod sink;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use slog::{Drain, KV, Logger, Never, OwnedKVList, Record, error, info};

use crate::config::{self, OnFailure};
use crate::log::{self, InOrder};
use queue::Queue;
pub use sink::Sink;

/// How long an exit waits for a stream that takes nothing.
const PATIENCE: Duration = Duration::from_secs(5);

pub struct Audit {
    stream: Logger,
    log: Logger,
    queue: Arc<Queue>,
    is_on: AtomicBool,
    refuses: AtomicBool,
}

impl Audit {
    /// Off, until [`Audit::switch`] says where records go.
    pub fn new(log: Logger) -> Self {
        let queue = Arc::new(Queue::default());
        let drain = Appending {
            queue: Arc::clone(&queue),
            log: log.clone(),
        };
        Self {
            stream: Logger::root(drain, slog::o!()),
            log,
            queue,
            is_on: AtomicBool::new(false),
            refuses: AtomicBool::new(false),
        }
    }

    /// Records go to `sink` from now on, in the order in which they came; `None`: nowhere.
    ///
    /// # Errors
    /// The system gives no thread; all stays as it was.
    pub fn switch(
        &self,
        sink: Option<Sink>,
        settings: Option<&config::Audit>,
    ) -> std::io::Result<()> {
        if sink.is_some()
            && self.queue.start()
            && let Err(error) = writer::spawn(Arc::clone(&self.queue), self.log.clone())
        {
            self.queue.has_no_writer();
            return Err(error);
        }
        self.is_on.store(sink.is_some(), Relaxed);
        let refuses = settings.is_some_and(|settings| settings.on_failure == OnFailure::Refuse);
        self.refuses.store(refuses, Relaxed);
        self.queue.switch(sink);
        Ok(())
    }

    pub fn is_on(&self) -> bool {
        self.is_on.load(Relaxed)
    }

    /// Whether a request may begin: it may not where its record could be lost and must not be.
    pub fn admits(&self) -> bool {
        !self.refuses.load(Relaxed) || !self.queue.is_in_trouble()
    }

    pub fn record(&self, record: impl KV) {
        if self.is_on() {
            info!(self.stream, "request"; InOrder(record));
        }
    }

    /// Records lost since the start.
    pub fn lost(&self) -> u64 {
        self.queue.lost()
    }

    pub fn is_failing(&self) -> bool {
        self.queue.is_failing()
    }

    /// Writes what is queued and ends the stream; says how many records could not be written.
    pub fn close(&self) {
        let left = self.queue.close(PATIENCE);
        if left > 0 {
            error!(self.log, "the audit stream took not all of its records"; "lost" => left);
        }
    }
}

/// The stream's drain: serialises on the calling thread and appends.
struct Appending {
    queue: Arc<Queue>,
    log: Logger,
}

impl Drain for Appending {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record, values: &OwnedKVList) -> Result<(), Never> {
        log::json_line(record, values, |line| {
            if self.queue.push(line) {
                error!(
                    self.log,
                    "audit records are being lost, as the stream takes none; see to its disk or its reader"
                );
            }
        });
        Ok(())
    }
}
