//! The command line: help, version and completions come from this one table.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::Flags;

/// The ssh-agent of MCP: holds API credentials, signs what local agents send, forwards it over TLS.
#[derive(Debug, Parser)]
#[command(
    name = "mcp-auth-proxy",
    version,
    max_term_width = 100,
    after_help = "Without a command it serves, or prints this help where nothing is configured.\n\
        Exit codes: 0 success, 64 usage, 69 upstream or daemon unavailable, 77 permission, 78 configuration."
)]
pub struct Cli {
    /// Configuration file; also MCP_CONFIG. TOML, or YAML or JSON by its name's ending
    #[arg(long, short, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,

    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground (the default)
    Serve(ServeArgs),
    /// Be an MCP server on stdin and stdout, for clients that launch one, and relay to the daemon
    Stdio(StdioArgs),
    /// Validate configuration and secrets without starting
    Check(ServeArgs),
    /// Ask the running daemon to reload, wait, and print the outcome
    Reload(AdminArgs),
    /// Show what the running daemon serves
    Status(StatusArgs),
    /// Find why it does not work: configuration, daemon, network, TLS, clock, signature, MCP
    Doctor(DoctorArgs),
    /// Print the headers that sign one request, for curl and for tests
    Sign(SignArgs),
    /// Print a shell's completions: sourced by it, or put where it looks for them
    Completions(CompletionsArgs),
    /// Print an MCP client's entry for this proxy, or merge it into the client's file
    ClientConfig(ClientConfigArgs),
    /// Try it all on this machine: an MCP server that verifies signatures, and the proxy before it
    Demo(DemoArgs),
}

/// Settings that win over the environment and the file.
#[derive(Debug, Default, Args)]
pub struct ServeArgs {
    /// Where requests go; as MCP_UPSTREAM_URL
    #[arg(long, value_name = "URL")]
    pub upstream_url: Option<String>,
    /// Loopback TCP listener, or "off"; as MCP_LISTEN_ADDR
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Unix socket, or "off"; as MCP_SOCKET
    #[arg(long, value_name = "PATH")]
    pub socket: Option<String>,
    /// trace, debug, info, warning, error or critical; as MCP_LOG_LEVEL
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// json or text
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

impl From<ServeArgs> for Flags {
    fn from(args: ServeArgs) -> Self {
        Self {
            upstream_url: args.upstream_url,
            listen: args.listen,
            socket: args.socket,
            log_level: args.log_level,
            log_format: args.log_format,
        }
    }
}

#[derive(Debug, Clone, Args)]
pub struct AdminArgs {
    /// The daemon's admin socket, where it is not the configured or default one
    #[arg(long, value_name = "PATH")]
    pub admin_socket: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Print the daemon's own JSON
    #[arg(long)]
    pub json: bool,
    /// Only tell whether it is ready, as /readyz does: fail while an upstream cannot be used
    #[arg(long)]
    pub ready: bool,
    /// Go on, every 2 seconds, until Ctrl-C; latencies are those of the time between
    #[arg(long, conflicts_with = "ready")]
    pub watch: bool,
}

/// Each check passes, warns or fails, in one sentence with the next step. The daemon need not run.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// The path to ask for as a client of the daemon would, where it is neither the route's nor
    /// /mcp behind it
    #[arg(long, value_name = "PATH", value_parser = absolute_path)]
    pub route: Option<http::uri::PathAndQuery>,
}

#[derive(Debug, Args)]
pub struct SignArgs {
    /// The request's method, such as POST
    pub method: http::Method,
    /// The request's URL, as it will be sent to the upstream
    pub url: http::Uri,
    /// The credential to sign with, where the configuration has several
    #[arg(long, value_name = "NAME")]
    pub credential: Option<String>,
    /// The request's body, for schemes that sign it too
    #[arg(long, value_name = "TEXT", conflicts_with = "data_file")]
    pub data: Option<String>,
    /// A file with the request's body
    #[arg(long, value_name = "FILE")]
    pub data_file: Option<PathBuf>,
    /// A header of the request, as curl takes it, for schemes that sign it too
    #[arg(long = "header", short = 'H', value_name = "HEADER")]
    pub headers: Vec<String>,
}

/// The MCP client launches this and speaks with it; nothing has to be configured in the client.
#[derive(Debug, Args)]
pub struct StdioArgs {
    /// The daemon's socket, where it is not the user's or the system's default one
    #[arg(long, value_name = "PATH", conflicts_with_all = ["url", "standalone"])]
    pub socket: Option<PathBuf>,
    /// Relay to this URL instead of a daemon's socket: the whole URL of an MCP endpoint, as it is
    #[arg(long, value_name = "URL", conflicts_with_all = ["route", "standalone"])]
    pub url: Option<String>,
    /// The path asked for at the daemon, used exactly as given: for a route "/acme/" before a
    /// server's /mcp, write /acme/mcp
    #[arg(long, value_name = "PATH", default_value = "/mcp", value_parser = absolute_path)]
    pub route: http::uri::PathAndQuery,
    /// What to call this server in messages and to the daemon
    #[arg(long, value_name = "NAME", value_parser = plain_name)]
    pub name: Option<String>,
    /// Sign without a daemon, with the configuration that one would use
    #[arg(long)]
    pub standalone: bool,
    /// What to say on stderr: trace, debug, info, warning, error or critical
    #[arg(long, value_name = "LEVEL", default_value = "warning", value_parser = log_level)]
    pub log_level: slog::Level,
}

fn absolute_path(text: &str) -> Result<http::uri::PathAndQuery, String> {
    if !text.starts_with('/') {
        return Err("a route's path begins with \"/\", as in /acme/mcp".to_owned());
    }
    text.parse().map_err(|error| format!("no path: {error}"))
}

/// It becomes part of a header and of log lines.
fn plain_name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.is_empty() || text.len() > 64 || !text.chars().all(is_plain) {
        return Err("use up to 64 letters, digits, \"-\", \"_\" and \".\"".to_owned());
    }
    Ok(text.to_owned())
}

fn log_level(text: &str) -> Result<slog::Level, String> {
    text.parse()
        .map_err(|()| "use trace, debug, info, warning, error or critical".to_owned())
}

/// Without --write and --remove it changes nothing: the entry goes to stdout, its file's name to stderr.
#[derive(Debug, Args)]
pub struct ClientConfigArgs {
    /// Whose configuration
    pub client: Client,
    /// Merge the entry into the client's file, keeping a backup beside it
    #[arg(long, conflicts_with = "remove")]
    pub write: bool,
    /// Take the entry out of the client's file again
    #[arg(long)]
    pub remove: bool,
    /// With --write or --remove: only show what would change in the file
    #[arg(long)]
    pub dry_run: bool,
    /// With --write or --remove: also where the entry of this name is somebody else's
    #[arg(long)]
    pub force: bool,
    /// How the client talks to the daemon: it launches the bridge, or it asks the TCP port
    #[arg(long, value_name = "TRANSPORT", value_enum, default_value_t = Transport::Stdio)]
    pub transport: Transport,
    /// The path asked for at the daemon, exactly as given; several times for several entries
    #[arg(long, value_name = "PATH", default_value = "/mcp", value_parser = absolute_path)]
    pub route: Vec<http::uri::PathAndQuery>,
    /// The daemon's socket, where it is not the configured or default one
    #[arg(long, value_name = "PATH", conflicts_with = "url")]
    pub socket: Option<PathBuf>,
    /// The whole URL of an MCP endpoint, instead of the daemon's socket or port
    #[arg(long, value_name = "URL", conflicts_with = "route")]
    pub url: Option<http::Uri>,
    /// What the client calls the server [default: the route's first segment, or mcp-auth-proxy]
    #[arg(long, value_name = "NAME", value_parser = entry_name)]
    pub name: Option<String>,
    /// The user's file, or the one in the project that is the current directory
    #[arg(long, value_name = "SCOPE", value_enum, default_value_t = Scope::User)]
    pub scope: Scope,
    /// The client's file, where it is not in its usual place
    #[arg(long, value_name = "FILE", conflicts_with = "scope")]
    pub file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Client {
    ClaudeCode,
    ClaudeDesktop,
    Codex,
    Cursor,
    Vscode,
    Windsurf,
    GeminiCli,
    Zed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    Stdio,
    Http,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    User,
    Project,
}

/// What every client takes: Codex and Claude Code refuse all other characters.
fn entry_name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if text.is_empty() || text.len() > 64 || !text.chars().all(is_plain) {
        return Err("use up to 64 letters, digits, \"-\" and \"_\"".to_owned());
    }
    Ok(text.to_owned())
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Whose completions
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// End after the conversation instead of staying up
    #[arg(long)]
    pub once: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_table_of_commands_is_consistent() {
        Cli::command().debug_assert();
    }
}
