//! The clients: where each keeps its servers, in which format, under which keys.

use std::path::{Path, PathBuf};

use crate::cli::{Client, Scope, Transport};
use crate::env::Env;
use crate::paths;

use super::entry::{Entry, Field};

/// How a client's file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    Json,
    /// JSON with comments and trailing commas.
    Jsonc,
    Toml,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    Linux,
    Macos,
}

impl Platform {
    pub const HERE: Platform = if cfg!(target_os = "macos") {
        Platform::Macos
    } else {
        Platform::Linux
    };
}

/// The directory that a place starts at.
#[derive(Debug, Clone, Copy)]
enum Base {
    Home,
    /// The directory that a variable of the client's own names, or else one under the home.
    Variable(&'static str, &'static str),
    /// `$XDG_CONFIG_HOME`.
    Config,
    /// Electron's `appData`: `$XDG_CONFIG_HOME`, or on macOS `~/Library/Application Support`.
    AppData,
}

/// What is particular to a client.
#[derive(Debug)]
pub struct Spec {
    /// As people call it.
    pub title: &'static str,
    pub syntax: Syntax,
    /// The key of the table that has a key for each server.
    pub servers: &'static str,
    /// The user's file: below what, on Linux and on macOS, and its path from there.
    user: (Base, Base, &'static str),
    /// The project's file, from the project's root.
    project: Option<&'static str>,
    /// A further key that an entry with a command has.
    stdio_tag: Option<(&'static str, &'static str)>,
    http: Option<Http>,
    /// What makes the client see the change.
    pub then: &'static str,
}

/// How an entry with a URL looks.
#[derive(Debug, Clone, Copy)]
struct Http {
    tag: Option<(&'static str, &'static str)>,
    url: &'static str,
}

const fn http(url: &'static str) -> Option<Http> {
    Some(Http { tag: None, url })
}

const TYPED_HTTP: Option<Http> = Some(Http {
    tag: Some(("type", "http")),
    url: "url",
});

/// code.claude.com/docs/en/mcp, "MCP installation scopes"; the file of the user scope moves with
/// `CLAUDE_CONFIG_DIR`.
static CLAUDE_CODE: Spec = Spec {
    title: "Claude Code",
    syntax: Syntax::Json,
    servers: "mcpServers",
    user: (
        Base::Variable("CLAUDE_CONFIG_DIR", ""),
        Base::Variable("CLAUDE_CONFIG_DIR", ""),
        ".claude.json",
    ),
    project: Some(".mcp.json"),
    stdio_tag: Some(("type", "stdio")),
    http: TYPED_HTTP,
    then: "start a new session",
};

/// modelcontextprotocol.io/docs/develop/connect-local-servers. Remote servers are added under
/// Settings > Connectors and are connected to from the vendor's servers.
static CLAUDE_DESKTOP: Spec = Spec {
    title: "Claude Desktop",
    syntax: Syntax::Json,
    servers: "mcpServers",
    user: (
        Base::AppData,
        Base::AppData,
        "Claude/claude_desktop_config.json",
    ),
    project: None,
    stdio_tag: None,
    http: None,
    then: "quit it and start it again",
};

/// developers.openai.com/codex/mcp; a project's file counts only once Codex trusts the project.
static CODEX: Spec = Spec {
    title: "Codex",
    syntax: Syntax::Toml,
    servers: "mcp_servers",
    user: (
        Base::Variable("CODEX_HOME", ".codex"),
        Base::Variable("CODEX_HOME", ".codex"),
        "config.toml",
    ),
    project: Some(".codex/config.toml"),
    stdio_tag: None,
    http: http("url"),
    then: "start a new session",
};

/// cursor.com/docs/mcp.
static CURSOR: Spec = Spec {
    title: "Cursor",
    syntax: Syntax::Jsonc,
    servers: "mcpServers",
    user: (Base::Home, Base::Home, ".cursor/mcp.json"),
    project: Some(".cursor/mcp.json"),
    stdio_tag: Some(("type", "stdio")),
    http: http("url"),
    then: "turn it on under Settings > MCP if it is not",
};

/// code.visualstudio.com/docs/copilot/reference/mcp-configuration; this is the file of the default
/// profile, other profiles have one each under `profiles/`.
static VSCODE: Spec = Spec {
    title: "VS Code",
    syntax: Syntax::Jsonc,
    servers: "servers",
    user: (Base::AppData, Base::AppData, "Code/User/mcp.json"),
    project: Some(".vscode/mcp.json"),
    stdio_tag: Some(("type", "stdio")),
    http: TYPED_HTTP,
    then: "start it with the command \"MCP: List Servers\"",
};

/// docs.windsurf.com/windsurf/cascade/mcp.
static WINDSURF: Spec = Spec {
    title: "Windsurf",
    syntax: Syntax::Jsonc,
    servers: "mcpServers",
    user: (Base::Home, Base::Home, ".codeium/windsurf/mcp_config.json"),
    project: None,
    stdio_tag: None,
    http: http("serverUrl"),
    then: "press Refresh in Cascade's list of MCP servers",
};

/// geminicli.com/docs/tools/mcp-server; `url` alone would mean the transport of 2024-11-05.
static GEMINI_CLI: Spec = Spec {
    title: "Gemini CLI",
    syntax: Syntax::Jsonc,
    servers: "mcpServers",
    user: (
        Base::Variable("GEMINI_CLI_HOME", ""),
        Base::Variable("GEMINI_CLI_HOME", ""),
        ".gemini/settings.json",
    ),
    project: Some(".gemini/settings.json"),
    stdio_tag: None,
    http: http("httpUrl"),
    then: "start a new session",
};

/// zed.dev/docs/ai/mcp; versions before 2026 want `source`.
static ZED: Spec = Spec {
    title: "Zed",
    syntax: Syntax::Jsonc,
    servers: "context_servers",
    user: (
        Base::Config,
        Base::Variable("", ".config"),
        "zed/settings.json",
    ),
    project: Some(".zed/settings.json"),
    stdio_tag: Some(("source", "custom")),
    http: http("url"),
    then: "nothing: it reads the file at once",
};

pub fn spec(client: Client) -> &'static Spec {
    match client {
        Client::ClaudeCode => &CLAUDE_CODE,
        Client::ClaudeDesktop => &CLAUDE_DESKTOP,
        Client::Codex => &CODEX,
        Client::Cursor => &CURSOR,
        Client::Vscode => &VSCODE,
        Client::Windsurf => &WINDSURF,
        Client::GeminiCli => &GEMINI_CLI,
        Client::Zed => &ZED,
    }
}

impl Spec {
    /// The client's file, from the user's home or from the project's directory.
    ///
    /// # Errors
    /// A sentence: there is no home, or the client knows no files of projects.
    pub fn file(
        &self,
        scope: Scope,
        env: &Env,
        platform: Platform,
        project: &Path,
    ) -> Result<PathBuf, String> {
        if scope == Scope::Project {
            let path = self.project.ok_or_else(|| {
                format!(
                    "{} keeps no servers in projects; leave --scope out",
                    self.title
                )
            })?;
            return Ok(project.join(path));
        }
        let (linux, macos, path) = self.user;
        let base = match platform {
            Platform::Linux => linux,
            Platform::Macos => macos,
        };
        let directory = directory(base, env, platform);
        let directory = directory
            .ok_or("HOME names no directory; set it, or name the client's file with --file")?;
        Ok(directory.join(path))
    }

    /// The entry that launches `command`.
    pub fn stdio(&self, command: String, args: Vec<String>) -> Entry {
        let mut fields = tagged(self.stdio_tag);
        fields.push(("command", Field::Text(command)));
        fields.push(("args", Field::List(args)));
        Entry {
            transport: Transport::Stdio,
            fields,
        }
    }

    /// The entry that asks `url`.
    ///
    /// # Errors
    /// A sentence, where the client's file has no such entries.
    pub fn http(&self, url: String) -> Result<Entry, String> {
        let http = self.http.ok_or_else(|| {
            format!(
                "{}'s file takes commands only, no URLs; leave --transport out: stdio reaches the same daemon",
                self.title
            )
        })?;
        let mut fields = tagged(http.tag);
        fields.push((http.url, Field::Text(url)));
        Ok(Entry {
            transport: Transport::Http,
            fields,
        })
    }
}

fn tagged(tag: Option<(&'static str, &'static str)>) -> Vec<(&'static str, Field)> {
    tag.map(|(key, value)| (key, Field::Text(value.to_owned())))
        .into_iter()
        .collect()
}

fn directory(base: Base, env: &Env, platform: Platform) -> Option<PathBuf> {
    let home = || paths::home(env);
    match (base, platform) {
        (Base::Home, _) => home(),
        (Base::Variable(name, under), _) => {
            paths::absolute(env, name).or_else(|| home().map(|home| home.join(under)))
        }
        (Base::AppData, Platform::Macos) => home().map(|h| h.join("Library/Application Support")),
        (Base::Config | Base::AppData, _) => paths::user_config_base(env),
    }
}
