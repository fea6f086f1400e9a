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
//! - A line that says the same as the one before it, at another time, is not queued but counted.
//!   How often it came is said before the next other line, and every 5 s while it goes on.
//! - The thread `log` takes the whole queue and writes it with one blocking
//!   write. It then pauses for 1 ms before it looks again, so a flood costs about
//!   1,000 wake-ups a second, whatever the number of lines. With nothing to do it
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
mod focus;
mod json;
mod queue;
mod style;
mod text;
mod writer;

pub use fields::InOrder;
use fields::Scratch;
pub use focus::{Focused, focused};

/// The logger's controls, shared by the reload, the signals and the metrics.
pub struct LogControl {
    level: AtomicUsize,
    /// How often the level was set.
    changes: AtomicUsize,
    json: AtomicBool,
    style: Style,
    queue: Queue,
}

impl LogControl {
    fn new(settings: config::Log, style: Style) -> Self {
        let control = Self {
            level: AtomicUsize::new(settings.level.as_usize()),
            changes: AtomicUsize::new(0),
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

    /// Returns the number of this change, for [`Self::set_back`].
    pub fn set_level(&self, level: Level) -> usize {
        self.level.store(level.as_usize(), Ordering::Relaxed);
        self.changes.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Sets `level` again, unless somebody has decided otherwise since `change`.
    pub fn set_back(&self, level: Level, change: usize) -> bool {
        let is_last = self.changes.load(Ordering::Relaxed) == change;
        if is_last {
            self.set_level(level);
        }
        is_last
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
        self.changes.fetch_add(1, Ordering::Relaxed);
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
            || (level.is_at_least(Level::Debug) && focus::is_on())
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
        let level = record.level();
        if let Some(repeats) = self.0.queue.push(&scratch.line, scratch.body, level) {
            let told = writer::repeated(&self.0, repeats);
            self.0.queue.append(&told);
            self.0.queue.append(&scratch.line);
        }
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
