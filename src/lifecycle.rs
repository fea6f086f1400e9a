//! Starting → Ready ⇄ Reloading → Stopping, and the service manager told of each step.
//!
//! A step and its notification happen under one lock: without it a reload that
//! ends while SIGTERM arrives could send `READY=1` after `STOPPING=1`, and systemd
//! would take a daemon that is leaving for one that serves.
//!
//! Nothing here can fail the daemon: what cannot be told is logged.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;

pub use notify::Notifier;

mod notify;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Starting,
    Ready,
    Reloading,
    Stopping,
}

pub struct Lifecycle {
    state: Mutex<State>,
    notifier: Notifier,
}

impl Lifecycle {
    pub fn new(notifier: Notifier) -> Self {
        Self {
            state: Mutex::new(State::Starting),
            notifier,
        }
    }

    pub fn state(&self) -> State {
        *self.lock()
    }

    /// It serves: after the start, and after each reload, refused ones included.
    /// Ignored once stopping.
    pub fn ready(&self, status: &str) {
        let mut state = self.lock();
        if *state != State::Stopping {
            *state = State::Ready;
            let status = one_line(status);
            self.notifier
                .send(&[NotifyState::Ready, NotifyState::Status(&status)]);
        }
    }

    /// A reload begins. Ignored unless ready: systemd expects `READY=1` in between.
    pub fn reloading(&self) {
        let mut state = self.lock();
        if *state == State::Ready {
            *state = State::Reloading;
            // systemd discards a RELOADING without its time, and one older than its own SIGHUP.
            match NotifyState::monotonic_usec_now() {
                Ok(now) => self.notifier.send(&[NotifyState::Reloading, now]),
                Err(_) => self.notifier.send(&[NotifyState::Reloading]),
            }
        }
    }

    /// The drain begins; told once.
    pub fn stopping(&self) {
        let mut state = self.lock();
        if *state != State::Stopping {
            *state = State::Stopping;
            self.notifier.send(&[NotifyState::Stopping]);
        }
    }

    /// What `systemctl status` shows, in any state.
    pub fn status(&self, text: &str) {
        self.notifier.send(&[NotifyState::Status(&one_line(text))]);
    }

    /// Feeds the watchdog. Also while stopping: systemd watches until the process is gone.
    pub fn watchdog(&self) {
        self.notifier.send(&[NotifyState::Watchdog]);
    }

    /// Asks for `time` from now on until the current step must be done.
    pub fn extend(&self, time: Duration) {
        // sd-notify's own variant ends at 71 minutes.
        let text = format!("EXTEND_TIMEOUT_USEC={}", time.as_micros());
        self.notifier.send(&[NotifyState::Custom(&text)]);
    }

    /// How often to call [`Self::watchdog`]; `None` when nobody watches.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.notifier.watchdog_interval()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line break in a status would begin another assignment, such as `MAINPID=`.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests;
