//! From the command line to a function; the only place that exits.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use mcp_auth_proxy::cli::{Cli, Command, ServeArgs};
use mcp_auth_proxy::config::{Env, Sources};
use mcp_auth_proxy::{commands, exit};

#[global_allocator]
static MEMORY: mcp_auth_proxy::wipe::Wiping = mcp_auth_proxy::wipe::Wiping;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            // Help and version were asked for; anything else is a mistake.
            return if error.use_stderr() {
                exit::USAGE
            } else {
                exit::OK
            }
            .into();
        }
    };
    let sources = |args: ServeArgs| Sources {
        file: cli.config.clone(),
        env: Env::capture(),
        flags: args.into(),
    };
    match cli.command {
        None => serve_or_help(sources(ServeArgs::default())),
        Some(Command::Serve(args)) => commands::serve(sources(args)),
        Some(Command::Stdio(args)) => {
            mcp_auth_proxy::bridge::run(&sources(ServeArgs::default()), &args)
        }
        Some(Command::Check(args)) => commands::check(&sources(args)),
        Some(Command::Reload(args)) => commands::reload(&sources(ServeArgs::default()), args),
        Some(Command::Status(args)) => commands::status(&sources(ServeArgs::default()), args),
        Some(Command::Doctor(args)) => {
            mcp_auth_proxy::doctor::run(&sources(ServeArgs::default()), &args)
        }
        Some(Command::Sign(args)) => commands::sign(&sources(ServeArgs::default()), &args),
        Some(Command::Completions(args)) => commands::completions(&args),
        Some(Command::ClientConfig(args)) => {
            mcp_auth_proxy::client_config::run(&sources(ServeArgs::default()), &args)
        }
        Some(Command::Demo(args)) => mcp_auth_proxy::demo::run(&args),
    }
}

/// Somebody at a terminal who configured nothing wants to know what this is.
fn serve_or_help(sources: Sources) -> ExitCode {
    if !sources.is_configured() && std::io::stdout().is_terminal() {
        let _ = Cli::command().print_long_help();
        return exit::OK.into();
    }
    commands::serve(sources)
}
