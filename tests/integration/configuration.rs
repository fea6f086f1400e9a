//! What is wrong with a configuration is said at once, all of it, with its place and the next step.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::common::process::{self, Ended};
use crate::common::secrets::NEXT_SECRET;
use crate::common::{Ask, KEY_ID, SECRET, Setup, Upstream};

const EX_CONFIG: Option<i32> = Some(78);

fn setup() -> Setup {
    Setup::at("http://127.0.0.1:1")
}

/// Both commands that read the configuration say the same and end the same way.
fn refused(setup: &Setup) -> String {
    let check = setup.run(&["check"]);
    let serve = setup.run(&["serve"]);
    assert_eq!(check.code, EX_CONFIG, "{check:?}");
    assert_eq!(serve.code, EX_CONFIG, "{serve:?}");
    assert_eq!(check.stderr, serve.stderr);
    assert_eq!(check.stdout, "");
    check.stderr
}

#[track_caller]
fn assert_says(text: &str, all: &[&str]) {
    for part in all {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

#[test]
fn every_problem_is_reported_at_once_with_file_line_column_and_key() {
    let setup = setup().written(
        r#"
[upstream.acme]
ulr = "https://mcp.acme.example/"
url = "ftp://acme.example/"
credential = "acm"
request_timeout = "15 parsecs"
http_version = "3"

[credential.acme.auth-gateway]
key_id = ""
secret = { file = "DIR/missing" }

[[listener]]
tcp = "0.0.0.0:8080"

[[listener]]
unix = "relative.sock"
mode = "0999"

[log]
level = "loud"

[limits]
max_body = "many"

[serve]
x = 1
"#,
    );
    let file = setup.path("config.toml");
    let file = file.display();
    assert_says(
        &refused(&setup),
        &[
            &format!("{file}:3:1: upstream.acme.ulr: "),
            "did you mean \"url\"?",
            &format!("{file}:4:7: upstream.acme.url: "),
            &format!("{file}:5:14: upstream.acme.credential: "),
            "did you mean \"acme\"?",
            &format!("{file}:6:19: upstream.acme.request_timeout: "),
            &format!("{file}:7:16: upstream.acme.http_version: "),
            &format!("{file}:10:10: credential.acme.auth-gateway.key_id: "),
            &format!("{file}:11:"),
            "/missing",
            &format!("{file}:14:7: listener[1].tcp: "),
            "allow_non_loopback",
            &format!("{file}:17:8: listener[2].unix: "),
            &format!("{file}:18:8: listener[2].mode: "),
            &format!("{file}:21:9: log.level: "),
            &format!("{file}:24:12: limits.max_body: "),
            &format!("{file}:26:"),
            "did you mean \"server\"?",
            "^",
        ],
    );
}

#[test]
fn a_file_that_is_no_toml_is_pointed_at() {
    let setup = setup().written("[upstream.acme\nurl = 1\n");
    let said = refused(&setup);
    assert_says(
        &said,
        &[&format!("{}:1:", setup.path("config.toml").display())],
    );
}

#[test]
fn a_named_file_that_is_missing_or_unreadable_is_named() {
    let setup = setup();
    let missing = setup.path("none.toml");
    for path in [missing, setup.dir().to_path_buf(), "/dev/null/x".into()] {
        let mut command = process::command(setup.dir());
        command.args(["serve", "--config"]).arg(&path);
        let ended = process::run(&mut command);
        assert_eq!(ended.code, EX_CONFIG, "{ended:?}");
        assert_says(&ended.stderr, &[path.to_str().unwrap()]);
        let mut command = process::command(setup.dir());
        command.arg("check").env("MCP_CONFIG", &path);
        assert_eq!(process::run(&mut command).code, EX_CONFIG);
    }
}

#[test]
fn without_any_configuration_the_next_step_is_said() {
    let setup = setup();
    let mut command = process::command(setup.dir());
    // Root's candidate is the system's own file, which may exist where this runs.
    command
        .args(["check", "--config"])
        .arg(setup.file("empty.toml", ""));
    let ended = process::run(&mut command);
    assert_eq!(ended.code, EX_CONFIG);
    assert_says(
        &ended.stderr,
        &[
            "no upstream is configured",
            "MCP_UPSTREAM_URL",
            "[upstream.",
        ],
    );
}

#[test]
fn a_secret_file_that_is_missing_is_named() {
    let setup = setup();
    fs::remove_file(setup.path("secret")).unwrap();
    assert_says(
        &refused(&setup),
        &[setup.path("secret").to_str().unwrap(), "does not exist"],
    );
}

#[test]
fn a_secret_file_that_is_empty_is_named() {
    for content in ["", "\n", "\r\n"] {
        let setup = setup();
        setup.file("secret", content);
        assert_says(
            &refused(&setup),
            &[setup.path("secret").to_str().unwrap(), "is empty"],
        );
    }
}

#[test]
fn a_secret_file_that_others_may_read_comes_with_the_chmod_that_mends_it() {
    for mode in [0o644, 0o604, 0o606, 0o602] {
        let setup = setup();
        let secret = setup.path("secret");
        fs::set_permissions(&secret, Permissions::from_mode(mode)).unwrap();
        let chmod = format!("chmod o-rwx {}", secret.display());
        assert_says(&refused(&setup), &[&chmod, &format!("{mode:04o}")]);
    }
    let setup = setup();
    let secret = setup.path("secret");
    fs::set_permissions(&secret, Permissions::from_mode(0o644)).unwrap();
    let tolerant = setup.config().replace(
        &format!("{{ file = {secret:?} }}"),
        &format!("{{ file = {secret:?}, insecure_permissions = true }}"),
    );
    let ended = setup.written(&tolerant).run(&["check"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn a_secret_file_that_is_no_file_is_refused_without_hanging() {
    let setup = setup();
    let secret = setup.path("secret");
    fs::remove_file(&secret).unwrap();
    nix::unistd::mkfifo(&secret, nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert_says(&refused(&setup), &[secret.to_str().unwrap(), "FIFO"]);
}

#[test]
fn a_secret_in_the_file_itself_is_accepted_with_a_warning_that_does_not_repeat_it() {
    let setup = setup();
    let secret = setup.path("secret");
    let plain = setup
        .config()
        .replace(&format!("{{ file = {secret:?} }}"), &format!("{SECRET:?}"));
    let ended = setup.written(&plain).run(&["check"]);
    assert_eq!(ended.code, Some(0));
    assert_says(
        &ended.stdout,
        &["warning: ", "credential.key.auth-gateway.secret"],
    );
}

#[test]
fn a_broken_line_that_may_hold_a_secret_is_not_shown() {
    for line in [
        format!("secret = \"{SECRET}\nx"),
        format!("secret = {SECRET}"),
        format!("secrte = \"{SECRET}\""),
        format!("[credential.k.auth-gateway]\nkey_id = 1\nsecret = {{ value = \"{SECRET}\" }}"),
        format!("[credential.k.auth-gateway]\nkey_id = \"hush\\q\"\nsecret = [\"{SECRET}\"]"),
    ] {
        let setup = setup().written(&format!("[upstream.a]\nurl = \"https://a/\"\n{line}\n"));
        // What commands print is searched for secrets.
        refused(&setup);
    }
}

#[tokio::test]
async fn secrets_may_come_from_files_the_environment_and_systemds_credentials() {
    let upstream = Upstream::https();
    let file = Setup::before(&upstream);
    let environment = Setup::before(&upstream).env("OWN_SECRET", &format!("{SECRET}\n"));
    let config = environment.config();
    let secret = format!("{{ file = {:?} }}", environment.path("secret"));
    let environment = environment.written(&config.replace(&secret, "{ env = \"OWN_SECRET\" }"));
    let credential = Setup::before(&upstream);
    let directory = credential.dir().display().to_string();
    credential.file("gateway", SECRET);
    let secret = format!("{{ file = {:?} }}", credential.path("secret"));
    let config = credential
        .config()
        .replace(&secret, "{ credential = \"gateway\" }");
    let credential = credential
        .env("CREDENTIALS_DIRECTORY", &directory)
        .written(&config);
    for setup in [file, environment, credential] {
        let daemon = setup.start().await;
        assert_eq!(daemon.get("/").await.status, 200);
    }
}

#[tokio::test]
async fn a_secret_from_the_environment_is_gone_from_the_process() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream)
        .env("OWN_SECRET", SECRET)
        .env("MCP_API_SECRET", NEXT_SECRET)
        .env("HARMLESS", "still-there");
    let secret = format!("{{ file = {:?} }}", setup.path("secret"));
    let config = setup.config().replace(&secret, "{ env = \"OWN_SECRET\" }");
    let daemon = setup.written(&config).start().await;
    assert_eq!(daemon.get("/").await.status, 200);
    // Who may not read it has nothing to fear from it.
    if let Ok(environ) = fs::read(format!("/proc/{}/environ", daemon.pid())) {
        let environ = String::from_utf8_lossy(&environ);
        assert!(environ.contains("still-there"), "{environ}");
        crate::common::secrets::assert_none("/proc/PID/environ", &environ);
    }
    // The daemon itself still knows it.
    daemon.reload().await;
    assert_eq!(daemon.get("/").await.status, 200);
}

#[tokio::test]
async fn fragments_are_laid_over_the_file_in_name_order() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    fs::create_dir(setup.path("conf.d")).unwrap();
    setup.file("conf.d/20-b.toml", "[log]\nlevel = \"error\"\n");
    setup.file(
        "conf.d/10-a.toml",
        "[log]\nlevel = \"trace\"\n[server]\nread_timeout = \"7s\"\n",
    );
    setup.file("conf.d/30-c.yaml", "server:\n  read_timeout: 9s\n");
    setup.file("conf.d/40-d.json", r#"{"limits": {"max_body": "2KiB"}}"#);
    setup.file("conf.d/.hidden.toml", "nonsense");
    setup.file("conf.d/25-x.toml~", "nonsense");
    setup.file("conf.d/README", "nonsense");
    let daemon = setup.start().await;
    let status = daemon.status();
    assert_eq!(status["log_level"], "error");
    assert_eq!(
        status["configuration"]["files"].as_array().unwrap().len(),
        5
    );
    let answer = daemon.ask(Ask::post("/", vec![b' '; 2049])).await;
    answer.assert_refused(413, "body_too_large");
}

#[test]
fn a_problem_in_a_fragment_is_reported_there() {
    let setup = setup();
    fs::create_dir(setup.path("conf.d")).unwrap();
    setup.file("conf.d/10-a.toml", "[log]\n\nlevle = \"info\"\n");
    let place = format!(
        "{}:3:1: log.levle: ",
        setup.path("conf.d/10-a.toml").display()
    );
    assert_says(&refused(&setup), &[&place, "did you mean \"level\"?"]);
}

#[tokio::test]
async fn yaml_and_json_are_read_by_the_files_name() {
    let upstream = Upstream::https();
    let (url, ca) = (upstream.url(), "DIR/ca.pem");
    let yaml = format!(
        r#"
upstream:
  up:
    url: {url}
    ca_file: {ca}
    credential: key
credential:
  key:
    auth-gateway:
      key_id: {KEY_ID}
      secret: {{ file: DIR/secret }}
listener:
  - tcp: 127.0.0.1:0
  - unix: DIR/proxy.sock
    mode: "0600"
"#
    );
    let json = format!(
        r#"{{
  "upstream": {{"up": {{"url": "{url}", "ca_file": "{ca}", "credential": "key"}}}},
  "credential": {{"key": {{"auth-gateway": {{"key_id": "{KEY_ID}", "secret": {{"file": "DIR/secret"}}}}}}}},
  "listener": [{{"tcp": "127.0.0.1:0"}}, {{"unix": "DIR/proxy.sock"}}]
}}"#
    );
    for (name, text) in [("c.yaml", &yaml), ("c.yml", &yaml), ("c.json", &json)] {
        let setup = Setup::before(&upstream).written(text).named(name);
        let daemon = setup.start().await;
        assert_eq!(daemon.get("/").await.status, 200, "{name}");
    }
    let broken = Setup::before(&upstream)
        .written("upstream:\n  up:\n    ulr: https://a/\n")
        .named("c.yml");
    let place = format!("{}:3:5: upstream.up.ulr: ", broken.path("c.yml").display());
    assert_says(&refused(&broken), &[&place]);
}

#[test]
fn addresses_open_to_the_network_are_refused() {
    for address in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "8.8.8.8:53"] {
        for table in [
            format!("[[listener]]\ntcp = \"{address}\"\n"),
            format!("[[listener]]\ntcp = \"{address}\"\nallow_non_loopback = true\n"),
            format!("[admin]\ntcp = \"{address}\"\n"),
        ] {
            let setup = setup().more(&table);
            assert_says(&refused(&setup), &["tcp: ", "loopback"]);
        }
    }
}

#[test]
fn routes_and_listeners_that_contradict_each_other_are_reported() {
    let said = refused(&setup().more(
        "[[route]]\npath = \"/a\"\nupstream = \"up\"\n[[route]]\npath = \"/a/\"\nupstream = \"up\"\n[[route]]\npath = \"/b\"\nupstream = \"upp\"\n",
    ));
    assert_says(
        &said,
        &[
            "route[2].path",
            "has a route already",
            "route[3].upstream",
            "did you mean \"up\"?",
        ],
    );

    let twice = setup();
    let socket = twice.path("proxy.sock");
    let said = refused(&twice.more(&format!("[[listener]]\nunix = {socket:?}\n")));
    assert_says(&said, &["listened on already"]);

    let several =
        setup().written("[upstream.a]\nurl = \"https://a/\"\n[upstream.b]\nurl = \"https://b/\"\n");
    assert_says(&refused(&several), &["[[route]]", "a, b"]);
}

#[tokio::test]
async fn the_manager_is_told_why_it_did_not_start() {
    let setup = setup().more("[lgo]\nlevel = \"info\"");
    let mut daemon = crate::common::Daemon::spawn(setup);
    let (code, said) = crate::common::daemon::ended_with(&mut daemon).await;
    assert_eq!(code, EX_CONFIG, "{said}");
    let notice = daemon
        .notified
        .find("STATUS=", |notice| notice.value("STATUS").is_some())
        .await;
    assert_says(
        notice.value("STATUS").unwrap(),
        &["lgo", "did you mean \"log\"?"],
    );
    assert!(
        daemon
            .notified
            .all()
            .iter()
            .all(|notice| !notice.says("READY=1"))
    );
}

// The environment.

/// A daemon that is configured by the environment alone.
fn by_environment(upstream: &Upstream) -> Setup {
    let setup = Setup::before(upstream)
        .without_file()
        .env("MCP_UPSTREAM_URL", &upstream.url())
        .env("MCP_API_KEY", KEY_ID)
        .env("MCP_API_SECRET", SECRET)
        .env("MCP_LISTEN_ADDR", "127.0.0.1:0");
    let socket = setup.path("proxy.sock");
    setup.env("MCP_SOCKET", socket.to_str().unwrap())
}

#[tokio::test]
async fn the_environment_alone_can_set_an_upstream_up() {
    let upstream = Upstream::http();
    let daemon = by_environment(&upstream)
        .env("MCP_SESSION_VALUE", "hush-session")
        .env("MCP_LOG_LEVEL", "trace")
        .start()
        .await;
    assert_eq!(daemon.get("/mcp").await.status, 200);
    assert_eq!(upstream.only().header("x-session-id"), Some("hush-session"));
    assert_eq!(daemon.status()["log_level"], "trace");
    if let Ok(environ) = fs::read(format!("/proc/{}/environ", daemon.pid())) {
        let environ = String::from_utf8_lossy(&environ);
        crate::common::secrets::assert_none("/proc/PID/environ", &environ);
    }
    // What was taken out of the environment is still known at a reload.
    daemon.reload().await;
    assert_eq!(daemon.get("/mcp").await.status, 200);
}

#[tokio::test]
async fn the_environment_may_name_files_and_another_session_header() {
    let upstream = Upstream::http();
    let setup = Setup::before(&upstream).without_file();
    let key = setup.file("key", &format!("{KEY_ID}\n"));
    let secret = setup.path("secret");
    let daemon = setup
        .env("MCP_UPSTREAM_URL", &upstream.url())
        .env("MCP_API_KEY_FILE", key.to_str().unwrap())
        .env("MCP_API_SECRET_FILE", secret.to_str().unwrap())
        .env("MCP_SESSION_HEADER", "X-Tenant")
        .env("MCP_SESSION_VALUE", "hush-tenant")
        .env("MCP_LISTEN_ADDR", "off")
        .start()
        .await;
    assert!(daemon.tcp.is_none());
    let unix = crate::common::Way::Unix(crate::common::Http::One);
    assert_eq!(daemon.ask_by(unix, Ask::get("/mcp")).await.status, 200);
    assert_eq!(upstream.only().header("x-tenant"), Some("hush-tenant"));
}

#[tokio::test]
async fn timeouts_come_from_the_environment() {
    let upstream = Upstream::http();
    upstream.at("/hangs", |_| std::future::pending());
    let mut daemon = by_environment(&upstream)
        .env("MCP_REQUEST_TIMEOUT", "150ms")
        .env("MCP_SERVER_IDLE_TIMEOUT", "200ms")
        .env("MCP_SERVER_READ_TIMEOUT", "5s")
        .env("MCP_SERVER_WRITE_TIMEOUT", "5s")
        .env("MCP_GRACEFUL_SHUTDOWN", "300ms")
        .start()
        .await;
    daemon
        .get("/hangs")
        .await
        .assert_refused(504, "upstream_timeout");
    let mut client = daemon.client(crate::common::Way::ALL[0]).await;
    client.ask(Ask::get("/")).await;
    client.closed().await;
    assert!(daemon.stop().await.success());
}

#[test]
fn values_that_do_not_parse_are_errors_and_never_defaults() {
    for (name, value) in [
        ("MCP_REQUEST_TIMEOUT", "15"),
        ("MCP_REQUEST_TIMEOUT", "soon"),
        ("MCP_UPSTREAM_INSECURE", "maybe"),
        ("MCP_LOG_LEVEL", "loud"),
        ("MCP_LISTEN_ADDR", "here"),
        ("MCP_LISTEN_ADDR", "0.0.0.0:80"),
        ("MCP_SOCKET", "relative"),
        ("MCP_GRACEFUL_SHUTDOWN", "-1s"),
        ("MCP_SERVER_READ_TIMEOUT", ""),
        ("MCP_SESSION_HEADER", "with space"),
        ("MCP_UPSTREAM_URL", "no url"),
        ("MCP_API_KEY_FILE", "/nowhere/at/all"),
    ] {
        let setup = setup().without_file();
        let mut command = process::command(setup.dir());
        command
            .arg("check")
            .env("MCP_CONFIG", setup.file("empty.toml", ""))
            .env("MCP_UPSTREAM_URL", "https://mcp.example/")
            .env("MCP_API_KEY", KEY_ID)
            .env("MCP_API_SECRET", SECRET)
            .env("MCP_SESSION_VALUE", "hush")
            .env(name, value);
        let ended = process::run(&mut command);
        assert_eq!(ended.code, EX_CONFIG, "{name}={value}: {ended:?}");
        assert_says(&ended.stderr, &[name]);
    }
}

#[test]
fn a_half_of_a_credential_is_asked_for_by_name() {
    let setup = setup();
    for (set, missing) in [
        ("MCP_API_KEY", "MCP_API_SECRET"),
        ("MCP_API_SECRET", "MCP_API_KEY"),
    ] {
        let mut command = process::command(setup.dir());
        command
            .arg("check")
            .env("MCP_CONFIG", setup.file("empty.toml", ""))
            .env("MCP_UPSTREAM_URL", "https://mcp.example/")
            .env(set, "hush");
        let ended = process::run(&mut command);
        assert_eq!(ended.code, EX_CONFIG);
        assert_says(
            &ended.stderr,
            &[
                &format!("{missing}: is not set"),
                &format!("{missing}_FILE"),
            ],
        );
    }
}

#[tokio::test]
async fn flags_win_over_the_environment_which_wins_over_the_file() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream)
        .log_level("error")
        .env("MCP_LOG_LEVEL", "warning")
        .start()
        .await;
    assert_eq!(daemon.status()["log_level"], "warning");
    let daemon = Setup::before(&upstream)
        .log_level("error")
        .env("MCP_LOG_LEVEL", "warning")
        .arg("--log-level=trace")
        .start()
        .await;
    assert_eq!(daemon.status()["log_level"], "trace");
}

#[tokio::test]
async fn an_insecure_upstream_works_and_is_warned_of_at_every_start() {
    let upstream = Upstream::https();
    let setup = by_environment(&upstream).env("MCP_UPSTREAM_INSECURE", "true");
    let daemon = setup.start().await;
    assert_eq!(daemon.get("/").await.status, 200);
    let warned = |line: &serde_json::Value| {
        line["level"] == "warning"
            && line["warning"]
                .as_str()
                .is_some_and(|w| w.contains("not verified"))
    };
    daemon.logged("the warning", warned).await;
    let before = daemon.log.len();
    daemon.reload().await;
    let warned_again = move |line: &String| warned(&crate::common::daemon::fields(line));
    daemon
        .log
        .find_after(before, "the warning again", warned_again)
        .await;
}

#[test]
fn check_says_what_it_found() {
    let setup = setup();
    let Ended {
        code,
        stdout,
        stderr,
    } = setup.run(&["check"]);
    assert_eq!((code, &*stderr), (Some(0), ""));
    let file = setup.path("config.toml");
    assert_says(
        &stdout,
        &["ok: ", file.to_str().unwrap(), "1 upstream", "2 listener"],
    );
}
