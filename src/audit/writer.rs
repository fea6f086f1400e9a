//! The thread that alone waits for the disk, the journal or syslog.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use slog::{Level, Logger, error, info};

use super::Sink;
use super::queue::{Queue, Work, records};
use crate::log;

/// Between two attempts at a stream that fails.
const PAUSE: Duration = Duration::from_secs(1);

/// A flood's buffer is given back when it is over.
const KEEP: usize = 64 * 1024;

pub(super) fn spawn(queue: Arc<Queue>, log: Logger) -> io::Result<()> {
    let thread = std::thread::Builder::new().name("audit".into());
    thread.spawn(move || run(&queue, &log)).map(drop)
}

fn run(queue: &Queue, log: &Logger) {
    let mut sink: Option<Sink> = None;
    let mut batch: Vec<u8> = Vec::new();
    // How much of the batch is written: a record may be cut in the middle by a full disk.
    let mut written = 0;
    loop {
        let patience = match (queue.is_failing(), batch.is_empty()) {
            (true, _) => Some(PAUSE),
            (false, true) => None,
            (false, false) => Some(Duration::ZERO),
        };
        let Work {
            unreported,
            switched,
            closing,
        } = queue.take(&mut batch, patience);
        let is_off = matches!(switched, Some(None));
        if let Some(Some(next)) = switched {
            sink = Some(next);
            if std::mem::take(&mut written) > 0 {
                // It may be the same file, which has the beginning of this record already.
                batch.insert(0, b'\n');
            }
        }
        let outcome = match &mut sink {
            Some(sink) => write(sink, &batch, &mut written),
            None => Ok(()),
        };
        note(queue, log, &outcome);
        let missed = if outcome.is_ok() {
            batch.clear();
            batch.shrink_to(KEEP);
            written = 0;
            if unreported > 0 {
                batch = notice(unreported);
            }
            0
        } else {
            batch.drain(..line_start(&batch, &mut written));
            unreported
        };
        queue.keeps(batch.len(), missed);
        if is_off {
            sink = None;
            if outcome.is_err() {
                let lost = queue.lose(&mut batch);
                error!(log, "the audit was switched off before all records were written"; "lost" => lost);
            }
        }
        if closing {
            let outcome = match &mut sink {
                Some(sink) => write(sink, &batch, &mut written),
                None => Ok(()),
            };
            let left = if outcome.is_ok() { 0 } else { records(&batch) };
            return queue.finish(left);
        }
    }
}

/// Writes on from `written`.
fn write(sink: &mut Sink, batch: &[u8], written: &mut usize) -> io::Result<()> {
    while *written < batch.len() {
        match sink.write(&batch[*written..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => *written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Where the record begins that `written` is in; from there on it counts in what is kept.
fn line_start(batch: &[u8], written: &mut usize) -> usize {
    let start = memchr::memrchr(b'\n', &batch[..*written]).map_or(0, |at| at + 1);
    *written -= start;
    start
}

/// Says when it begins to fail and when it works again, not each time.
fn note(queue: &Queue, log: &Logger, outcome: &io::Result<()>) {
    if !queue.set_failing(outcome.is_err()) {
        return;
    }
    match outcome {
        Err(error) => {
            error!(log, "the audit stream cannot be written; records wait"; "reason" => %error)
        }
        Ok(()) => info!(log, "the audit stream can be written again"),
    }
}

/// The record that stands for those that are missing.
fn notice(count: u64) -> Vec<u8> {
    let mut line = Vec::new();
    let nothing = format_args!("records lost");
    log::json_line(
        &slog::record!(Level::Error, "", &nothing, slog::b!("count" => count)),
        &slog::o!().into(),
        |rendered| line.extend_from_slice(rendered),
    );
    line
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::Instant;

    use super::*;
    use crate::config::AuditTarget;

    fn lines(path: &std::path::Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn until(what: &str, mut is_so: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < Duration::from_secs(10), "{what}");
            std::thread::yield_now();
        }
    }

    fn started() -> Arc<Queue> {
        let queue = Arc::new(Queue::default());
        assert!(queue.start());
        spawn(Arc::clone(&queue), Logger::root(slog::Discard, slog::o!())).unwrap();
        queue
    }

    #[test]
    fn what_cannot_be_written_waits_and_nothing_is_missing_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        fs::write(&path, "").unwrap();
        let queue = started();
        // Opened for reading: every write fails.
        queue.switch(Some(Sink::File(File::open(&path).unwrap())));
        assert!(!queue.push(b"1\n"));
        until("it fails", || queue.is_failing() && queue.is_in_trouble());
        assert!(!queue.push(b"2\n"));
        queue.switch(Some(Sink::open(&AuditTarget::File(path.clone())).unwrap()));
        assert!(!queue.push(b"3\n"));
        assert_eq!(queue.close(Duration::from_secs(10)), 0);
        assert_eq!(lines(&path), ["1", "2", "3"]);
        // Too late, and counted.
        assert!(queue.push(b"4\n"));
        assert_eq!(queue.lost(), 1);
    }

    #[test]
    fn what_is_lost_is_counted_and_the_stream_says_how_much() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        fs::write(&path, "").unwrap();
        let queue = started();
        queue.switch(Some(Sink::File(File::open(&path).unwrap())));
        let record = [&[b'x'; 1024 * 1024 - 1][..], b"\n"].concat();
        let said: Vec<bool> = (0..7).map(|_| queue.push(&record)).collect();
        assert_eq!(said, [false, false, false, false, true, false, false]);
        assert_eq!(queue.lost(), 3);
        until("it fails", || queue.is_failing());
        queue.switch(Some(Sink::open(&AuditTarget::File(path.clone())).unwrap()));
        until("the notice", || lines(&path).len() == 5);
        let notice: serde_json::Value = serde_json::from_str(&lines(&path)[4]).unwrap();
        assert_eq!(
            (&notice["msg"], &notice["count"]),
            (&"records lost".into(), &3.into())
        );
    }

    #[test]
    fn an_exit_says_what_it_could_not_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        fs::write(&path, "").unwrap();
        let queue = started();
        queue.switch(Some(Sink::File(File::open(&path).unwrap())));
        queue.push(b"1\n");
        queue.push(b"2\n");
        assert_eq!(queue.close(Duration::from_secs(10)), 2);
    }
}
