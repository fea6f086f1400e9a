//! `status --watch`: the page again and again, with the latencies of the time between.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use http::{Method, StatusCode};

use super::latency::Latencies;
use super::page;
use crate::cli::StatusArgs;
use crate::config::Sources;
use crate::{admin_client, exit};

const INTERVAL: Duration = Duration::from_secs(2);
/// Home, and what is below it away: no flicker, unlike clearing first.
const TOP: &str = "\x1b[H\x1b[J";

/// Goes on until a signal ends it, or nobody reads any more. A daemon that is not there may come.
pub fn status(sources: &Sources, args: &StatusArgs) -> ExitCode {
    let mut before = Latencies::default();
    let mut out = std::io::stdout();
    let top = if out.is_terminal() { TOP } else { "" };
    loop {
        let text = match admin_client::ask(sources, args.admin.clone(), Method::GET, "/status") {
            Ok((StatusCode::OK, found)) if args.json => found + "\n",
            Ok((StatusCode::OK, found)) => {
                let now = super::latencies(sources, &args.admin);
                let text = page::status(&found, &now.since(&before));
                before = now;
                format!("{top}{text}\n")
            }
            Ok((status, found)) => format!("{top}the daemon answered {status}: {found}\n"),
            Err(unanswered) => format!("{top}{unanswered}\n"),
        };
        if out
            .write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .is_err()
        {
            return exit::OK.into();
        }
        std::thread::sleep(INTERVAL);
    }
}
