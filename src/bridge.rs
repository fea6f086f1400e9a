//! `stdio`: an MCP server on stdin and stdout that relays to the daemon's socket, or to any URL.
//!
//! Each line is a message and becomes a POST of its own; what comes back, on whichever
//! stream, becomes a line. The bytes of messages stay as they are.

mod answers;
mod body;
mod dispatch;
mod endpoint;
mod events;
mod exchange;
mod follow;
mod head;
pub(crate) mod input;
mod link;
mod memory;
pub(crate) mod message;
mod old;
mod output;
mod problem;
mod recover;
mod refusal;
mod relay;
mod session;
mod stream;
mod wishes;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use http::HeaderValue;
use signal_hook::consts::{SIGINT, SIGTERM};
use slog::{Logger, warn};

use crate::cli::StdioArgs;
use crate::client::ProxyVariables;
use crate::config::{Config, Log, LogFormat, Sources};
use crate::{exit, harden, log, paths};

use self::dispatch::Dispatcher;
use self::input::{Input, Line};
use self::link::Link;
use self::output::Output;
use self::relay::Relay;

/// The largest message either way, in bytes: the daemon's default `max_body`.
pub const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// At the end, what is in flight gets this long; then the session is ended. Less than 2 s in
/// all, after which MCP clients send SIGTERM or worse.
const DRAIN: Duration = Duration::from_millis(1300);
const GOODBYE: Duration = Duration::from_millis(400);

/// Runs until stdin ends, the client is gone, or SIGTERM comes.
pub fn run(sources: &Sources, args: &StdioArgs) -> ExitCode {
    let config = match args.standalone.then(|| Config::load(sources)).transpose() {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return exit::CONFIG.into();
        }
    };
    if let Some(config) = &config {
        // SAFETY: no other thread runs yet, so nobody reads the environment meanwhile.
        #[expect(
            unsafe_code,
            reason = "secrets leave the environment, as in the daemon"
        )]
        unsafe {
            crate::env::scrub(&config.secret_variables);
        }
        harden::apply();
    }
    memory::prepare();
    let settings = Log {
        level: args.log_level,
        format: LogFormat::Text,
    };
    let (log, _control, _flush) = log::start(settings);
    let log = match &args.name {
        Some(name) => log.new(slog::o!("name" => name.clone())),
        None => log,
    };
    let link = match link(sources, args, config, &log) {
        Ok(link) => link,
        Err(message) => {
            eprintln!("mcp-auth-proxy: {message}");
            return exit::USAGE.into();
        }
    };
    match relay(link, args, log) {
        Ok(()) => exit::OK.into(),
        Err(error) => {
            eprintln!("mcp-auth-proxy: the system refuses what the bridge needs: {error}");
            exit::UNAVAILABLE.into()
        }
    }
}

fn link(
    sources: &Sources,
    args: &StdioArgs,
    config: Option<Config>,
    log: &Logger,
) -> Result<Link, String> {
    let proxies = ProxyVariables::new(|name| sources.env.get(name).map(str::to_owned));
    if let Some(config) = config {
        for warning in &config.warnings {
            warn!(log, "configuration: {}", warning);
        }
        return link::standalone(config, &args.route, &proxies, log.clone());
    }
    if let Some(url) = &args.url {
        let link = Link::to_url(url, &proxies, log.clone());
        return link.map_err(|message| format!("--url: {message}"));
    }
    let sockets = match &args.socket {
        Some(socket) => {
            vec![std::path::absolute(socket).map_err(|error| format!("--socket: {error}"))?]
        }
        None => paths::proxy_socket_candidates(&sources.env),
    };
    Link::to_daemon(sockets, args.route.clone(), log.clone())
        .map_err(|message| format!("--socket: {message}"))
}

/// One event loop: the messages are the client's own, and waking a second thread for each costs more than it gains.
fn relay(link: Link, args: &StdioArgs, log: Logger) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .build()?;
    let result = runtime.block_on(async {
        let lines = Input::of_stdin(MAX_MESSAGE)?;
        let output = Output::to_stdout()?;
        let signals = signal_hook_tokio::Signals::new([SIGTERM, SIGINT])?;
        let relay = Arc::new(Relay::new(link, output, user_agent(args), log));
        let mut dispatcher = Dispatcher::new(Arc::clone(&relay));
        until_the_end(&relay, &mut dispatcher, lines, signals).await;
        dispatcher.finish(DRAIN, GOODBYE).await;
        Ok(())
    });
    // A name that resolves slowly must not hold the exit up.
    runtime.shutdown_background();
    result
}

async fn until_the_end(
    relay: &Relay,
    dispatcher: &mut Dispatcher,
    mut lines: Input,
    mut signals: signal_hook_tokio::Signals,
) {
    let relaying = async {
        while let Some(line) = lines.next().await {
            match line {
                Line::Whole(line) => dispatcher.accept(line).await,
                Line::TooLong { head, tail } => dispatcher.refuse_long_line(&head, &tail).await,
            }
        }
    };
    tokio::select! {
        () = relaying => {}
        () = relay.client_gone() => {}
        _ = signals.next() => {}
    }
}

fn user_agent(args: &StdioArgs) -> HeaderValue {
    const PRODUCT: &str = concat!("mcp-auth-proxy-stdio/", env!("CARGO_PKG_VERSION"));
    let named = args.name.as_ref().map(|name| format!("{PRODUCT} ({name})"));
    named
        .and_then(|text| HeaderValue::try_from(text).ok())
        .unwrap_or(HeaderValue::from_static(PRODUCT))
}
