//! What the README says is what the program does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Output};

use clap::CommandFactory;
use mcp_auth_proxy::cli::Cli;
use mcp_auth_proxy::config::{Config, Env, Flags, ListenAddress, Sources};
use mcp_auth_proxy::proxy::Code;

const README: &str = include_str!("../README.md");

/// The fenced blocks in one language.
fn blocks(language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let blocks = README.split(&fence).skip(1);
    blocks
        .map(|block| block.split("\n```").next().unwrap().to_owned() + "\n")
        .collect()
}

/// The rows of the table whose heading's first cell is `heading`, cell by cell.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let mut lines = README.lines();
    lines
        .by_ref()
        .find(|line| line.starts_with(&format!("| {heading} |")))
        .unwrap_or_else(|| panic!("no table {heading}"));
    lines
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

/// What stands in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn mcp_auth_proxy(arguments: &[&str], directory: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mcp-auth-proxy"))
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("HOME", directory)
        .env("XDG_RUNTIME_DIR", directory)
        .output()
        .unwrap()
}

fn write_private(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    std::io::Write::write_all(&mut file, content.as_bytes()).unwrap();
}

#[test]
fn every_configuration_passes_check_without_a_warning() {
    let examples = blocks("toml");
    assert!(!examples.is_empty());
    for example in examples {
        let directory = tempfile::tempdir().unwrap();
        for secret in ["secrets/acme", "secrets/work"] {
            write_private(&directory.path().join(secret), "s3cret\n");
        }
        fs::write(directory.path().join("config.toml"), &example).unwrap();
        let output = mcp_auth_proxy(&["check", "--config", "config.toml"], directory.path());
        let said = String::from_utf8_lossy(&output.stdout);
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{example}\n{complained}");
        assert!(said.starts_with("ok:"), "{example}\n{said}");
    }
}

#[test]
fn every_mcp_json_is_json() {
    let examples = blocks("json");
    assert!(!examples.is_empty());
    for example in examples {
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(&example);
        assert!(parsed.is_ok(), "{example}");
    }
}

#[test]
fn the_environment_table_names_the_variables_that_are_read() {
    let told: BTreeSet<_> = table("variable")
        .iter()
        .flat_map(|row| quoted(row[0]))
        .collect();
    let sources = [
        include_str!("../src/config/env.rs"),
        include_str!("../src/config/files.rs"),
    ];
    let read: BTreeSet<_> = sources
        .iter()
        .flat_map(|source| source.split('"').skip(1).step_by(2))
        .filter(|text| text.starts_with("MCP_") && text.len() > 4)
        .collect();
    assert_eq!(told, read);
}

#[test]
fn the_defaults_in_the_tables_are_in_force() {
    let config = Config::load(&Sources {
        file: None,
        env: Env::from_pairs([
            ("MCP_UPSTREAM_URL", "https://mcp.acme.example/"),
            ("MCP_API_KEY", "k"),
            ("MCP_API_SECRET", "s"),
            ("MCP_SESSION_VALUE", "v"),
            ("MCP_SOCKET", "off"),
            // Somewhere without a configuration of its own.
            ("XDG_CONFIG_HOME", "/nonexistent"),
        ]),
        flags: Flags::default(),
    })
    .unwrap();
    let upstream = &config.upstreams[0];
    let time = |time: std::time::Duration| format!("{}s", time.as_secs());
    let ListenAddress::Tcp(address) = config.listeners[0].address else {
        panic!("{:?}", config.listeners);
    };
    let size = |bytes: u64| format!("{}MiB", bytes >> 20);
    let session = upstream.session.as_ref().unwrap();
    let limits = [
        config.limits.max_body,
        config.limits.replay_buffer.try_into().unwrap(),
    ];
    let in_force = [
        ("variable", "MCP_LISTEN_ADDR", address.to_string()),
        (
            "variable",
            "MCP_REQUEST_TIMEOUT",
            time(upstream.request_timeout),
        ),
        ("variable", "MCP_SESSION_HEADER", session.name.to_string()),
        (
            "variable",
            "MCP_UPSTREAM_INSECURE",
            upstream.tls.insecure_skip_verify.to_string(),
        ),
        (
            "variable",
            "MCP_LOG_LEVEL",
            config.log.level.as_str().to_lowercase(),
        ),
        (
            "variable",
            "MCP_SERVER_READ_TIMEOUT",
            time(config.server.read_timeout),
        ),
        (
            "variable",
            "MCP_SERVER_WRITE_TIMEOUT",
            time(config.server.write_timeout),
        ),
        (
            "variable",
            "MCP_SERVER_IDLE_TIMEOUT",
            time(config.server.idle_timeout),
        ),
        (
            "variable",
            "MCP_GRACEFUL_SHUTDOWN",
            time(config.server.graceful_shutdown),
        ),
        (
            "key of `[upstream.NAME]`",
            "request_timeout",
            time(upstream.request_timeout),
        ),
        (
            "key of `[upstream.NAME]`",
            "connect_timeout",
            time(upstream.connect_timeout),
        ),
        (
            "key of `[upstream.NAME]`",
            "upstream_401",
            format!("{:?}", upstream.upstream_401).to_lowercase(),
        ),
        (
            "key of `[upstream.NAME]`",
            "session_recovery",
            format!("{:?}", upstream.session_recovery).to_lowercase(),
        ),
        (
            "key of `[upstream.NAME]`",
            "stream_recovery",
            upstream.stream_recovery.to_string(),
        ),
        (
            "key of `[upstream.NAME]`",
            "sse_fallback",
            format!("{:?}", upstream.sse_fallback).to_lowercase(),
        ),
        (
            "key of `[upstream.NAME]`",
            "http_version",
            format!("{:?}", upstream.http_version).to_lowercase(),
        ),
        ("key of other tables", "limits.max_body", size(limits[0])),
        (
            "key of other tables",
            "limits.replay_buffer",
            size(limits[1]),
        ),
    ];
    for (heading, name, value) in in_force {
        let rows = table(heading);
        let row = rows.iter().find(|row| quoted(row[0]).contains(&name));
        let row = row.unwrap_or_else(|| panic!("{heading}: {name}"));
        let place = quoted(row[0])
            .iter()
            .position(|named| *named == name)
            .unwrap();
        assert_eq!(quoted(row[1])[place], value, "{heading}: {name}");
    }
}

/// The program lists a table's keys when it meets one that is like none of them.
#[test]
fn the_tables_of_keys_are_complete() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join("config.toml"),
        "[upstream.a]\nqqqqqqqq = 1\n[credential.a.auth-gateway]\nqqqqqqqq = 1\n[[route]]\nqqqqqqqq = 1\n\
         [[listener]]\ntcp = \"127.0.0.1:1\"\nqqqqqqqq = 1\n[[listener]]\nunix = \"/run/x\"\nqqqqqqqq = 1\n\
         [admin]\nqqqqqqqq = 1\n[audit]\nqqqqqqqq = 1\n[telemetry]\nqqqqqqqq = 1\n[log]\nqqqqqqqq = 1\n[limits]\nqqqqqqqq = 1\n[server]\nqqqqqqqq = 1\n",
    )
    .unwrap();
    let output = mcp_auth_proxy(&["check", "--config", "config.toml"], directory.path());
    let complained = String::from_utf8(output.stderr).unwrap();
    let mut known: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for line in complained.lines() {
        let Some((place, keys)) = line.split_once("; the keys here are ") else {
            continue;
        };
        let place = place.split(": ").nth(1).unwrap();
        let section = place.split(['.', '[']).next().unwrap();
        let prefix = match section {
            "admin" | "audit" | "telemetry" | "log" | "limits" | "server" => format!("{section}."),
            _ => String::new(),
        };
        let heading = match section {
            "upstream" => "key of `[upstream.NAME]`",
            "credential" => "key of `[credential.NAME.auth-gateway]`",
            "route" => "key of `[[route]]`",
            "listener" => "key of `[[listener]]`",
            _ => "key of other tables",
        };
        let keys = keys.split(", ").map(|key| format!("{prefix}{key}"));
        known.entry(heading).or_default().extend(keys);
    }
    assert_eq!(known.len(), 5, "{complained}");
    for (heading, keys) in known {
        let told: BTreeSet<String> = table(heading)
            .iter()
            .flat_map(|row| quoted(row[0]))
            .map(str::to_owned)
            .collect();
        assert_eq!(told, keys, "{heading}");
    }
}

#[test]
fn the_table_of_errors_is_complete() {
    let told: BTreeMap<_, _> = table("code")
        .iter()
        .map(|row| (quoted(row[0])[0], row[1].parse().unwrap()))
        .collect();
    let known: BTreeMap<_, u16> = Code::ALL
        .iter()
        .map(|code| (code.as_str(), code.status().as_u16()))
        .collect();
    assert_eq!(told, known);
}

#[test]
fn the_table_of_commands_is_complete() {
    let rows = table("command");
    let told: BTreeSet<_> = rows
        .iter()
        .filter_map(|row| quoted(row[0])[0].split(' ').next())
        .collect();
    let cli = Cli::command();
    let known: BTreeSet<_> = cli.get_subcommands().map(clap::Command::get_name).collect();
    assert_eq!(told, known);
}

#[test]
fn every_make_target_that_is_named_exists() {
    let makefile = concat!(
        include_str!("../Makefile"),
        include_str!("../packaging/package.mk"),
        include_str!("../packaging/container/container.mk"),
    );
    for command in blocks("sh").iter().flat_map(|block| block.split("make ")) {
        let target = command.split_whitespace().next().unwrap_or_default();
        let is_named = README.contains(&format!("make {target} "));
        assert!(
            !is_named || makefile.contains(&format!("\n{target}:")),
            "make {target}"
        );
    }
}

#[test]
fn the_counterparts_are_those_that_run() {
    let pinned: serde_json::Value =
        serde_json::from_str(include_str!("counterparts/package.json")).unwrap();
    let rows = table("counterpart");
    let told = rows.concat().join(" ");
    for (package, version) in pinned["dependencies"].as_object().unwrap() {
        let name = package.rsplit('/').next().unwrap();
        assert!(told.contains(name), "{package}");
        assert!(told.contains(version.as_str().unwrap()), "{package}");
    }
    let sdk = include_str!("counterparts/requirements.txt");
    let version = sdk
        .lines()
        .find_map(|line| line.strip_prefix("mcp=="))
        .unwrap();
    assert!(told.contains(&format!("`mcp` {version}")), "mcp {version}");
}
