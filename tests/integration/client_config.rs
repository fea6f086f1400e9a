//! `client-config` as people type it: the files it makes, changes, refuses and leaves as they were.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::common::process::{self, Ended};

const CLIENTS: [(&str, &str); 8] = [
    ("claude-code", ".claude.json"),
    (
        "claude-desktop",
        if cfg!(target_os = "macos") {
            "Library/Application Support/Claude/claude_desktop_config.json"
        } else {
            ".config/Claude/claude_desktop_config.json"
        },
    ),
    ("codex", ".codex/config.toml"),
    ("cursor", ".cursor/mcp.json"),
    (
        "vscode",
        if cfg!(target_os = "macos") {
            "Library/Application Support/Code/User/mcp.json"
        } else {
            ".config/Code/User/mcp.json"
        },
    ),
    ("windsurf", ".codeium/windsurf/mcp_config.json"),
    ("gemini-cli", ".gemini/settings.json"),
    ("zed", ".config/zed/settings.json"),
];

/// A user's home.
struct Home(TempDir);

impl Home {
    fn new() -> Home {
        Home(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Ended {
        let mut command = process::command(self.0.path());
        command.env_remove("RUNTIME_DIRECTORY");
        process::run(command.arg("client-config").args(args))
    }

    /// Runs what has to succeed; what it printed.
    fn done(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.output());
        ended.stdout
    }

    /// Runs what has to be refused with this code; what it said.
    fn refused(&self, code: i32, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, Some(code), "{args:?}: {}", ended.output());
        assert_eq!(ended.stdout, "", "{args:?}");
        ended.stderr
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// The files and directories in the home, with their contents.
    fn everything(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        collect(self.0.path(), &mut found);
        found.sort();
        found
    }
}

fn collect(directory: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else {
            let content = fs::read(&path).unwrap();
            found.push((path, content));
        }
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn every_clients_entry_is_printed_and_its_file_named_and_nothing_is_written() {
    for (client, file) in CLIENTS {
        let home = Home::new();
        let ended = home.run(&[client]);
        assert_eq!(ended.code, Some(0), "{}", ended.output());
        let binary = process::binary();
        let command = format!("\"{}\"", binary.display());
        assert!(ended.stdout.contains(&command), "{}", ended.stdout);
        let named = home.path(file).display().to_string();
        assert!(ended.stderr.contains(&named), "{}", ended.stderr);
        assert_eq!(home.everything(), []);
    }
}

#[test]
fn every_clients_file_is_made_for_its_owner_alone_and_holds_what_is_printed() {
    for (client, file) in CLIENTS {
        let home = Home::new();
        let printed = home.done(&[client]);
        home.done(&[client, "--write"]);
        let path = home.path(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), printed);
        assert_eq!(mode(&path), 0o600);
        if path.parent() != Some(home.0.path()) {
            assert_eq!(mode(path.parent().unwrap()), 0o700);
        }
        assert_eq!(home.everything().len(), 1, "no backup of nothing");
        home.done(&[client, "--remove"]);
        assert_eq!(home.everything(), []);
    }
}

#[test]
fn a_second_run_changes_nothing_and_makes_no_backup() {
    for (client, file) in CLIENTS {
        let home = Home::new();
        let old = if file.ends_with("toml") {
            "a = 1\n"
        } else {
            "{\"a\": 1}"
        };
        let path = home.write(file, old);
        home.done(&[client, "--write"]);
        let first = home.everything();
        assert_eq!(first.len(), 2, "the file and its backup");
        let backup = format!("{}.mcp-auth-proxy.bak", path.display());
        assert_eq!(fs::read_to_string(&backup).unwrap(), old);
        fs::remove_file(&backup).unwrap();
        let written = fs::metadata(&path).unwrap();
        let said = home.done(&[client, "--write"]);
        assert!(said.contains("nothing to do"), "{said}");
        assert_eq!(fs::metadata(&path).unwrap().ino(), written.ino());
        assert_eq!(home.everything().len(), 1);
    }
}

#[test]
fn removing_brings_back_every_byte_and_takes_the_backup_along() {
    let text = "\u{feff}{ // mine\r\n\t\"mcpServers\": { },\r\n\t\"x\": [1, ],\r\n}";
    for client in ["cursor", "vscode"] {
        for old in [text, "", "\n", "{}", "// nothing\n"] {
            let home = Home::new();
            let file = CLIENTS.iter().find(|(name, _)| *name == client).unwrap().1;
            let path = home.write(file, old);
            home.done(&[client, "--write"]);
            assert_ne!(fs::read_to_string(&path).unwrap(), old);
            home.done(&[client, "--remove"]);
            assert_eq!(home.everything(), [(path, old.as_bytes().to_vec())]);
            let said = home.done(&[client, "--remove"]);
            assert!(said.contains("nothing to do"), "{said}");
        }
    }
}

#[test]
fn what_others_wrote_since_stays_when_the_entry_goes() {
    let home = Home::new();
    let path = home.write(".cursor/mcp.json", "{}");
    home.done(&["cursor", "--write"]);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen('{', "{\"later\": true,", 1)).unwrap();
    home.done(&["cursor", "--remove"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"later\": true\n}");
}

#[test]
fn a_file_that_cannot_be_parsed_is_left_alone_and_the_fault_has_its_place() {
    for (client, file) in CLIENTS {
        let home = Home::new();
        let path = home.write(file, "{\n  = oops\n");
        let before = home.everything();
        for what in ["--write", "--remove"] {
            let said = home.refused(78, &[client, what]);
            let place = format!("{}:", path.display());
            let (_, place) = said.split_once(&place).expect(&said);
            let numbers: Vec<_> = place
                .splitn(3, ':')
                .take(2)
                .map(str::parse::<u32>)
                .collect();
            assert!(numbers.iter().all(Result::is_ok), "{said}");
            assert!(said.contains("nothing was changed"), "{said}");
        }
        assert_eq!(home.everything(), before);
    }
}

#[test]
fn an_entry_of_somebody_elses_is_replaced_only_by_force_and_comes_back() {
    let old = "{\"mcpServers\": {\n  \"acme\": {\"command\": \"npx\"} // mine\n}}\n";
    let home = Home::new();
    let path = home.write(".cursor/mcp.json", old);
    for what in ["--write", "--remove"] {
        let said = home.refused(78, &["cursor", what, "--name", "acme"]);
        assert!(said.contains("mcp.json:2:3: mcpServers.acme"), "{said}");
        assert!(said.contains("--force"), "{said}");
    }
    home.done(&["cursor", "--write", "--name", "acme", "--force"]);
    let new = fs::read_to_string(&path).unwrap();
    assert!(
        new.contains("mcp-auth-proxy") && new.contains("} // mine\n"),
        "{new}"
    );
    home.done(&["cursor", "--remove", "--name", "acme"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), old);
}

#[test]
fn a_link_stays_a_link_and_the_file_keeps_its_mode() {
    let home = Home::new();
    let real = home.write("dotfiles/cursor.json", "{}");
    fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
    fs::create_dir(home.path(".cursor")).unwrap();
    let link = home.path(".cursor/mcp.json");
    symlink("../dotfiles/cursor.json", &link).unwrap();
    home.done(&["cursor", "--write"]);
    assert!(link.is_symlink());
    assert!(fs::read_to_string(&real).unwrap().contains("mcpServers"));
    assert_eq!(mode(&real), 0o640);
    let backup = home.path("dotfiles/cursor.json.mcp-auth-proxy.bak");
    assert_eq!(mode(&backup), 0o640);
    assert_eq!(fs::read_dir(home.path(".cursor")).unwrap().count(), 1);
}

#[test]
fn what_is_no_file_of_text_is_refused() {
    let home = Home::new();
    fs::create_dir_all(home.path(".cursor/mcp.json")).unwrap();
    let said = home.refused(78, &["cursor", "--write"]);
    assert!(said.contains("is a directory"), "{said}");
    fs::write(home.path(".claude.json"), b"{}\xff").unwrap();
    let said = home.refused(78, &["claude-code", "--write"]);
    assert!(said.contains("no UTF-8 text (byte 3)"), "{said}");
    symlink("nowhere", home.path("dangling")).unwrap();
    let dangling = home.path("dangling").display().to_string();
    let said = home.refused(78, &["cursor", "--write", "--file", &dangling]);
    assert!(said.contains("leads nowhere"), "{said}");
}

#[test]
fn a_file_that_may_not_be_written_is_77_and_stays() {
    if nix::unistd::geteuid().is_root() {
        return; // Root may.
    }
    let home = Home::new();
    let path = home.write(".cursor/mcp.json", "{}");
    let directory = path.parent().unwrap();
    fs::set_permissions(directory, Permissions::from_mode(0o500)).unwrap();
    home.refused(77, &["cursor", "--write"]);
    fs::set_permissions(directory, Permissions::from_mode(0o700)).unwrap();
    assert_eq!(home.everything(), [(path, b"{}".to_vec())]);
}

#[test]
fn dry_run_shows_the_change_and_makes_none() {
    let home = Home::new();
    home.write(".codex/config.toml", "key = \"private\"\n");
    let before = home.everything();
    let said = home.done(&["codex", "--write", "--dry-run"]);
    assert!(
        said.contains("@@ -1,0 +2,4 @@\n+\n+[mcp_servers.mcp-auth-proxy]\n"),
        "{said}"
    );
    assert!(!said.contains("private"), "{said}");
    assert_eq!(home.everything(), before);
    home.done(&["codex", "--write"]);
    let before = home.everything();
    let said = home.done(&["codex", "--remove", "--dry-run"]);
    assert!(
        said.contains("@@ -2,4 +1,0 @@\n-\n-[mcp_servers.mcp-auth-proxy]\n"),
        "{said}"
    );
    assert_eq!(home.everything(), before);
}

#[test]
fn each_route_is_an_entry_with_the_routes_name() {
    let home = Home::new();
    let routes = ["--route", "/acme/mcp", "--route", "/wiki"];
    let args = [&["cursor", "--transport", "http"][..], &routes].concat();
    let json: serde_json::Value = serde_json::from_str(&home.done(&args)).unwrap();
    let servers = serde_json::json!({
        "acme": { "url": "http://127.0.0.1:8080/acme/mcp" },
        "wiki": { "url": "http://127.0.0.1:8080/wiki" },
    });
    assert_eq!(json["mcpServers"], servers);
    let args = [&["claude-code", "--write"][..], &routes].concat();
    home.done(&args);
    let text = fs::read_to_string(home.path(".claude.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let args = &json["mcpServers"]["acme"]["args"];
    let socket = home.path("mcp-auth-proxy/proxy.sock");
    let socket = match nix::unistd::geteuid().is_root() {
        true => "/run/mcp-auth-proxy/proxy.sock",
        false => socket.to_str().unwrap(),
    };
    let meant = [
        "stdio",
        "--socket",
        socket,
        "--route",
        "/acme/mcp",
        "--name",
        "acme",
    ];
    assert_eq!(*args, serde_json::json!(meant));
    let said = home.refused(64, &["cursor", "--route", "/a/x", "--route", "/a/y"]);
    assert!(said.contains("--name"), "{said}");
}

#[test]
fn the_configuration_says_which_socket_and_port() {
    let home = Home::new();
    let config = home.write(
        "own.toml",
        "[upstream.a]\nurl = \"http://a/\"\n[[listener]]\nunix = \"/srv/p.sock\"\n[[listener]]\ntcp = \"127.0.0.1:9\"\n",
    );
    let config = config.to_str().unwrap();
    let said = home.done(&["zed", "--config", config]);
    assert!(
        said.contains("[\"stdio\", \"--socket\", \"/srv/p.sock\"]"),
        "{said}"
    );
    let said = home.done(&["gemini-cli", "--config", config, "--transport", "http"]);
    assert!(
        said.contains("\"httpUrl\": \"http://127.0.0.1:9/mcp\""),
        "{said}"
    );
    home.write("own.toml", "[[listener]]\nunix = \"/srv/p.sock\"\n");
    let said = home.refused(78, &["codex", "--config", config, "--transport", "http"]);
    assert!(said.contains("no TCP listener"), "{said}");
}

#[test]
fn a_path_that_no_route_takes_is_warned_of() {
    let home = Home::new();
    let config = home.write(
        "own.toml",
        "[[route]]\npath = \"/acme/\"\n[[route]]\npath = \"/wiki\"\n",
    );
    let said = |routes: &[&str]| {
        let args = ["zed", "--config", config.to_str().unwrap()];
        home.run(&[&args, routes].concat()).stderr
    };
    let words = "no route for /mcp, only /acme/, /wiki; name one with --route";
    assert!(said(&[]).contains(words));
    assert!(said(&["--route", "/wikis"]).contains("no route for /wikis"));
    for route in ["/acme/mcp", "/wiki"] {
        assert!(!said(&["--route", route]).contains("no route"), "{route}");
    }
}

#[test]
fn the_entry_launches_the_program_by_the_name_it_was_called_by() {
    let home = Home::new();
    fs::create_dir(home.path("bin")).unwrap();
    let link = home.path("bin/mcp-auth-proxy");
    symlink(process::binary(), &link).unwrap();
    let mut command = std::process::Command::new("mcp-auth-proxy");
    command
        .env_clear()
        .env("HOME", home.path(""))
        .env("PATH", home.path("bin"))
        .args(["client-config", "codex"]);
    let ended = process::run(&mut command);
    let meant = format!("command = \"{}\"", link.display());
    assert!(ended.stdout.contains(&meant), "{}", ended.output());
}

#[test]
fn changing_the_transport_changes_the_entry_in_its_place() {
    let home = Home::new();
    home.done(&["windsurf", "--write"]);
    let stdio = home.everything();
    home.done(&["windsurf", "--write", "--transport", "http"]);
    let text = fs::read_to_string(home.path(".codeium/windsurf/mcp_config.json")).unwrap();
    assert!(
        text.contains("serverUrl") && !text.contains("command"),
        "{text}"
    );
    home.done(&["windsurf", "--write"]);
    assert!(home.everything().contains(&stdio[0]));
    // Not back to the URL, which is what the backup has.
    home.done(&["windsurf", "--remove"]);
    let text = fs::read_to_string(home.path(".codeium/windsurf/mcp_config.json")).unwrap();
    assert!(!text.contains("8080"), "{text}");
}

#[test]
fn a_projects_file_is_below_the_current_directory_and_for_everybody() {
    let home = Home::new();
    home.done(&["claude-code", "--scope", "project", "--write"]);
    assert_ne!(mode(&home.path(".mcp.json")) & 0o044, 0);
    home.refused(64, &["windsurf", "--scope", "project"]);
}

#[test]
fn what_makes_no_sense_is_64() {
    let home = Home::new();
    for args in [
        &["netscape"][..],
        &["cursor", "--dry-run"],
        &["cursor", "--force"],
        &["cursor", "--write", "--remove"],
        &["cursor", "--name", "a.b"],
        &["cursor", "--url", "http://a/", "--route", "/b"],
        &[
            "cursor",
            "--transport",
            "http",
            "--url",
            "unix:/a.sock:/mcp",
        ],
        &["claude-desktop", "--transport", "http"],
    ] {
        home.refused(64, args);
    }
    assert_eq!(home.everything(), []);
}
