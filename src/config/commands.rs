//! The programs that print secrets, run side by side before anything is decoded: one after the
//! other, a few that are slow would take longer than a reload may.

use std::collections::HashMap;
use std::time::Duration;

use super::files::Document;
use super::report::Report;
use super::root::decode_root;
use super::tree::Table;
use crate::env::Env;
use crate::secret::{Command, Secret, SecretError};

/// As many as run at a time.
const TOGETHER: usize = 16;

/// Every program that decoding would run, found by decoding with none run.
pub fn named_in(env: &Env, documents: &[Document], tree: &Table) -> Vec<Command> {
    if !tree.has_key("command") {
        return Vec::new();
    }
    let mut report = Report::new(env, documents);
    report.rehearsed = Some(std::cell::RefCell::default());
    // Its problems are those of the rehearsal.
    let _ = decode_root(&report, tree);
    report.rehearsed.map(|list| list.take()).unwrap_or_default()
}

/// How long they may take.
pub fn time_for(commands: &[Command]) -> Duration {
    let longest = |together: &[Command]| together.iter().map(|command| command.timeout).max();
    commands.chunks(TOGETHER).filter_map(longest).sum()
}

pub fn run(commands: Vec<Command>, env: &Env) -> HashMap<Command, Result<Secret, SecretError>> {
    let mut printed = HashMap::new();
    for together in commands.chunks(TOGETHER) {
        let outcomes = std::thread::scope(|scope| {
            let run = |command| {
                let run = move || Command::run(command, env);
                let thread = std::thread::Builder::new().spawn_scoped(scope, run);
                (command, thread)
            };
            let running: Vec<_> = together.iter().map(run).collect();
            let outcomes = running.into_iter().filter_map(|(command, thread)| {
                // One without a thread is run when it is decoded.
                let outcome = thread.ok()?.join().ok()?;
                Some((command.clone(), outcome))
            });
            outcomes.collect::<Vec<_>>()
        });
        printed.extend(outcomes);
    }
    printed
}
