//! The commands that are short: one function each, from arguments to exit code.

mod latency;
mod page;
mod sign;
mod watch;

pub use sign::sign;

use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory;
use http::{Method, StatusCode};

use crate::admin_client::{self, Unanswered};
use crate::cli::{AdminArgs, Cli, CompletionsArgs, StatusArgs};
use crate::config::{Config, Problems, Sources};
use crate::{daemon, exit, lifecycle};

use self::latency::Latencies;

pub fn serve(sources: Sources) -> ExitCode {
    let config = match Config::load(&sources) {
        Ok(config) => config,
        Err(problems) => {
            tell_manager(&sources, &problems);
            return configuration_error(&problems);
        }
    };
    match daemon::run(sources, config, drop) {
        Ok(()) => exit::OK.into(),
        Err(failure) => {
            eprintln!("mcp-auth-proxy: {}", failure.message);
            failure.exit
        }
    }
}

/// The sentence that `systemctl status` shows of a start that failed.
fn tell_manager(sources: &Sources, problems: &Problems) {
    let env = |name: &str| sources.env.get(name).map(str::to_owned);
    let nobody = slog::Logger::root(slog::Discard, slog::o!());
    let first = problems.lines().next().unwrap_or_default();
    lifecycle::Lifecycle::new(lifecycle::Notifier::from_env(&env, nobody)).status(&first);
}

fn configuration_error(problems: &Problems) -> ExitCode {
    eprintln!("{problems}");
    exit::CONFIG.into()
}

pub fn check(sources: &Sources) -> ExitCode {
    let config = match Config::load(sources) {
        Ok(config) => config,
        Err(problems) => return configuration_error(&problems),
    };
    for warning in &config.warnings {
        println!("warning: {warning}");
    }
    let files: Vec<_> = config
        .files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    let from = if files.is_empty() {
        "the environment".to_owned()
    } else {
        files.join(", ")
    };
    println!(
        "ok: {from}: {} upstream(s), {} credential(s), {} route(s), {} listener(s)",
        config.upstreams.len(),
        config.credentials.len(),
        config.routes.len(),
        config.listeners.len()
    );
    exit::OK.into()
}

pub fn reload(sources: &Sources, args: AdminArgs) -> ExitCode {
    let (status, page) = match admin_client::ask(sources, args, Method::POST, "/-/reload") {
        Ok(answer) => answer,
        Err(unanswered) => return not_answered(&unanswered),
    };
    if status == StatusCode::OK {
        println!("reloaded");
        return exit::OK.into();
    }
    if status != StatusCode::UNPROCESSABLE_ENTITY {
        eprintln!(
            "mcp-auth-proxy: the daemon did not reload: {}",
            page::reasons(&page)
        );
        return exit::UNAVAILABLE.into();
    }
    eprintln!("mcp-auth-proxy: the reload was refused; the configuration before it goes on:");
    eprintln!("{}", page::reasons(&page));
    exit::CONFIG.into()
}

pub fn status(sources: &Sources, args: StatusArgs) -> ExitCode {
    if args.watch {
        return watch::status(sources, &args);
    }
    let from = if args.ready { "/readyz" } else { "/status" };
    let (status, page) = match admin_client::ask(sources, args.admin.clone(), Method::GET, from) {
        Ok(answer) => answer,
        Err(unanswered) => return not_answered(&unanswered),
    };
    let not_ready = args.ready && status == StatusCode::SERVICE_UNAVAILABLE;
    if status != StatusCode::OK && !not_ready {
        eprintln!("mcp-auth-proxy: the daemon answered {status}: {page}");
        return exit::UNAVAILABLE.into();
    }
    if args.json {
        println!("{page}");
    } else if args.ready {
        print!("{}", page::readiness(&page));
    } else {
        print!("{}", page::status(&page, &latencies(sources, &args.admin)));
    }
    if not_ready {
        exit::UNAVAILABLE.into()
    } else {
        exit::OK.into()
    }
}

/// None are shown where the metrics cannot be had.
fn latencies(sources: &Sources, admin: &AdminArgs) -> Latencies {
    match admin_client::ask(sources, admin.clone(), Method::GET, "/metrics") {
        Ok((StatusCode::OK, page)) => Latencies::of(&page),
        _ => Latencies::default(),
    }
}

fn not_answered(unanswered: &Unanswered) -> ExitCode {
    eprintln!("mcp-auth-proxy: {unanswered}");
    match unanswered {
        Unanswered::Forbidden(_) => exit::NO_PERMISSION.into(),
        _ => exit::UNAVAILABLE.into(),
    }
}

pub fn completions(args: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(
        args.shell,
        &mut Cli::command(),
        env!("CARGO_PKG_NAME"),
        &mut script,
    );
    match std::io::stdout().write_all(&script) {
        Ok(()) => exit::OK.into(),
        // Whoever reads has seen enough, as with `| head`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => exit::OK.into(),
        Err(error) => {
            eprintln!("mcp-auth-proxy: the completions could not be written: {error}");
            exit::UNAVAILABLE.into()
        }
    }
}
