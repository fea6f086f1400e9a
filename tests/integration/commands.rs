//! The commands that end: what they print, and their exit codes.

use std::process::Command;

use crate::common::process::{self, Ended};
use crate::common::{KEY_ID, SECRET, Setup, Upstream, raw, verify};

fn bare(args: &[&str]) -> Ended {
    let dir = tempfile::tempdir().unwrap();
    process::run(process::command(dir.path()).args(args))
}

#[test]
fn version_and_help_are_printed_to_stdout() {
    for flag in ["--version", "-V"] {
        let ended = bare(&[flag]);
        assert_eq!(ended.code, Some(0));
        assert_eq!(
            ended.stdout.trim(),
            format!("mcp-auth-proxy {}", env!("CARGO_PKG_VERSION"))
        );
    }
    for args in [&["--help"][..], &["-h"], &["help"]] {
        let ended = bare(args);
        assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
        for command in [
            "serve", "check", "reload", "status", "doctor", "sign", "demo",
        ] {
            assert!(
                ended.stdout.contains(&format!("\n  {command} ")),
                "{}",
                ended.stdout
            );
        }
    }
    for command in [
        "serve", "check", "reload", "status", "doctor", "sign", "demo",
    ] {
        let ended = bare(&[command, "--help"]);
        assert_eq!(ended.code, Some(0), "{command}");
        assert!(ended.stdout.contains("Usage:"));
    }
}

#[test]
fn a_wrong_command_line_is_64_and_goes_to_stderr() {
    for args in [
        &["swerve"][..],
        &["--nonsense"],
        &["serve", "--nonsense"],
        &["sign"],
        &["sign", "GET"],
        &["sign", "bad method", "https://a/"],
        &["status", "surplus"],
    ] {
        let ended = bare(args);
        assert_eq!((ended.code, &*ended.stdout), (Some(64), ""), "{args:?}");
        assert!(!ended.stderr.is_empty());
    }
    assert!(bare(&["swerve"]).stderr.contains("serve"), "a suggestion");
}

#[test]
fn on_a_terminal_with_nothing_configured_it_explains_itself() {
    if Command::new("script").arg("--version").output().is_err()
        || std::path::Path::new("/etc/mcp-auth-proxy").exists()
    {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let binary = process::binary();
    let plain = process::command(dir.path());
    let mut command = Command::new("script");
    command
        .args(["-qec", binary.to_str().unwrap(), "/dev/null"])
        .env_clear()
        .envs(
            plain
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .current_dir(dir.path())
        .stdin(std::process::Stdio::null());
    let ended = process::run(&mut command);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("Usage:"), "{ended:?}");
    // Without a terminal it serves, or says why it cannot.
    let mut command = process::command(dir.path());
    let ended = process::run(&mut command);
    assert_eq!(ended.code, Some(78), "{ended:?}");
}

/// The headers `sign` prints.
fn signed(ended: &Ended) -> Vec<(String, String)> {
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
    let pairs = ended
        .stdout
        .lines()
        .map(|line| line.split_once(": ").unwrap());
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn sign_prints_what_the_gateway_takes() {
    let setup = Setup::at("https://mcp.example/");
    for (method, url, path) in [
        ("GET", "https://mcp.example/mcp", "/mcp"),
        ("POST", "https://mcp.example/a%20b?q=%2F", "/a%20b"),
        ("DELETE", "https://mcp.example", "/"),
        ("PUT", "https://mcp.example//x//y", "//x//y"),
        ("GET", "/only/a/path", "/only/a/path"),
    ] {
        let mut command = setup.command(&["sign", method, url]);
        let headers = signed(&process::run_showing_signatures(&mut command));
        let mut map = http::HeaderMap::new();
        for (name, value) in &headers {
            map.append(
                http::HeaderName::try_from(name).unwrap(),
                value.parse().unwrap(),
            );
        }
        assert_eq!(headers.len(), 3, "{headers:?}");
        let accepted = vec![(KEY_ID.to_owned(), SECRET.to_owned())];
        verify::verify(method, path, &map, &accepted).unwrap();
    }
}

#[tokio::test]
async fn what_sign_prints_can_be_sent_as_it_is() {
    let upstream = Upstream::http();
    let setup = Setup::before(&upstream);
    let url = format!("{}/by/hand", upstream.url());
    let headers =
        process::run_showing_signatures(&mut setup.command(&["sign", "GET", &url])).stdout;
    let host = upstream.url().replace("http://", "");
    let request = format!(
        "GET /by/hand HTTP/1.1\r\nHost: {host}\r\n{}Connection: close\r\n\r\n",
        headers.replace('\n', "\r\n")
    );
    let address = host.parse().unwrap();
    let answer = raw::exchange(address, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn sign_refuses_what_the_daemon_would_refuse() {
    let setup = Setup::at("https://mcp.example/");
    for url in [
        "https://mcp.example/a/../b",
        "https://mcp.example/%zz",
        "https://mcp.example/a%00",
    ] {
        let ended = setup.run(&["sign", "GET", url]);
        assert_eq!((ended.code, &*ended.stdout), (Some(64), ""), "{ended:?}");
    }
}

#[test]
fn sign_wants_to_know_which_of_several_credentials() {
    let setup = Setup::at("https://mcp.example/").more(
        "[credential.second.auth-gateway]\nkey_id = \"second\"\nsecret = { file = \"/dev/null\" }",
    );
    let secret = setup.file("second", "hush-second");
    let config = setup
        .config()
        .replace("/dev/null", secret.to_str().unwrap());
    let setup = setup.written(&config);
    let ended = setup.run(&["sign", "GET", "/x"]);
    assert_eq!(ended.code, Some(64), "{ended:?}");
    assert!(ended.stderr.contains("--credential"), "{ended:?}");
    let args = ["sign", "GET", "/x", "--credential", "second"];
    let headers = signed(&process::run_showing_signatures(&mut setup.command(&args)));
    assert!(headers.contains(&("x-api-key-id".to_owned(), "second".to_owned())));
    let ended = setup.run(&["sign", "GET", "/x", "--credential", "third"]);
    assert_eq!(ended.code, Some(64), "{ended:?}");
}

#[tokio::test]
async fn status_shows_what_runs_to_people_and_to_programs() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    daemon.get("/").await;
    let ended = daemon.setup.run(&["status"]);
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
    let pid = daemon.pid().to_string();
    let address = daemon.address().to_string();
    let url = upstream.url();
    let socket = daemon.socket().display().to_string();
    for part in [
        "ready",
        &pid,
        &address,
        &socket,
        &url,
        "reachable",
        "credential key",
        "config.toml",
    ] {
        assert!(
            ended.stdout.contains(part),
            "{part} is not in {}",
            ended.stdout
        );
    }
    let ended = daemon.setup.run(&["status", "--json"]);
    let page: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(page["pid"], daemon.pid());
    assert_eq!(page["upstreams"][0]["credential"]["name"], "key");
    assert!(page["upstreams"][0]["credential"]["age_seconds"].is_u64());
    assert_eq!(page["requests_in_flight"], 0);
    // By its socket alone, from anywhere.
    let dir = tempfile::tempdir().unwrap();
    let mut command = process::command(dir.path());
    command
        .args(["status", "--admin-socket"])
        .arg(daemon.admin_socket());
    assert_eq!(process::run(&mut command).code, Some(0));
}

#[tokio::test]
async fn status_tells_how_long_requests_took_and_what_went_wrong() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    daemon.get("/").await;
    for _ in 0..2 {
        daemon
            .get("/a/../b")
            .await
            .assert_refused(400, "path_refused");
    }
    let ended = daemon.setup.run(&["status"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for part in [
        "    1 requests, 50 % within ",
        "Last errors",
        " ago, 2 time(s), path_refused: ",
        "0 sessions that could be opened again, 0 cached results",
    ] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
}

#[tokio::test]
async fn watching_goes_on_and_counts_only_what_came_between() {
    use std::io::BufRead;
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    daemon.get("/").await;
    let mut command = daemon.setup.command(&["status", "--watch"]);
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    // Each begins with its first line.
    let mut pages: Vec<String> = Vec::new();
    for line in lines.map(Result::unwrap) {
        match pages.last_mut() {
            Some(page) if !line.starts_with("mcp-auth-proxy ") => *page += &format!("{line}\n"),
            _ => pages.push(line),
        }
        if pages.len() == 3 {
            break;
        }
    }
    let (first, second) = (&pages[0], &pages[1]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(first.contains("1 requests, 50 %"), "{first}");
    assert!(second.contains("is ready"), "{second}");
    assert!(!second.contains("requests, 50 %"), "{second}");
}

#[test]
fn without_a_daemon_status_and_reload_are_69_and_say_where_they_looked() {
    let setup = Setup::at("https://mcp.example/");
    for command in ["status", "reload"] {
        let ended = setup.run(&[command]);
        assert_eq!((ended.code, &*ended.stdout), (Some(69), ""), "{ended:?}");
        assert!(
            ended
                .stderr
                .contains(setup.path("admin.sock").to_str().unwrap()),
            "{ended:?}"
        );
    }
}

#[tokio::test]
async fn a_daemon_that_is_not_ours_to_ask_is_77() {
    use std::os::unix::process::CommandExt;
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(daemon.setup.dir(), mode).unwrap();
    let public = tempfile::tempdir().unwrap();
    let binary = public.path().join("binary");
    std::fs::copy(process::binary(), &binary).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(public.path(), mode).unwrap();
    for name in ["status", "reload"] {
        let mut command = Command::new(&binary);
        command
            .args([name, "--admin-socket"])
            .arg(daemon.admin_socket())
            .env_clear()
            .current_dir("/")
            .uid(65534)
            .gid(65534);
        let ended = process::run(&mut command);
        assert_eq!(ended.code, Some(77), "{ended:?}");
    }
}

#[tokio::test]
async fn curl_over_the_unix_socket_is_served() {
    if Command::new("curl").arg("--version").output().is_err() {
        return;
    }
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    let socket = daemon.socket();
    let curl = std::thread::spawn(move || {
        Command::new("curl")
            .args(["-sS", "--fail", "--unix-socket"])
            .arg(socket)
            .args(["-d", "by=curl", "http://localhost/curl?x=1"])
            .output()
            .unwrap()
    });
    let output = curl.join().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "by=curl");
    assert_eq!(upstream.only().target, "/curl?x=1");
}
