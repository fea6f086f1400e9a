use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use slog::{debug, error, info, o, trace, warn};

use super::*;

const JSON: config::Log = config::Log {
    level: Level::Info,
    format: LogFormat::Json,
};
const TEXT: config::Log = config::Log {
    level: Level::Info,
    format: LogFormat::Text,
};
const PLAIN: Style = Style {
    colour: false,
    journal: false,
};

/// Collects what the log thread writes.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Page {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Everything `story` logs.
fn told(settings: config::Log, style: Style, story: impl FnOnce(&Logger, &LogControl)) -> String {
    let page = Page::default();
    let (log, control, guard) = start_on(settings, style, page.clone());
    story(&log, &control);
    drop(guard);
    page.text()
}

/// Says when a write begins, and lets it end when told how.
struct Gate {
    began: Sender<usize>,
    end: Receiver<io::Result<()>>,
    page: Page,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.began.send(bytes.len());
        self.end.recv().unwrap_or(Ok(()))?;
        self.page.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gate() -> (Gate, Receiver<usize>, Sender<io::Result<()>>, Page) {
    let (began, saw) = channel();
    let (open, end) = channel();
    let page = Page::default();
    let gate = Gate {
        began,
        end,
        page: page.clone(),
    };
    (gate, saw, open, page)
}

#[test]
fn a_json_line_has_time_level_message_then_values_as_written() {
    let line = told(JSON, PLAIN, |log, _| {
        let child = log.new(o!("listener" => "tcp", "id" => "r1"));
        let child = child.new(o!("last" => true));
        info!(child, "request {}", 7; "a" => 1, "b" => "two", "c" => %"three", "none" => None::<u8>);
    });
    let (head, rest) = line.split_at(r#"{"time":""#.len());
    let (time, rest) = rest.split_once('"').unwrap();
    assert_eq!(head, r#"{"time":""#);
    assert!(humantime::parse_rfc3339(time).is_ok(), "{time}");
    assert_eq!(time.len(), "2026-07-28T12:34:56.123456Z".len());
    assert_eq!(
        rest,
        concat!(
            r#","level":"info","msg":"request 7","a":1,"b":"two","c":"three","#,
            r#""listener":"tcp","id":"r1","last":true}"#,
            "\n"
        )
    );
}

#[test]
fn a_group_keeps_its_own_order_among_others() {
    struct Pair;
    impl slog::KV for Pair {
        fn serialize(&self, _: &Record, out: &mut dyn slog::Serializer) -> slog::Result {
            out.emit_u8("first", 1)?;
            out.emit_none("absent")?;
            out.emit_u8("second", 2)
        }
    }
    let story = |log: &Logger, _: &LogControl| {
        let log = log.new(o!("id" => "r1"));
        info!(log, "x"; "before" => 0, InOrder(Pair), "after" => 3);
    };
    let json = told(JSON, PLAIN, story);
    let fields = r#""msg":"x","before":0,"first":1,"second":2,"after":3,"id":"r1"}"#;
    assert!(json.contains(fields), "{json}");
    let text = told(TEXT, PLAIN, story);
    assert!(
        text.ends_with(" before=0 first=1 second=2 after=3 id=r1\n"),
        "{text}"
    );
}

#[test]
fn a_line_without_values_is_whole_too() {
    let line = told(JSON, PLAIN, |log, _| warn!(log, "alone"));
    assert!(
        line.ends_with(",\"level\":\"warning\",\"msg\":\"alone\"}\n"),
        "{line}"
    );
}

#[test]
fn hostile_values_stay_on_their_line() {
    let story = |log: &Logger, _: &LogControl| info!(log, "a\nb"; "path" => "/x\n\u{1b}[31m\"{}");
    let json = told(JSON, PLAIN, story);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["path"], "/x\n\u{1b}[31m\"{}");
    assert_eq!(json.lines().count(), 1);

    let text = told(TEXT, PLAIN, story);
    assert_eq!(text.lines().count(), 1);
    assert!(text.contains(r"a\nb"), "{text}");
    assert!(text.contains(r#"path="/x\n\u{1b}[31m\"{}""#), "{text}");
}

#[test]
fn text_is_aligned_and_quotes_what_has_spaces() {
    let text = told(TEXT, PLAIN, |log, _| {
        let log = log.new(o!("id" => "r1"));
        warn!(log, "slow upstream"; "upstream" => "acme", "why" => "two words", "empty" => "");
    });
    let (_, rest) = text.split_once(' ').unwrap();
    assert_eq!(
        rest,
        "WARN  slow upstream                    upstream=acme why=\"two words\" empty=\"\" id=r1\n"
    );
}

#[test]
fn colour_marks_the_level() {
    let style = Style {
        colour: true,
        ..PLAIN
    };
    let text = told(TEXT, style, |log, _| error!(log, "no"));
    assert!(text.contains("\x1b[31mERROR\x1b[0m no"), "{text:?}");
}

#[test]
fn journald_gets_the_priority_and_text_leaves_the_time_to_it() {
    let style = Style {
        journal: true,
        ..PLAIN
    };
    assert_eq!(
        told(TEXT, style, |log, _| error!(log, "no")),
        "<3>ERROR no\n"
    );
    let json = told(JSON, style, |log, _| slog::crit!(log, "no"));
    assert!(json.starts_with("<2>{\"time\":"), "{json}");
}

#[test]
fn journal_stream_counts_only_for_the_descriptor_it_names() {
    use std::os::fd::AsFd;
    let file = tempfile::tempfile().unwrap();
    let stat = nix::sys::stat::fstat(&file).unwrap();
    let env = |named: String| move |name: &str| (name == "JOURNAL_STREAM").then(|| named.clone());
    let own = env(format!("{}:{}", stat.st_dev, stat.st_ino));
    assert!(Style::of(file.as_fd(), &own).journal);
    assert!(!Style::of(file.as_fd(), &env("8:1".into())).journal);
    assert!(!Style::of(file.as_fd(), &|_| None).journal);
}

#[test]
fn the_level_decides_before_a_value_is_formatted() {
    struct Untouched;
    impl std::fmt::Display for Untouched {
        fn fmt(&self, _: &mut std::fmt::Formatter) -> std::fmt::Result {
            panic!("formatted")
        }
    }
    let text = told(TEXT, PLAIN, |log, control| {
        debug!(log, "unseen"; "value" => %Untouched);
        control.set_level(Level::Trace);
        trace!(log, "seen");
    });
    assert_eq!(text.lines().count(), 1);
    assert!(text.contains("seen"));
}

#[test]
fn more_and_less_stop_at_the_ends() {
    told(JSON, PLAIN, |_, control| {
        assert_eq!(control.more(), Level::Debug);
        assert_eq!(control.more(), Level::Trace);
        assert_eq!(control.more(), Level::Trace);
        control.set_level(Level::Error);
        assert_eq!(control.less(), Level::Critical);
        assert_eq!(control.less(), Level::Critical);
    });
}

#[test]
fn the_format_changes_while_running() {
    let text = told(JSON, PLAIN, |log, control| {
        info!(log, "one");
        control.set_format(LogFormat::Text);
        info!(log, "two");
    });
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines[0].starts_with('{') && lines[1].ends_with("INFO  two"),
        "{text}"
    );
}

#[test]
fn a_value_that_logs_does_not_disturb_its_line() {
    struct Chatty(Logger);
    impl slog::Value for Chatty {
        fn serialize(
            &self,
            _: &Record,
            key: slog::Key,
            out: &mut dyn slog::Serializer,
        ) -> slog::Result {
            info!(self.0, "inner"; "x" => 1);
            out.emit_str(key, "outer")
        }
    }
    let text = told(
        JSON,
        PLAIN,
        |log, _| info!(log, "outer"; "v" => Chatty(log.clone()), "y" => 2),
    );
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].ends_with(r#""msg":"inner","x":1}"#), "{text}");
    assert!(
        lines[1].ends_with(r#""msg":"outer","v":"outer","y":2}"#),
        "{text}"
    );
}

#[test]
fn a_reader_that_hangs_costs_lines_not_memory_and_the_loss_is_told() {
    let (gate, began, open, page) = gate();
    let (log, control, guard) = start_on(JSON, PLAIN, gate);
    info!(log, "first");
    began.recv().unwrap();
    // The writer is stuck in its first write: everything from here on queues up.
    let filler = "x".repeat(1000);
    for n in 0..2000 {
        info!(log, "{}", filler; "n" => n);
    }
    let dropped = control.dropped();
    assert!(dropped > 900 && dropped < 1100, "{dropped}");
    drop(open);
    drop(guard);
    let text = page.text();
    assert_eq!(text.matches(&filler).count() as u64, 2000 - dropped);
    assert!(
        text.contains(&format!(
            "\"level\":\"warning\",\"msg\":\"{dropped} log lines were dropped\""
        )),
        "the loss is not told"
    );
}

#[test]
fn a_closed_stderr_neither_kills_nor_spins_and_recovers() {
    let (gate, began, open, page) = gate();
    let (log, control, guard) = start_on(TEXT, PLAIN, gate);
    info!(log, "lost");
    began.recv().unwrap();
    open.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
    while control.dropped() == 0 {
        std::thread::yield_now();
    }
    // No further attempt without a further line.
    assert!(began.try_recv().is_err());
    info!(log, "kept");
    drop(open);
    drop(guard);
    let text = page.text();
    assert!(
        text.contains("kept\n") && text.contains("1 log line was dropped\n"),
        "{text}"
    );
    assert!(!text.contains("lost"));
}

#[test]
fn an_exit_does_not_wait_for_a_reader_that_never_reads() {
    let (gate, began, open, _) = gate();
    let (log, _control, guard) = start_on(TEXT, PLAIN, gate);
    info!(log, "stuck");
    began.recv().unwrap();
    let start = std::time::Instant::now();
    drop(guard);
    assert!(start.elapsed() < std::time::Duration::from_secs(5));
    drop(open);
}

#[test]
fn a_flood_is_written_in_few_batches() {
    struct Count(Arc<AtomicUsize>);
    impl Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let writes = Arc::new(AtomicUsize::new(0));
    let (log, control, guard) = start_on(JSON, PLAIN, Count(writes.clone()));
    let start = std::time::Instant::now();
    for n in 0..3000 {
        info!(log, "line"; "n" => n);
    }
    let millis = start.elapsed().as_millis() as usize;
    drop(guard);
    assert_eq!(control.dropped(), 0);
    assert!(writes.load(Ordering::Relaxed) <= millis + 3);
}

#[test]
fn a_line_that_comes_again_and_again_is_said_once_with_its_number() {
    for settings in [JSON, TEXT] {
        let text = told(settings, PLAIN, |log, _| {
            for _ in 0..38 {
                warn!(log, "flapping"; "upstream" => "acme");
            }
            warn!(log, "flapping"; "upstream" => "other");
            info!(log, "calm");
            info!(log, "calm");
        });
        let lines: Vec<_> = text.lines().collect();
        let says = |at: usize, what: &str| assert!(lines[at].contains(what), "{at}:\n{text}");
        says(0, "acme");
        says(1, "the line before came 37 times more");
        says(2, "other");
        says(3, "calm");
        says(4, "the line before came 1 time more");
        assert_eq!(lines.len(), 5, "{text}");
        assert!(lines[1].to_lowercase().contains("warn"), "{text}");
    }
}

#[test]
fn one_request_is_logged_at_debug_while_the_others_are_not() {
    let text = told(TEXT, PLAIN, |log, _| {
        debug!(log, "unseen");
        focused(true, || {
            debug!(log, "seen");
            trace!(log, "too much");
            focused(false, || debug!(log, "within"));
        });
        debug!(log, "unseen again");
    });
    assert!(text.contains("seen") && text.contains("within"), "{text}");
    assert!(
        !text.contains("unseen") && !text.contains("too much"),
        "{text}"
    );
}

#[test]
fn a_level_for_a_while_goes_back_unless_it_was_changed_since() {
    told(JSON, PLAIN, |_, control| {
        let change = control.set_level(Level::Debug);
        assert!(control.set_back(Level::Info, change));
        assert_eq!(control.level(), Level::Info);
        let change = control.set_level(Level::Debug);
        control.more();
        assert!(!control.set_back(Level::Info, change));
        assert_eq!(control.level(), Level::Trace);
    });
}
