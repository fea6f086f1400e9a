//! Signals as events of the daemon's loop.

use std::io;

use futures_util::StreamExt;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::RecvError;

pub enum Signal {
    /// The signal's name; `None` if the process itself wants to stop.
    Stop(Option<&'static str>),
    Reload,
    MoreLog,
    LessLog,
}

pub struct Signals {
    signals: signal_hook_tokio::Signals,
    stopped: Option<oneshot::Receiver<()>>,
}

impl Signals {
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            signals: signal_hook_tokio::Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2])?,
            stopped: None,
        })
    }

    /// Takes what comes by `stopped` for a signal to stop.
    pub fn also(&mut self, stopped: oneshot::Receiver<()>) {
        self.stopped = Some(stopped);
    }

    pub async fn next(&mut self) -> Signal {
        loop {
            let number = tokio::select! {
                number = self.signals.next() => number,
                outcome = told(&mut self.stopped) => {
                    self.stopped = None;
                    match outcome {
                        Ok(()) => return Signal::Stop(None),
                        // Nobody holds the handle: signals alone stop us.
                        Err(_) => continue,
                    }
                }
            };
            match number {
                Some(SIGTERM) => return Signal::Stop(Some("SIGTERM")),
                Some(SIGINT) => return Signal::Stop(Some("SIGINT")),
                Some(SIGHUP) => return Signal::Reload,
                Some(SIGUSR1) => return Signal::MoreLog,
                Some(SIGUSR2) => return Signal::LessLog,
                Some(_) => {}
                // The stream ends only with its handle, which nobody closes.
                None => std::future::pending().await,
            }
        }
    }
}

async fn told(stopped: &mut Option<oneshot::Receiver<()>>) -> Result<(), RecvError> {
    match stopped {
        Some(stopped) => stopped.await,
        None => std::future::pending().await,
    }
}
