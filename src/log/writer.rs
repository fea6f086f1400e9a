//! The thread that alone waits for whoever reads the log.

use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use slog::{BorrowedKV, Level};

use super::LogControl;
use super::fields::Scratch;
use super::queue::{Repeats, Taken};

/// Between two batches: lines gather instead of waking the thread one by one.
pub(super) const PAUSE: Duration = Duration::from_millis(1);

/// How long an exit waits for a reader that does not read.
const PATIENCE: Duration = Duration::from_secs(1);

/// Writes the queue's tail when dropped; lines logged later are lost.
#[must_use = "dropping the guard ends the log"]
pub struct FlushGuard(Arc<LogControl>);

impl Drop for FlushGuard {
    fn drop(&mut self) {
        self.0.queue.close(PATIENCE);
    }
}

pub(super) fn spawn(control: Arc<LogControl>, mut out: impl Write + Send + 'static) -> FlushGuard {
    let guard = FlushGuard(control.clone());
    let write = move || {
        run(&control, &mut out);
        control.queue.finish();
    };
    thread::Builder::new()
        .name("log".into())
        .spawn(write)
        .expect("a thread for the log");
    guard
}

fn run(control: &LogControl, out: &mut impl Write) {
    let mut batch = Vec::new();
    loop {
        let Taken {
            unreported,
            repeats,
            closing,
        } = control.queue.take(&mut batch);
        if let Some(repeats) = repeats {
            batch.extend(repeated(control, repeats));
        }
        if unreported > 0 {
            batch.extend(notice(control, unreported));
        }
        if batch.is_empty() {
            return;
        }
        let written = write_all(out, &batch);
        if let Err(lost) = written {
            // The notice is lost too, but it is no line of anyone's.
            control
                .queue
                .give_back(unreported, lost - u64::from(unreported > 0));
        }
        match (closing, written) {
            (true, Err(_)) => return,
            (true, Ok(())) => {}
            (false, _) => thread::sleep(PAUSE),
        }
    }
}

/// The line that stands for those that are missing. They came last: the queue was full.
fn notice(control: &LogControl, count: u64) -> Vec<u8> {
    let (verb, s) = if count == 1 {
        ("was", "")
    } else {
        ("were", "s")
    };
    let message = format_args!("{count} log line{s} {verb} dropped");
    line(control, Level::Warning, &message)
}

/// The line that stands for those that said the same as the one before them.
pub(super) fn repeated(control: &LogControl, repeats: Repeats) -> Vec<u8> {
    let (count, level) = (repeats.count, repeats.level);
    let s = if count == 1 { "" } else { "s" };
    let message = format_args!("the line before came {count} time{s} more");
    line(control, level, &message)
}

fn line(control: &LogControl, level: Level, message: &std::fmt::Arguments<'_>) -> Vec<u8> {
    let mut scratch = Scratch::new();
    // The macro wants its level to be a constant.
    let location = slog::RecordLocation {
        file: "",
        line: 0,
        column: 0,
        function: "",
        module: "",
    };
    let fixed = slog::RecordStatic {
        location: &location,
        tag: "",
        level,
    };
    let record = slog::Record::new(&fixed, message, BorrowedKV(&()));
    control.render(&record, &slog::o!().into(), &mut scratch);
    scratch.line
}

/// Like `Write::write_all`, but patient with a non-blocking stderr (a terminal that another
/// program left so), and it says how many lines were lost.
fn write_all(out: &mut impl Write, mut bytes: &[u8]) -> Result<(), u64> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(written) if written > 0 => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(10 * PAUSE),
            _ => return Err(bytes.iter().filter(|&&byte| byte == b'\n').count() as u64),
        }
    }
    Ok(())
}
