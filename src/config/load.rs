//! From the sources to a [`Config`]: read, lay over each other, decode, report.

use std::path::PathBuf;
use std::time::Duration;

use super::admin::decode_admin;
use super::commands;
use super::decode::Section;
use super::env::SECRET_VARIABLES;
use super::error::Problems;
use super::files::Files;
use super::listener::decode_listeners;
use super::overlay::{default_listeners, overlay};
use super::report::Report;
use super::root::decode_root;
use super::route::route_paths;
use super::telemetry;
use super::tree::Origin;
use super::{Config, Entry, Outline, Sources};
use crate::paths;

/// `begins` is told how long programs that print secrets may take, before they are run.
pub fn load(sources: &Sources, begins: impl FnOnce(Duration)) -> Result<Config, Problems> {
    let Files {
        documents,
        mut tree,
        faults,
        skipped,
        secret_variables,
    } = Files::read(sources);
    let report = Report::new(&sources.env, &documents);
    // One that is overridden is as much a secret, and stands in the environment as well.
    report
        .secret_variables
        .borrow_mut()
        .extend(secret_variables);
    if !faults.is_empty() {
        // Half a file makes every check after it speak of what it has not seen.
        for fault in faults {
            report.fault(fault.origin, fault.message);
        }
        return Err(Problems::new(report.problems.into_inner()));
    }
    if let Some(path) = skipped {
        let message = format!(
            "{} is for other users only and was left out",
            path.display()
        );
        report.warn(Origin::Default, "", message);
    }
    default_listeners(&mut tree, &sources.env);
    overlay(&mut tree, &sources.flags, &report);
    let commands = commands::named_in(&sources.env, &documents, &tree);
    if !commands.is_empty() {
        begins(commands::time_for(&commands));
        *report.printed.borrow_mut() = commands::run(commands, &sources.env);
    }
    let decoded = decode_root(&report, &tree);
    if let Some(config) = &decoded {
        warn_of_no_socket(&report, config);
    }
    let problems = report.problems.take();
    match decoded {
        Some(mut config) if problems.is_empty() => {
            config.files = documents
                .iter()
                .map(|document| document.path.clone())
                .collect();
            config.warnings = warnings(&report);
            config.secret_variables = variables_to_scrub(&report);
            config.commands = report.printed.take().into_keys().collect();
            config.refreshed = report.refreshed.take();
            config.watched = report.watched.take().into_iter().collect();
            Ok(config)
        }
        _ => Err(Problems::new(problems)),
    }
}

pub fn admin_socket(sources: &Sources) -> Option<PathBuf> {
    let Files {
        documents,
        mut tree,
        ..
    } = Files::read(sources);
    let report = Report::new(&sources.env, &documents);
    default_listeners(&mut tree, &sources.env);
    overlay(&mut tree, &sources.flags, &report);
    let mut root = Section::root(&report, &tree);
    let listeners = decode_listeners(&mut root, None);
    decode_admin(&mut root, &listeners)
        .unix
        .map(|unix| unix.path)
}

/// How long the programs that print secrets may take together.
pub fn command_time(sources: &Sources) -> Duration {
    let Files {
        documents,
        mut tree,
        ..
    } = Files::read(sources);
    let report = Report::new(&sources.env, &documents);
    default_listeners(&mut tree, &sources.env);
    overlay(&mut tree, &sources.flags, &report);
    commands::time_for(&commands::named_in(&sources.env, &documents, &tree))
}

pub fn outline(sources: &Sources) -> Outline {
    let Files {
        documents,
        mut tree,
        ..
    } = Files::read(sources);
    let report = Report::new(&sources.env, &documents);
    default_listeners(&mut tree, &sources.env);
    overlay(&mut tree, &sources.flags, &report);
    let mut root = Section::root(&report, &tree);
    let listeners = decode_listeners(&mut root, None).into_iter();
    Outline {
        listeners: listeners
            .map(|(listener, origin)| Entry {
                is_chosen: !matches!(origin, Origin::Default),
                tls: listener.wants_tls,
                address: listener.address,
            })
            .collect(),
        routes: route_paths(&mut root),
    }
}

/// Without an admin socket that nobody switched off, `status` and `reload` would find nobody.
fn warn_of_no_socket(report: &Report<'_>, config: &Config) {
    if config.listeners_are_default && paths::runtime_dir(report.env).is_none() {
        let message = "this user has no runtime directory, so there is no Unix socket and no admin socket; \
                       set XDG_RUNTIME_DIR, or name sockets with MCP_SOCKET or [[listener]]";
        report.warn(Origin::Default, "listener", message);
    }
}

fn warnings(report: &Report<'_>) -> Vec<String> {
    match report.warnings.take() {
        list if list.is_empty() => Vec::new(),
        list => Problems::new(list).lines().collect(),
    }
}

/// Where a proxy's address may have a password in it.
const PROXY_VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

fn variables_to_scrub(report: &Report<'_>) -> Vec<String> {
    let mut names = report.secret_variables.take();
    let present = SECRET_VARIABLES
        .iter()
        .filter(|name| report.env.bytes(name).is_some());
    names.extend(present.map(|name| (*name).to_owned()));
    let has_password = |name: &&&str| {
        report
            .env
            .bytes(name)
            .is_some_and(|url| url.contains(&b'@'))
    };
    let tokens = telemetry::SECRET_VARIABLES.iter();
    let tokens = tokens.filter(|name| report.env.bytes(name).is_some());
    names.extend(tokens.map(|name| (*name).to_owned()));
    let proxies = PROXY_VARIABLES.iter().filter(has_password);
    names.extend(proxies.map(|name| (*name).to_owned()));
    names.into_iter().collect()
}
