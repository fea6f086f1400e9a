//! What an operator sees: health, readiness, metrics, the log.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::common::daemon::{die_with_parent, fields};
use crate::common::{Ask, Http, Setup, Upstream, Way, admin, process, until};

#[tokio::test]
async fn healthz_says_that_the_process_lives_on_every_listener() {
    let daemon = Setup::at("http://127.0.0.1:1").start().await;
    for way in Way::ALL {
        let answer = daemon.ask_by(way, Ask::get("/healthz")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["status"].as_str()),
            (200, Some("ok"))
        );
        assert_eq!(answer.code(), None);
    }
    assert_eq!(daemon.admin("GET", "/healthz").0, 200);
}

#[tokio::test]
async fn readyz_takes_a_real_look_at_each_upstream_and_keeps_it_with_its_age() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    for way in Way::ALL {
        let answer = daemon.ask_by(way, Ask::get("/readyz")).await;
        let page = answer.json();
        assert_eq!(
            (answer.status.as_u16(), &page["status"]),
            (200, &"ready".into()),
            "{page}"
        );
        assert_eq!(page["upstreams"]["up"]["ok"], true);
        assert!(page["upstreams"]["up"]["age_seconds"].is_u64(), "{page}");
        assert_eq!(page["configuration"]["ok"], true);
        assert_eq!(page["secrets"]["ok"], true);
    }
    // The look is kept for a while, however often somebody asks.
    let before = upstream.connections();
    for _ in 0..20 {
        daemon.get("/readyz").await;
    }
    assert_eq!(upstream.connections(), before);
    assert_eq!(upstream.count(), 0, "no request was made of it");
    assert_eq!(daemon.admin("GET", "/readyz").0, 200);
}

#[tokio::test]
async fn readyz_is_a_503_that_names_the_upstream_that_is_not_there() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream).more(
        "[upstream.gone]\nurl = \"http://127.0.0.1:1\"\ncredential = \"key\"\n[[route]]\npath = \"/\"\nupstream = \"up\"\n[[route]]\npath = \"/gone\"\nupstream = \"gone\"\n",
    );
    let daemon = setup.start().await;
    let answer = daemon.get("/readyz").await;
    let page = answer.json();
    assert_eq!(
        (answer.status.as_u16(), &page["status"]),
        (503, &"not_ready".into()),
        "{page}"
    );
    assert_eq!(page["upstreams"]["up"]["ok"], true);
    assert_eq!(page["upstreams"]["gone"]["ok"], false);
    assert!(
        page["upstreams"]["gone"]["error"]
            .as_str()
            .unwrap()
            .contains("refused"),
        "{page}"
    );
    let status = daemon.status();
    assert_eq!(status["upstreams"][1]["health"], "unreachable");
}

#[tokio::test]
async fn the_admin_pages_are_nowhere_but_on_the_admin_listeners() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream)
        .more("[admin]\ntcp = \"127.0.0.1:0\"")
        .start()
        .await;
    for way in Way::ALL {
        for page in ["/metrics", "/status", "/-/reload", "/debug/requests"] {
            // For the upstream, like any other path.
            assert_eq!(daemon.ask_by(way, Ask::get(page)).await.status, 200);
            assert_eq!(upstream.last().path(), page);
        }
    }
    assert!(daemon.status()["last_reload"].is_null());
    let status = daemon.status();
    let listeners = status["listeners"].as_array().unwrap();
    let admin_tcp = listeners
        .iter()
        .filter(|listener| listener["for"] == "admin")
        .find_map(|listener| listener["address"].as_str().unwrap().parse().ok())
        .unwrap();
    let answer = crate::common::Client::tcp(admin_tcp, Http::One)
        .await
        .ask(Ask::get("/metrics"))
        .await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    assert!(answer.text().ends_with("# EOF\n"));
    for page in ["/debug/requests", "/debug/log-level"] {
        let mut client = crate::common::Client::tcp(admin_tcp, Http::One).await;
        assert_eq!(client.ask(Ask::get(page)).await.status, 404, "{page}");
    }
}

#[tokio::test]
async fn admin_pages_have_their_methods_and_nothing_else_is_there() {
    let daemon = Setup::at("http://127.0.0.1:1").start().await;
    for (method, page, status) in [
        ("POST", "/status", 405),
        ("GET", "/-/reload", 405),
        ("DELETE", "/metrics", 405),
        ("HEAD", "/status", 200),
        ("GET", "/", 404),
        ("GET", "/mcp", 404),
    ] {
        assert_eq!(daemon.admin(method, page).0, status, "{method} {page}");
    }
    assert!(daemon.status()["last_reload"].is_null());
}

#[tokio::test]
async fn a_request_counts_for_its_route_its_bytes_its_handshake_and_its_credential() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream)
        .more("[[route]]\npath = \"/acme\"\nupstream = \"up\"\nstrip_prefix = false\n");
    let daemon = setup.start().await;
    let body = r#"{"id":1,"method":"tools/list"}"#;
    daemon.post("/acme/mcp", body).await;
    let count = |series: &str| daemon.metric(&format!("mcp_auth_proxy_{series}"));
    until("it was counted", || {
        count(r#"route_requests_total{route="/acme",upstream="up",method="POST",status="2xx"}"#)
            == 1.0
    })
    .await;
    assert_eq!(
        count(r#"received_bytes_total{upstream="up"}"#),
        body.len() as f64
    );
    assert!(count(r#"sent_bytes_total{upstream="up"}"#) > 0.0);
    assert_eq!(
        count(r#"time_to_first_byte_seconds_count{upstream="up"}"#),
        1.0
    );
    let full = count(r#"upstream_tls_handshakes_total{upstream="up",outcome="full"}"#);
    let resumed = count(r#"upstream_tls_handshakes_total{upstream="up",outcome="resumed"}"#);
    assert!(full >= 1.0, "{full}");
    assert_eq!(
        (full + resumed) as usize,
        upstream.connections(),
        "each connection is one handshake"
    );
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let ends = count(r#"upstream_certificate_expiry_timestamp_seconds{upstream="up"}"#);
    assert!(ends > now.as_secs_f64(), "{ends}");
    let since = count(r#"credential_since_timestamp_seconds{upstream="up",credential="key"}"#);
    assert!(now.as_secs_f64() - since < 60.0, "{since}");
    assert!(daemon.metric("process_resident_memory_bytes") > 1e6);
}

#[tokio::test]
async fn requests_are_counted_by_mcp_method_and_calls_by_tool() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    for body in [
        r#"{"id":1,"method":"tools/call","params":{"name":"echo"}}"#,
        r#"{"id":2,"method":"tools/call","params":{"name":"echo"}}"#,
        r#"{"id":3,"method":"made/up"}"#,
    ] {
        daemon.post("/mcp", body).await;
    }
    let count = |series: &str| daemon.metric(&format!("mcp_auth_proxy_{series}"));
    until("all were counted", || {
        count(r#"mcp_requests_total{upstream="up",mcp_method="tools/call",status="2xx"}"#) == 2.0
            && count(r#"mcp_requests_total{upstream="up",mcp_method="other",status="2xx"}"#) == 1.0
    })
    .await;
    let calls = count(r#"tool_calls_total{upstream="up",tool="echo",status="2xx"}"#);
    assert_eq!(calls, 2.0);
}

#[tokio::test]
async fn requests_are_counted_by_upstream_and_class_of_status() {
    let upstream = Upstream::https();
    upstream.says("/missing", 404, &[], "");
    upstream.says("/broken", 500, &[], "");
    let daemon = Setup::before(&upstream).start().await;
    for (path, times) in [("/", 3), ("/missing", 2), ("/broken", 1)] {
        for _ in 0..times {
            daemon.get(path).await;
        }
    }
    let requests = |class: &str| {
        daemon.metric(&format!(
            "mcp_auth_proxy_requests_total{{upstream=\"up\",status=\"{class}\"}}"
        ))
    };
    until("all were counted", || {
        (requests("2xx"), requests("4xx"), requests("5xx")) == (3.0, 2.0, 1.0)
    })
    .await;
    let durations = "mcp_auth_proxy_request_duration_seconds_count{upstream=\"up\"}";
    assert_eq!(daemon.metric(durations), 6.0);
    until("nothing is in flight", || {
        daemon.metric("mcp_auth_proxy_requests_in_flight") == 0.0
    })
    .await;
}

#[tokio::test]
async fn requests_and_streams_in_flight_are_shown() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    let pipes = upstream.streams_at("/events");
    let mut client = daemon.client(Way::Unix(Http::Two)).await;
    let one = client.open(Ask::events("/events")).await;
    let two = client.open(Ask::events("/events")).await;
    pipes.find_after(1, "both streams", |_| true).await;
    let status = daemon.status();
    assert_eq!(
        (&status["event_streams"], &status["requests_in_flight"]),
        (&2.into(), &2.into())
    );
    assert_eq!(daemon.metric("mcp_auth_proxy_requests_in_flight"), 2.0);
    assert_eq!(daemon.metric("mcp_auth_proxy_connections_open"), 1.0);
    drop((one, two));
    until("they are gone", || {
        daemon.status()["requests_in_flight"] == 0
    })
    .await;
}

#[tokio::test]
async fn a_requests_line_says_who_asked_what_of_whom_and_how_it_went() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    for (i, (body, mcp_method, mcp_name)) in [
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"token":"hush"}}}"#, "tools/call", Some("echo")),
        (r#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///x"}}"#, "resources/read", Some("file:///x")),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#, "tools/list", None),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("line-{i}");
        let ask = Ask::post("/mcp?token=hush", body)
            .header("x-request-id", &id)
            .header("authorization", "Bearer hush")
            .header("cookie", "hush");
        daemon.ask_by(Way::Unix(Http::One), ask).await;
        let lines = daemon.requests_logged(&id).await;
        let [line] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!(line["msg"], "request");
        assert_eq!(line["level"], "info");
        assert_eq!(line["method"], "POST");
        assert_eq!(line["path"], "/mcp");
        assert_eq!(line["mcp_method"], mcp_method);
        assert_eq!(line["mcp_name"].as_str(), mcp_name);
        assert_eq!(line["upstream"], "up");
        assert_eq!(line["status"], 200);
        assert_eq!(line["bytes"], body.len());
        assert_eq!(line["retries"], 0);
        assert!(line["duration_ms"].as_f64().unwrap() > 0.0);
        assert!(line["time"].as_str().unwrap().ends_with('Z'));
        assert!(line["peer_uid"].is_u64());
    }
}

#[tokio::test]
async fn every_log_line_is_a_json_object_with_time_level_and_message() {
    let upstream = Upstream::https();
    let mut daemon = Setup::before(&upstream).log_level("trace").start().await;
    for way in Way::ALL {
        let odd = "/%22quoted%22%7B%7D/\u{7f}".replace('\u{7f}', "%e4%b8%96");
        daemon.ask_by(way, Ask::get(&odd)).await;
    }
    daemon.get("/a%2fb").await;
    daemon.reload().await;
    daemon.stop().await;
    let lines = daemon.log.all();
    assert!(lines.len() > 10);
    for line in lines {
        let fields: Value = fields(&line);
        for key in ["time", "level", "msg"] {
            assert!(fields[key].is_string(), "{line}");
        }
    }
}

#[tokio::test]
async fn the_log_can_be_had_as_text_without_colours_where_no_terminal_is() {
    let upstream = Upstream::https();
    let mut daemon = Setup::before(&upstream)
        .arg("--log-format=text")
        .start()
        .await;
    daemon
        .ask(Ask::get("/text").header("x-request-id", "as-text"))
        .await;
    let line = daemon
        .log
        .find("the request's line", |line| {
            line.contains(" request ") && line.contains("as-text")
        })
        .await;
    assert!(
        !line.contains('\u{1b}') && !line.starts_with('{'),
        "{line:?}"
    );
    assert!(line.contains("/text") && line.contains("200"), "{line}");
    daemon.stop().await;
    assert!(daemon.log.all().iter().all(|line| !line.contains('\u{1b}')));
}

#[tokio::test]
async fn under_systemd_each_line_has_its_priority() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    // systemd names the journal's stream by device and inode; a pipe's will do for the daemon.
    let (reading, writing) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    let stat = nix::sys::stat::fstat(&writing).unwrap();
    let mut command = process::command(setup.dir());
    die_with_parent(&mut command);
    let mut child = command
        .args(["serve", "--config"])
        .arg(setup.write())
        .env("JOURNAL_STREAM", format!("{}:{}", stat.st_dev, stat.st_ino))
        .stdout(Stdio::null())
        .stderr(Stdio::from(writing))
        .spawn()
        .unwrap();
    // The writing end in this process went with the command.
    drop(command);
    crate::common::until("it serves", || setup.path("proxy.sock").exists()).await;
    let mut client = crate::common::Client::unix(&setup.path("proxy.sock"), Http::One).await;
    client.ask(Ask::get("/ok")).await;
    client.ask(Ask::get("/a%2fb")).await;
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    child.wait().unwrap();
    let mut text = String::new();
    std::fs::File::from(reading)
        .read_to_string(&mut text)
        .unwrap();
    for line in text.lines() {
        let (priority, rest) = line.split_at(3);
        let level = fields(rest)["level"].as_str().unwrap().to_owned();
        let expected = match &*level {
            "error" => "<3>",
            "warning" => "<4>",
            "info" => "<6>",
            _ => "<7>",
        };
        assert_eq!(priority, expected, "{line}");
    }
    assert!(text.contains("<4>{") && text.contains("<6>{"), "{text}");
}

#[tokio::test]
async fn a_log_that_nobody_reads_stops_nothing() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream).log_level("trace");
    let (reading, writing) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    let mut command = process::command(setup.dir());
    die_with_parent(&mut command);
    let mut child = command
        .args(["serve", "--config"])
        .arg(setup.write())
        .stdout(Stdio::null())
        .stderr(Stdio::from(writing))
        .spawn()
        .unwrap();
    drop(command);
    crate::common::until("it serves", || setup.path("proxy.sock").exists()).await;
    let mut client = crate::common::Client::unix(&setup.path("proxy.sock"), Http::One).await;
    // Many times what the pipe and the queue hold.
    let path = format!("/{}", "a".repeat(10_000));
    for _ in 0..300 {
        assert_eq!(client.ask(Ask::get(&path)).await.status, 200);
    }
    drop(reading);
    assert_eq!(client.ask(Ask::get("/after")).await.status, 200);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn on_a_terminal_the_log_is_text_with_colours() {
    if Command::new("script").arg("--version").output().is_err() {
        return;
    }
    let setup = Setup::at("http://127.0.0.1:1");
    let config = setup.write();
    let binary = process::binary();
    let line = format!("{} serve --config {}", binary.display(), config.display());
    let plain = process::command(setup.dir());
    let mut command = Command::new("script");
    command
        .args(["-qec", &line, "/dev/null"])
        .env_clear()
        .envs(
            plain
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("TERM", "xterm-256color")
        .current_dir(setup.dir())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    die_with_parent(&mut command);
    let terminal = command.spawn().unwrap();
    until("it serves", || setup.path("admin.sock").exists()).await;
    let (_, page) = admin::ask(&setup.path("admin.sock"), "GET", "/status").unwrap();
    let page: Value = serde_json::from_str(&page).unwrap();
    let pid = i32::try_from(page["pid"].as_i64().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    let output = terminal.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("\u{1b}[") && text.contains("listening"),
        "{text:?}"
    );
    assert!(!text.contains("{\"time\""), "{text}");
}
