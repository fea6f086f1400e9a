//! Each client: its places, and what becomes of a file as people have it.

use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::*;
use crate::cli::Scope;
use crate::client_config::clients::{Platform, Syntax};

/// A file of `client` under fixtures. With MCP_AUTH_PROXY_BLESS set it is written instead, for
/// a human to look at.
fn fixture(client: Client, name: &str, now: Option<&str>) -> String {
    let value = client.to_possible_value().unwrap();
    let ending = match spec(client).syntax {
        Syntax::Toml => "toml",
        _ => "json",
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/client_config/tests/fixtures")
        .join(value.get_name())
        .join(format!("{name}.{ending}"));
    if let Some(now) = now.filter(|_| std::env::var_os("MCP_AUTH_PROXY_BLESS").is_some()) {
        fs::write(&path, now).unwrap();
    }
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_clients_file_gets_the_entry_and_nothing_else_and_loses_it_again() {
    for &client in Client::value_variants() {
        let before = fixture(client, "before", None);
        let entries = [
            ("stdio", Some(stdio(spec(client)))),
            ("http", http(spec(client))),
        ];
        for (name, entry) in entries {
            let Some(entry) = entry else {
                assert_eq!(client, Client::ClaudeDesktop);
                continue;
            };
            let after = put(client, &before, &entry);
            assert_eq!(after, fixture(client, name, Some(&after)), "{client:?}");
            assert_eq!(remove(client, &after, None), before, "{client:?} {name}");
        }
    }
}

#[test]
fn a_new_file_holds_the_entry_alone() {
    for &client in Client::value_variants() {
        let new = put(client, "", &stdio(spec(client)));
        assert_eq!(new, fixture(client, "new", Some(&new)), "{client:?}");
    }
}

#[test]
fn changing_the_transport_and_back_is_no_change() {
    for &client in Client::value_variants() {
        let Some(http) = http(spec(client)) else {
            continue;
        };
        let stdio = stdio(spec(client));
        let first = put(client, &fixture(client, "before", None), &stdio);
        let document = Document::parse(&first, spec(client)).unwrap();
        let second = document.update("acme", &http).unwrap();
        assert_eq!(second, fixture(client, "http", None), "{client:?}");
        let document = Document::parse(&second, spec(client)).unwrap();
        assert_eq!(
            document.update("acme", &stdio).unwrap(),
            first,
            "{client:?}"
        );
    }
}

fn place(client: Client, scope: Scope, platform: Platform, pairs: &[(&str, &str)]) -> PathBuf {
    let project = Path::new("/src/p");
    spec(client)
        .file(scope, &env(pairs), platform, project)
        .unwrap()
}

#[test]
fn every_client_keeps_its_file_at_its_own_place() {
    let home = [("HOME", "/h")];
    let support = "/h/Library/Application Support";
    for (client, linux, macos) in [
        (Client::ClaudeCode, "/h/.claude.json", "/h/.claude.json"),
        (
            Client::ClaudeDesktop,
            "/h/.config/Claude/claude_desktop_config.json",
            &format!("{support}/Claude/claude_desktop_config.json"),
        ),
        (
            Client::Codex,
            "/h/.codex/config.toml",
            "/h/.codex/config.toml",
        ),
        (Client::Cursor, "/h/.cursor/mcp.json", "/h/.cursor/mcp.json"),
        (
            Client::Vscode,
            "/h/.config/Code/User/mcp.json",
            &format!("{support}/Code/User/mcp.json"),
        ),
        (
            Client::Windsurf,
            "/h/.codeium/windsurf/mcp_config.json",
            "/h/.codeium/windsurf/mcp_config.json",
        ),
        (
            Client::GeminiCli,
            "/h/.gemini/settings.json",
            "/h/.gemini/settings.json",
        ),
        (
            Client::Zed,
            "/h/.config/zed/settings.json",
            "/h/.config/zed/settings.json",
        ),
    ] {
        let at = |platform| place(client, Scope::User, platform, &home);
        assert_eq!(at(Platform::Linux), Path::new(linux));
        assert_eq!(at(Platform::Macos), Path::new(macos));
    }
}

#[test]
fn variables_move_the_files_that_the_clients_let_them_move() {
    let pairs = [
        ("HOME", "/h"),
        ("XDG_CONFIG_HOME", "/x"),
        ("CLAUDE_CONFIG_DIR", "/c"),
        ("CODEX_HOME", "/o"),
        ("GEMINI_CLI_HOME", "/g"),
    ];
    for (client, linux, macos) in [
        (Client::ClaudeCode, "/c/.claude.json", "/c/.claude.json"),
        (Client::Codex, "/o/config.toml", "/o/config.toml"),
        (
            Client::GeminiCli,
            "/g/.gemini/settings.json",
            "/g/.gemini/settings.json",
        ),
        (
            Client::Zed,
            "/x/zed/settings.json",
            "/h/.config/zed/settings.json",
        ),
        (
            Client::Vscode,
            "/x/Code/User/mcp.json",
            "/h/Library/Application Support/Code/User/mcp.json",
        ),
    ] {
        let at = |platform| place(client, Scope::User, platform, &pairs);
        assert_eq!(at(Platform::Linux), Path::new(linux));
        assert_eq!(at(Platform::Macos), Path::new(macos));
    }
}

#[test]
fn projects_have_files_of_their_own_where_the_client_knows_any() {
    for &client in Client::value_variants() {
        let found = spec(client).file(
            Scope::Project,
            &env(&[]),
            Platform::Linux,
            Path::new("/src/p"),
        );
        let path = match client {
            Client::ClaudeCode => "/src/p/.mcp.json",
            Client::Codex => "/src/p/.codex/config.toml",
            Client::Cursor => "/src/p/.cursor/mcp.json",
            Client::Vscode => "/src/p/.vscode/mcp.json",
            Client::GeminiCli => "/src/p/.gemini/settings.json",
            Client::Zed => "/src/p/.zed/settings.json",
            Client::ClaudeDesktop | Client::Windsurf => {
                let message = found.unwrap_err();
                assert!(message.contains("leave --scope out"), "{message}");
                continue;
            }
        };
        assert_eq!(found, Ok(path.into()));
    }
}

#[test]
fn without_a_home_the_file_has_to_be_named() {
    let found = spec(Client::Zed).file(Scope::User, &env(&[]), Platform::Linux, Path::new("/"));
    assert!(found.unwrap_err().contains("--file"));
}
