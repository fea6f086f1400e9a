//! Signals as events of the daemon's loop.

use std::io;

use futures_util::StreamExt;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

pub enum Signal {
    Stop(&'static str),
    Reload,
    MoreLog,
    LessLog,
}

pub struct Signals(signal_hook_tokio::Signals);

impl Signals {
    pub fn listen() -> io::Result<Self> {
        signal_hook_tokio::Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2]).map(Self)
    }

    pub async fn next(&mut self) -> Signal {
        loop {
            match self.0.next().await {
                Some(SIGTERM) => return Signal::Stop("SIGTERM"),
                Some(SIGINT) => return Signal::Stop("SIGINT"),
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
