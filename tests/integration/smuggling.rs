//! One request for the proxy that shall be two for the upstream: every known family, by both
//! listeners, to upstreams of both protocols.
//!
//! `smuggling/h1.txt` and `smuggling/h2.txt` have the verdict on each case.

mod h1;
mod h2;

use std::sync::Arc;

use crate::common::strict::StrictUpstream;
use crate::common::{Daemon, Setup, Upstream};

/// An upstream of either protocol, and what came through to it.
pub enum Behind {
    H1(StrictUpstream),
    H2(Upstream),
}

impl Behind {
    pub fn both() -> [Self; 2] {
        [
            Self::H1(StrictUpstream::start()),
            Self::H2(Upstream::http()),
        ]
    }

    /// What hangs in a daemon before it ends after a few seconds.
    pub async fn daemon(&self) -> Daemon {
        let setup = match self {
            Self::H1(upstream) => Setup::at(&upstream.url()),
            Self::H2(upstream) => Setup::before(upstream).upstream("http_version = \"2\""),
        };
        let timeouts = "[server]\nread_timeout = \"3s\"\nidle_timeout = \"3s\"";
        setup.more(timeouts).start().await
    }

    /// Method and target of every request that arrived whole.
    pub fn seen(&self) -> Vec<String> {
        match self {
            Self::H1(upstream) => upstream.seen.all().iter().map(line_of).collect(),
            Self::H2(upstream) => {
                let seen = upstream.seen();
                // What is streamed begins before it is known to be whole.
                let whole = seen
                    .iter()
                    .filter(|seen| seen.body.lock().unwrap().is_some());
                whole
                    .map(|seen| format!("{} {}", seen.method, seen.target))
                    .collect()
            }
        }
    }

    /// Every header that the proxy answers for came once, and nothing that could be read in two ways.
    pub fn assert_clean(&self) {
        match self {
            Self::H1(upstream) => {
                assert_eq!(upstream.odd.all(), Vec::<String>::new());
                for message in upstream.seen.all() {
                    for name in [
                        "host",
                        "x-api-key-id",
                        "x-timestamp",
                        "x-signature",
                        "x-request-id",
                    ] {
                        assert_eq!(message.all(name).count(), 1, "{name} in {message:?}");
                    }
                }
            }
            // hyper takes nothing but well-formed frames, and the signature is verified.
            Self::H2(upstream) => {
                let seen: Vec<Arc<_>> = upstream.seen();
                assert!(
                    seen.iter()
                        .all(|seen| !seen.headers.contains_key("transfer-encoding"))
                );
            }
        }
    }
}

fn line_of(message: &crate::common::strict::Message) -> String {
    format!("{} {}", message.method, message.target)
}
