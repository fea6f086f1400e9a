//! The root logger: one line per event on stderr, JSON or text.
//!
//! An event loop must never wait for whoever reads stderr, and a flood of lines
//! must not take the host's memory. Hence this policy:
//!
//! - The level is compared before anything is serialised.
//! - The calling thread serialises into a buffer of its own and appends the
//!   finished line to a queue of at most 1 MiB. The lock guards that copy alone;
//!   it is never held during a write.
//! - A line that finds the queue full is dropped and counted. Once lines pass
//!   again, one line says how many are missing.
//! - The thread `log` takes the whole queue and writes it with one blocking
//!   write. It then pauses for 5 ms before it looks again, so a flood costs about
//!   200 wake-ups a second, whatever the number of lines. With nothing to do it
//!   sleeps without a timer, and only then does a line wake it.
//! - A reader that has gone away (EPIPE) loses lines; the daemon goes on.
//! - [`FlushGuard`] writes the tail at exit and waits one second at most.

use std::cell::Cell;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use slog::{Drain, Level, Logger, Never, OwnedKVList, Record};

use crate::config::{self, LogFormat};
use queue::Queue;
pub use style::Style;
pub use writer::FlushGuard;

mod fields;
mod json;
mod queue;
mod style;
mod text;
mod writer;

pub use fields::InOrder;
use fields::Scratch;

/// The logger's controls, shared by the reload, the signals and the metrics.
pub struct LogControl {
    level: AtomicUsize,
    json: AtomicBool,
    style: Style,
    queue: Queue,
}

impl LogControl {
    fn new(settings: config::Log, style: Style) -> Self {
        let control = Self {
            level: AtomicUsize::new(settings.level.as_usize()),
            json: AtomicBool::new(false),
            style,
            queue: Queue::default(),
        };
        control.set_format(settings.format);
        control
    }

    pub fn level(&self) -> Level {
        Level::from_usize(self.level.load(Ordering::Relaxed)).unwrap_or(Level::Info)
    }

    pub fn set_level(&self, level: Level) {
        self.level.store(level.as_usize(), Ordering::Relaxed);
    }

    /// One step towards `trace`; the level now in force.
    pub fn more(&self) -> Level {
        self.step(|level| (level + 1).min(Level::Trace.as_usize()))
    }

    /// One step towards `critical`; the level now in force.
    pub fn less(&self) -> Level {
        self.step(|level| (level - 1).max(Level::Critical.as_usize()))
    }

    fn step(&self, next: impl Fn(usize) -> usize) -> Level {
        let _ = self
            .level
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |level| {
                Some(next(level))
            });
        self.level()
    }

    pub fn set_format(&self, format: LogFormat) {
        self.json
            .store(format == LogFormat::Json, Ordering::Relaxed);
    }

    /// Lines lost since the start: the queue was full, or stderr refused them.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped()
    }

    fn enabled(&self, level: Level) -> bool {
        level.as_usize() <= self.level.load(Ordering::Relaxed)
    }

    /// Leaves one line, newline included, in `scratch.line`.
    fn render(&self, record: &Record, values: &OwnedKVList, scratch: &mut Scratch) {
        scratch.clear();
        if self.style.journal {
            scratch
                .line
                .extend_from_slice(style::syslog_prefix(record.level()));
        }
        if self.json.load(Ordering::Relaxed) {
            json::render(record, values, scratch);
        } else {
            text::render(record, values, self.style, scratch);
        }
        scratch.line.push(b'\n');
    }
}

/// Starts logging to stderr in the style that stderr calls for.
///
/// Keep the guard until the very end of `main`: dropping it writes the tail.
pub fn start(settings: config::Log) -> (Logger, Arc<LogControl>, FlushGuard) {
    start_on(settings, Style::of_stderr(), stderr())
}

/// Starts logging to `out`. Panics if no thread can be started.
pub fn start_on(
    settings: config::Log,
    style: Style,
    out: impl Write + Send + 'static,
) -> (Logger, Arc<LogControl>, FlushGuard) {
    let control = Arc::new(LogControl::new(settings, style));
    let guard = writer::spawn(control.clone(), out);
    let logger = Logger::root(Root(control.clone()), slog::o!());
    (logger, control, guard)
}

/// A descriptor of its own: `std::io::stderr` would hold the lock that `eprintln!` and panics need.
fn stderr() -> Box<dyn Write + Send> {
    use std::os::fd::AsFd;
    match io::stderr().as_fd().try_clone_to_owned() {
        Ok(fd) => Box::new(std::fs::File::from(fd)),
        Err(_) => Box::new(io::sink()),
    }
}

/// Renders a record as JSON, newline included, in a buffer of this thread's.
pub fn json_line(record: &Record, values: &OwnedKVList, take: impl FnOnce(&[u8])) {
    let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
    scratch.clear();
    json::render(record, values, &mut scratch);
    scratch.line.push(b'\n');
    take(&scratch.line);
    scratch.shrink();
    let _ = SCRATCH.try_with(|cell| cell.set(scratch));
}

struct Root(Arc<LogControl>);

thread_local! {
    static SCRATCH: Cell<Scratch> = const { Cell::new(Scratch::new()) };
}

impl Drain for Root {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record, values: &OwnedKVList) -> Result<(), Never> {
        if !self.0.enabled(record.level()) {
            return Ok(());
        }
        // Taken, not borrowed: a value that logs while it is formatted gets a fresh one.
        let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
        self.0.render(record, values, &mut scratch);
        self.0.queue.push(&scratch.line);
        scratch.shrink();
        let _ = SCRATCH.try_with(|cell| cell.set(scratch));
        Ok(())
    }

    fn is_enabled(&self, level: Level) -> bool {
        self.0.enabled(level)
    }
}

#[cfg(test)]
mod tests;
