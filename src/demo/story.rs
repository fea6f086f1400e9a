//! The demo's words on the terminal: 80 columns, times at the right.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use signal_hook::consts::SIGHUP;

use super::verify::Signed;
use crate::log::Style;

/// Tells what happens; remembers the step, for whoever has to say what went wrong in it.
pub struct Story {
    colour: bool,
    /// A retold conversation is checked like the first but not shown.
    silent: bool,
    steps: Mutex<Vec<String>>,
}

const BOLD: &str = "1";
const DIM: &str = "2";
const CYAN: &str = "36";

impl Story {
    pub fn new(colour: bool) -> Self {
        Self {
            colour,
            silent: false,
            steps: Mutex::default(),
        }
    }

    pub fn silent() -> Self {
        Self {
            silent: true,
            ..Self::new(false)
        }
    }

    pub fn steps(&self) -> usize {
        self.titles().len()
    }

    /// What was being done last.
    pub fn current(&self) -> String {
        self.titles().last().cloned().unwrap_or_default()
    }

    pub fn heading(&self, text: &str) {
        self.print(&format!("\n{}", self.dress(BOLD, text)));
    }

    pub fn words(&self, text: &str) {
        self.print(text);
    }

    /// To be copied.
    pub fn command(&self, text: &str) {
        self.print(&self.dress(CYAN, text));
    }

    pub fn step(&self, title: impl Into<String>) {
        let title = title.into();
        self.print(&format!("\n  {}", self.dress(CYAN, &title)));
        self.titles().push(title);
    }

    /// What the server has verified: all that a signature covers, and whose it is.
    pub fn signed(&self, signed: &Signed) {
        let Signed {
            method,
            path,
            timestamp,
            key_id,
            signature_start,
        } = signed;
        self.detail(
            "signed",
            format!("{method} {path} {timestamp} key {key_id} signature {signature_start}..."),
            None,
        );
    }

    pub fn detail(&self, label: &str, text: impl Display, after: Option<Duration>) {
        let after = after.map_or(String::new(), in_milliseconds);
        let line = format!("{:<58} {after:>9}", text.to_string());
        let label = self.dress(DIM, &format!("{label:<8}"));
        self.print(&format!("    {label}{}", line.trim_end()));
    }

    fn dress(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn titles(&self) -> MutexGuard<'_, Vec<String>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader that has gone away loses the words; the demo goes on.
    fn print(&self, line: &str) {
        if !self.silent {
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    }
}

fn in_milliseconds(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1000.0;
    let digits = if milliseconds < 10.0 { 1 } else { 0 };
    format!("{milliseconds:.digits$} ms")
}

pub fn colour_on_stdout() -> bool {
    let env = |name: &str| std::env::var(name).ok();
    Style::of(std::io::stdout().as_fd(), &env).colour
}

/// SIGHUP reloads the daemon, as ever, but a demo whose terminal has gone would stay unseen for good.
pub async fn terminal_closed() {
    if std::io::stdout().is_terminal()
        && let Ok(mut hangups) = signal_hook_tokio::Signals::new([SIGHUP])
    {
        while hangups.next().await.is_some() {
            if !std::io::stdout().is_terminal() {
                return;
            }
        }
    }
    std::future::pending().await
}
