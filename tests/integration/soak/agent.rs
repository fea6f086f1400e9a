//! The 64 agents, and what they have in common.

use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::ledger::Fate;
use super::{Stage, bridge, caller, leaver, listener, uploader};
use crate::common::{Answer, Client, Daemon, Http, Way};

/// What the daemon or the bridge may say while an upstream is stopped, and whether it vouches that nothing was sent.
const REFUSALS: [(&str, bool); 7] = [
    ("upstream_unreachable", true),
    ("upstream_connect_timeout", true),
    ("upstream_unavailable", true),
    ("upstream_tls", true),
    ("upstream_reset", false),
    ("upstream_timeout", false),
    // The bridge's, where HTTP breaks off.
    ("answer_cut", false),
];

pub const PATHS: [&str; 2] = ["/one/", "/two/"];

/// Where the daemon is.
#[derive(Clone)]
pub struct Door {
    pub tcp: std::net::SocketAddr,
    pub unix: std::path::PathBuf,
}

impl Door {
    pub async fn enter(&self) -> Client {
        match Way::ALL[fastrand::usize(..Way::ALL.len())] {
            Way::Tcp(http) => Client::tcp(self.tcp, http).await,
            Way::Unix(http) => Client::unix(&self.unix, http).await,
        }
    }

    pub async fn enter_by_h1(&self) -> Client {
        Client::tcp(self.tcp, Http::One).await
    }
}

pub fn all(stage: &Arc<Stage>, daemon: &Daemon) -> JoinSet<()> {
    let door = Door {
        tcp: daemon.address(),
        unix: daemon.socket(),
    };
    let mut agents = JoinSet::new();
    for number in 0..64 {
        let (stage, door) = (Arc::clone(stage), door.clone());
        match number {
            0..4 => {
                let bridge = bridge::Bridge::to(daemon);
                agents.spawn(async move { bridge::calls(&stage, bridge).await });
            }
            4..24 => drop(agents.spawn(async move { caller::calls(&stage, &door).await })),
            24..32 => drop(agents.spawn(async move { caller::lists(&stage, &door).await })),
            32..48 => drop(agents.spawn(async move { listener::listens(&stage, &door).await })),
            48..54 => drop(agents.spawn(async move { uploader::uploads(&stage, &door).await })),
            54..62 => drop(agents.spawn(async move { leaver::leaves(&stage, &door).await })),
            _ => drop(agents.spawn(async move { leaver::intrudes(&stage, &door).await })),
        }
    }
    agents
}

pub fn any_path() -> &'static str {
    PATHS[fastrand::usize(..PATHS.len())]
}

/// Text that nobody else sends.
pub fn text(id: u64) -> String {
    format!("{id} says {:016x} \u{2713}", fastrand::u64(..))
}

/// What an answer of the proxy's own makes of a call that began then.
pub fn refused(stage: &Stage, what: &str, path: &str, began: Instant, answer: &Answer) -> Fate {
    let code = answer.code().unwrap_or_default();
    judge_refusal(stage, what, path, began, code)
}

pub fn judge_refusal(stage: &Stage, what: &str, path: &str, began: Instant, code: &str) -> Fate {
    let known = REFUSALS.iter().find(|(known, _)| *known == code);
    match known {
        Some((_, is_unsent)) if stage.origin(path).was_down_since(began) => {
            stage.ledger.count(&format!("{what} refused: {code}"));
            if *is_unsent {
                Fate::Refused
            } else {
                Fate::Unknown
            }
        }
        _ => {
            stage.ledger.problem(format!(
                "{what} at {path}: an answer with the code {code:?}"
            ));
            Fate::Unknown
        }
    }
}

/// An answer that broke off, or never came.
pub fn broke(stage: &Stage, what: &str, path: &str, began: Instant, how: &str) {
    if stage.origin(path).was_down_since(began) {
        stage
            .ledger
            .count(&format!("{what} broken off by a restart"));
    } else {
        stage
            .ledger
            .problem(format!("{what} at {path} broke off: {how}"));
    }
}
