//! `doctor` finds each fault, and nothing where there is none.

mod host;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::common::process::Ended;
use crate::common::tls::{Authority, Tls};
use crate::common::upstream::{event_stream, json as json_answer, unauthorized};
use crate::common::{Call, KEY_ID, Outcome, SECRET, Setup, Upstream, body};

/// What `doctor --json` found.
struct Report {
    ended: Ended,
    page: Value,
}

impl Report {
    fn of(setup: &Setup) -> Self {
        Self::with(setup, &[])
    }

    fn with(setup: &Setup, more: &[&str]) -> Self {
        let args = [&["doctor", "--json"][..], more].concat();
        Self::from(setup.run(&args))
    }

    fn from(ended: Ended) -> Self {
        assert_eq!(ended.stderr, "", "{ended:?}");
        let page = serde_json::from_str(&ended.stdout).unwrap();
        Self { ended, page }
    }

    fn finding(&self, code: &str) -> Option<&Value> {
        let findings = self.page["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["code"] == code)
    }

    #[track_caller]
    fn has(&self, code: &str) -> &Value {
        self.finding(code)
            .unwrap_or_else(|| panic!("no {code} in {:#}", self.page))
    }

    #[track_caller]
    fn lacks(&self, code: &str) {
        assert!(self.finding(code).is_none(), "{:#}", self.page);
    }

    /// The failures, apart from that of the daemon, which most tests need not have.
    fn failures(&self) -> Vec<&str> {
        let findings = self.page["findings"].as_array().unwrap().iter();
        let failed = findings.filter(|finding| finding["verdict"] == "fail");
        let codes = failed.map(|finding| finding["code"].as_str().unwrap());
        codes.filter(|code| *code != "no_daemon").collect()
    }

    /// Fails for this reason alone, with a next step and this exit code.
    #[track_caller]
    fn fails(&self, code: &str, exit: i32) -> &Value {
        assert_eq!(self.failures(), [code], "{:#}", self.page);
        assert_eq!(self.ended.code, Some(exit), "{:#}", self.page);
        let finding = self.has(code);
        assert!(finding["next"].is_string(), "{finding}");
        finding
    }
}

#[track_caller]
fn says(finding: &Value, part: &str) {
    let text = finding["message"].as_str().unwrap();
    assert!(text.contains(part), "{part} is not in {text}");
}

/// A server of 2025-11-25 that keeps one session.
async fn legacy(mut call: Call) -> Outcome {
    match call.seen.method.as_str() {
        "DELETE" => Ok(status(204)),
        "GET" => {
            let (pipe, response) = event_stream();
            tokio::spawn(async move {
                pipe.send(": hello\n\n").await;
                pipe.closed().await;
            });
            Ok(response)
        }
        _ => {
            let message: Value = serde_json::from_slice(&call.read().await?).unwrap();
            Ok(answer(&message))
        }
    }
}

fn answer(message: &Value) -> Response<body::Body> {
    let result = match message["method"].as_str().unwrap() {
        "initialize" => json!({"protocolVersion": "2025-11-25", "capabilities": {},
            "serverInfo": {"name": "x", "version": "1"}}),
        "notifications/initialized" => return status(202),
        _ => {
            let mut refusal = json_answer(
                json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32000, "message": "no session"}})
                    .to_string(),
            );
            *refusal.status_mut() = StatusCode::BAD_REQUEST;
            return refusal;
        }
    };
    let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
    let mut answer = json_answer(answer.to_string());
    let session = "s-1".parse().unwrap();
    answer.headers_mut().insert("mcp-session-id", session);
    answer
}

fn status(status: u16) -> Response<body::Body> {
    let response = Response::builder().status(status);
    response.body(body::empty()).unwrap()
}

fn serving() -> Upstream {
    let upstream = Upstream::https();
    upstream.at("/mcp", legacy);
    upstream
}

/// Everything at `/mcp` gets what `make` makes.
fn answering(upstream: &Upstream, make: impl Fn() -> Response<body::Body> + Send + Sync + 'static) {
    upstream.at("/mcp", move |_| std::future::ready(Ok(make())));
}

fn plain(status: u16, headers: &[(&str, &str)], words: &'static str) -> Response<body::Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body::full(words)).unwrap()
}

#[tokio::test]
async fn where_all_is_well_it_finds_nothing_and_leaves_no_session() {
    let upstream = serving();
    let daemon = Setup::before(&upstream).start().await;
    let report = Report::of(&daemon.setup);
    assert_eq!(report.failures(), [""; 0], "{:#}", report.page);
    assert_eq!(
        (report.ended.code, &report.page["exit"]),
        (Some(0), &json!(0))
    );
    for code in [
        "configuration_ok",
        "files_ok",
        "daemon_ok",
        "listener_ok",
        "connect_ok",
        "tls_ok",
        "http_ok",
        "clock_ok",
        "signature_ok",
        "mcp_ok",
        "stream_ok",
    ] {
        assert_eq!(report.has(code)["verdict"], "pass");
    }
    says(report.has("mcp_ok"), "2025-11-25");
    says(report.has("tls_ok"), "HTTP/2");
    assert_eq!(upstream.last().method, "DELETE");
    assert_eq!(upstream.last().header("mcp-session-id"), Some("s-1"));
}

#[test]
fn people_get_one_line_for_each_check_and_the_next_step_below() {
    let upstream = serving();
    let setup = Setup::before(&upstream);
    let ended = setup.run(&["doctor"]);
    assert_eq!(ended.code, Some(69), "{ended:?}");
    for part in [
        "This host\n",
        "  FAIL  daemon         no daemon answers at",
        "[no_daemon]\n",
        "> mcp-auth-proxy serve",
        "\nUpstream up\n",
        "  ok    signature      ",
        "\n1 failed, 0 with a warning, ",
    ] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
}

#[test]
fn a_fault_in_the_configuration_is_named_with_its_place() {
    let setup = Setup::at("https://127.0.0.1:1").upstream("ulr = \"x\"");
    let report = Report::of(&setup);
    let finding = report.fails("configuration_wrong", 78);
    let detail = finding["details"][0].as_str().unwrap();
    assert!(detail.contains("config.toml:"), "{detail}");
    assert!(detail.contains("did you mean \"url\"?"), "{detail}");
}

#[test]
fn a_configuration_that_others_may_write_is_warned_about() {
    let upstream = serving();
    let setup = Setup::before(&upstream);
    let path = setup.write();
    let mut command = setup.command(&["doctor", "--json"]);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o622)).unwrap();
    let ended = crate::common::process::run(&mut command);
    assert!(ended.stdout.contains("file_writable"), "{ended:?}");
    assert!(ended.stdout.contains("chmod go-w"), "{ended:?}");
}

#[test]
fn a_port_that_is_another_programs_is_named() {
    let other = Upstream::http();
    other.takes_unsigned();
    let upstream = serving();
    let tcp = format!("tcp = \"127.0.0.1:{}\"", other.port());
    let setup = Setup::before(&upstream).replaced_tcp_listener(&tcp);
    Report::of(&setup).fails("listener_taken", 69);
}

#[test]
fn a_route_that_a_listener_has_alone_is_found_by_its_path() {
    let upstream = serving();
    upstream.at("/own/mcp", legacy);
    upstream.at("/shared/mcp", legacy);
    let own = "[[listener.route]]\npath = \"/own\"\nupstream = \"up\"\n";
    let shared = "[[route]]\npath = \"/shared\"\nupstream = \"up\"\n";
    let setup = Setup::before(&upstream).unix_listener(own).more(shared);
    for route in ["/own/mcp", "/shared/mcp"] {
        Report::with(&setup, &["--route", route]).has("mcp_ok");
    }
    Report::with(&setup, &["--route", "/neither"]).lacks("mcp_ok");
}

#[tokio::test]
async fn a_listener_that_speaks_tls_to_clients_it_knows_is_no_fault() {
    let upstream = serving();
    let setup = Setup::before(&upstream);
    let identity = crate::common::tls::authority().issue(&["localhost"]);
    let cert = setup.file("server.pem", &identity.certificate);
    let key = setup.file("server.key", &identity.key);
    let roots = setup.path("ca.pem");
    let tls = format!("tls = {{ cert = {cert:?}, key = {key:?}, client_ca = {roots:?} }}");
    let daemon = setup.tcp_listener(&tls).start().await;
    let report = Report::of(&daemon.setup);
    assert_eq!(report.failures(), [""; 0], "{:#}", report.page);
    let findings = report.page["findings"].as_array().unwrap();
    let listeners = findings.iter().filter(|it| it["code"] == "listener_ok");
    let said: Vec<_> = listeners
        .map(|it| it["message"].as_str().unwrap())
        .collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said.iter()
            .any(|it| it.ends_with("takes connections, by TLS")),
        "{said:?}"
    );
}

#[tokio::test]
async fn a_reload_that_was_refused_or_left_out_is_told() {
    let upstream = serving();
    let daemon = Setup::before(&upstream).start().await;
    let path = daemon.setup.write();
    let later = SystemTime::now() + Duration::from_secs(60);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let mut command = daemon.setup.command(&["doctor", "--json"]);
    file.set_modified(later).unwrap();
    let ended = crate::common::process::run(&mut command);
    assert!(ended.stdout.contains("not_reloaded"), "{ended:?}");

    std::fs::write(daemon.setup.path("secret"), "").unwrap();
    assert_eq!(daemon.setup.run(&["reload"]).code, Some(78));
    daemon.setup.file("secret", SECRET);
    let report = Report::of(&daemon.setup);
    let finding = report.has("reload_refused");
    assert!(finding["details"][0].as_str().unwrap().contains("is empty"));
}

#[test]
fn a_name_that_does_not_resolve_and_a_port_where_nobody_listens_are_told_apart() {
    let report = Report::of(&Setup::at("https://no-such-host.invalid/"));
    says(report.fails("dns_failed", 69), "no-such-host.invalid");
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", free.local_addr().unwrap());
    drop(free);
    let report = Report::of(&Setup::at(&url));
    report.fails("connect_failed", 69);
}

#[test]
fn certificates_are_refused_for_what_is_wrong_with_them_and_shown() {
    let another = |name| Authority::new(name).issue(&["127.0.0.1"]);
    let trusted = crate::common::tls::authority;
    for (identity, code, exit, part) in [
        (another("private"), "unknown_ca", 78, "issuer is CN=private"),
        (another("the tests' own"), "unknown_ca", 78, "its issuer is"),
        (
            trusted().issue(&["elsewhere.example"]),
            "hostname_mismatch",
            78,
            "is for elsewhere.example and not for 127.0.0.1",
        ),
        (
            trusted().issue_until(2020),
            "certificate_expired",
            69,
            "2020-01-01",
        ),
        (
            trusted().issue_between(in_days(2), in_days(90)),
            "certificate_not_yet_valid",
            69,
            "good",
        ),
        (
            trusted().issue_authority(),
            "certificate_unfit",
            69,
            "CaUsedAsEndEntity",
        ),
    ] {
        let upstream = Upstream::tls(Tls {
            identity,
            ..Tls::default()
        });
        let report = Report::of(&Setup::before(&upstream));
        let finding = report.fails(code, exit);
        says(finding, part);
        let chain = finding["details"].as_array().unwrap();
        assert!(
            chain[0].as_str().unwrap().contains("issued by"),
            "{finding}"
        );
        assert_eq!(upstream.count(), 0);
    }
}

fn in_days(days: u64) -> SystemTime {
    SystemTime::now() + Duration::from_secs(days * 24 * 3600)
}

#[test]
fn a_certificate_that_ends_soon_is_warned_about_while_all_else_works() {
    let identity =
        crate::common::tls::authority().issue_between(SystemTime::UNIX_EPOCH, in_days(9));
    let upstream = Upstream::tls(Tls {
        identity,
        ..Tls::default()
    });
    upstream.at("/mcp", legacy);
    let report = Report::of(&Setup::before(&upstream));
    let finding = report.has("certificate_expires_soon");
    assert_eq!(finding["verdict"], "warn");
    says(finding, "(8 days)");
    report.has("signature_ok");
}

#[test]
fn a_certificate_that_is_not_verified_is_warned_about() {
    let upstream = serving();
    let setup = Setup::before(&upstream).upstream("insecure_skip_verify = true");
    let report = Report::of(&setup);
    assert_eq!(report.has("tls_unverified")["verdict"], "warn");
    says(report.has("configuration_doubtful"), "insecure_skip_verify");
    report.has("signature_ok");
}

#[test]
fn a_server_in_clear_behind_an_https_url_and_one_without_http2_are_told_apart() {
    let upstream = Upstream::http();
    let url = upstream.url().replace("http://", "https://");
    Report::of(&Setup::at(&url)).fails("tls_failed", 69);
    let upstream = Upstream::https_h1();
    let setup = Setup::before(&upstream).upstream("http_version = \"2\"");
    Report::of(&setup).fails("no_http2", 78);
}

#[test]
fn a_corporate_proxy_that_refuses_is_named_without_its_password() {
    let upstream = serving();
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = proxy.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        // A look at the address, then the tunnel.
        for _ in 0..2 {
            let (mut client, _) = proxy.accept().unwrap();
            let mut head = [0; 1024];
            if client.read(&mut head).is_ok_and(|read| read > 0) {
                let refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n";
                let _ = client.write_all(refusal);
            }
        }
    });
    let url = format!("http://user:hush@127.0.0.1:{port}");
    let setup = Setup::before(&upstream).env("HTTPS_PROXY", &url);
    let report = Report::of(&setup);
    says(report.has("proxy_used"), &format!("127.0.0.1:{port}"));
    report.fails("proxy_refused", 69);
    thread.join().unwrap();
}

#[test]
fn the_gateways_refusals_are_told_apart() {
    for (words, code, exit) in [
        ("Invalid Api Key", "wrong_key", 78),
        ("Api Key is 42 days expired", "expired_key", 78),
        ("user not available", "user_unavailable", 77),
        ("User bob is disabled until tomorrow", "user_disabled", 77),
        ("who are you", "credential_refused", 78),
    ] {
        let upstream = Upstream::https();
        answering(&upstream, move || unauthorized(words));
        let report = Report::of(&Setup::before(&upstream));
        says(report.fails(code, exit), words);
    }
}

#[test]
fn a_wrong_secret_and_a_wrong_clock_are_told_apart_though_the_words_are_the_same() {
    let upstream = serving();
    upstream.expects_refusals();
    upstream.accept_only(&[(KEY_ID, "hush-another")]);
    let report = Report::of(&Setup::before(&upstream));
    report.fails("wrong_secret", 78);

    let upstream = Upstream::https();
    answering(&upstream, || {
        let there = SystemTime::now() + Duration::from_secs(3600);
        let mut refusal = unauthorized("Invalid Signature");
        let date = httpdate::fmt_http_date(there).parse().unwrap();
        refusal.headers_mut().insert("date", date);
        refusal
    });
    let report = Report::of(&Setup::before(&upstream));
    let finding = report.fails("clock_skew", 69);
    says(finding, "behind the upstream's");
}

#[test]
fn a_clock_that_drifts_is_warned_about_while_all_else_works() {
    let upstream = Upstream::https();
    upstream.at("/mcp", |call| async move {
        let mut response = legacy(call).await?;
        let there = SystemTime::now() - Duration::from_secs(100);
        let date = httpdate::fmt_http_date(there).parse().unwrap();
        response.headers_mut().insert("date", date);
        Ok(response)
    });
    let report = Report::of(&Setup::before(&upstream));
    says(report.has("clock_drifts"), "ahead of the upstream's");
    assert_eq!(report.failures(), [""; 0]);
}

#[test]
fn answers_that_are_no_mcp_servers_are_told_apart() {
    type Make = fn() -> Response<body::Body>;
    let cases: [(Make, &str, i32); 6] = [
        (|| plain(404, &[], "nothing here"), "wrong_path", 78),
        (|| plain(405, &[], ""), "wrong_path", 78),
        (
            || plain(302, &[("location", "https://elsewhere/?token=hush")], ""),
            "redirected",
            78,
        ),
        (
            || plain(200, &[("content-type", "text/html")], "<h1>Log in</h1>"),
            "web_page",
            78,
        ),
        (|| plain(403, &[], "not yours"), "forbidden", 77),
        (|| plain(500, &[], "oh dear"), "upstream_fails", 69),
    ];
    for (make, code, exit) in cases {
        let upstream = Upstream::https();
        answering(&upstream, make);
        upstream.at("/", move |_| std::future::ready(Ok(make())));
        let report = Report::of(&Setup::before(&upstream));
        report.fails(code, exit);
    }
    let upstream = Upstream::https();
    answering(&upstream, || {
        plain(429, &[("retry-after", "7")], "slow down")
    });
    let report = Report::of(&Setup::before(&upstream));
    says(report.has("rate_limited"), "Retry-After 7");
    assert_eq!(report.failures(), [""; 0]);
}

#[test]
fn an_endpoint_beside_the_usual_path_is_found_and_one_elsewhere_by_its_name() {
    let upstream = Upstream::https();
    upstream.says("/mcp", 404, &[], "");
    upstream.at("/", legacy);
    upstream.at("/v2/tools", legacy);
    let setup = Setup::before(&upstream);
    says(Report::of(&setup).has("mcp_ok"), "ask for /:");
    let report = Report::with(&setup, &["--route", "/v2/tools"]);
    says(report.has("mcp_ok"), "ask for /v2/tools:");
}

#[test]
fn an_upstream_that_wants_a_credential_and_gets_none_is_told() {
    let upstream = Upstream::https();
    upstream.takes_unsigned();
    answering(&upstream, || unauthorized("who are you"));
    let setup = Setup::before(&upstream);
    let config = setup.config().replace("credential = \"key\"\n", "");
    let report = Report::of(&setup.written(&config));
    report.has("unsigned");
    report.fails("credential_wanted", 78);
}

#[test]
fn an_issuer_that_gives_no_token_is_told_with_its_words() {
    let (issuer, upstream) = (Upstream::https(), serving());
    issuer.takes_unsigned();
    let refusal = r#"{"error":"invalid_client","error_description":"nobody we know"}"#;
    issuer.says(
        "/token",
        401,
        &[("content-type", "application/json")],
        refusal,
    );
    let credential = format!(
        "[credential.key.oauth-client-credentials]\ntoken_url = \"{}/token\"\nclient_id = \"me\"\n\
         client_secret = {{ file = \"DIR/secret\" }}\nca_file = \"DIR/ca.pem\"",
        issuer.url()
    );
    let setup = Setup::before(&upstream);
    let setup = setup.written(&crate::credentials::config(&upstream, &credential));
    let report = Report::of(&setup);
    let finding = report.fails("credential_unavailable", 69);
    says(finding, "invalid_client");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn http2_that_fails_where_1_1_works_is_told() {
    let upstream = Upstream::https();
    upstream.at("/mcp", |call| async move {
        match call.seen.version {
            http::Version::HTTP_2 => Err(body::Cut),
            _ => legacy(call).await,
        }
    });
    let report = Report::of(&Setup::before(&upstream));
    let finding = report.fails("http2_broken", 69);
    assert!(finding["next"].as_str().unwrap().contains("\"1.1\""));
}

/// Says this to whoever connects, once it has heard something, and hangs up.
struct Saying {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Saying {
    fn start(words: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                if seen.load(Ordering::Relaxed) {
                    return;
                }
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(words);
            }
        });
        Self {
            address,
            is_over,
            thread: Some(thread),
        }
    }

    fn setup(&self) -> Setup {
        Setup::at(&format!("http://{}/", self.address))
    }
}

impl Drop for Saying {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().unwrap().join();
    }
}

#[test]
fn what_speaks_no_http_and_what_hangs_up_are_told_apart() {
    let server = Saying::start(b"SSH-2.0-OpenSSH_9.9\r\n");
    Report::of(&server.setup()).fails("not_http", 78);
    let server = Saying::start(b"");
    Report::of(&server.setup()).fails("connection_reset", 69);
}

#[test]
fn an_upstream_that_no_route_leads_to_is_told() {
    let upstream = serving();
    let setup = Setup::before(&upstream);
    let ca = setup.path("ca.pem");
    let setup = setup.more(&format!(
        "[upstream.lonely]\nurl = \"{}\"\nca_file = {ca:?}\n[[route]]\npath = \"/\"\nupstream = \"up\"",
        upstream.url()
    ));
    let report = Report::of(&setup);
    assert_eq!(report.has("no_route")["verdict"], "warn");
    report.has("signature_ok");
}

#[tokio::test]
async fn a_daemon_that_works_from_another_file_is_told() {
    let upstream = serving();
    let daemon = Setup::before(&upstream).start().await;
    let socket = daemon.admin_socket();
    let other = Setup::before(&upstream);
    let report = Report::with(&other, &["--admin-socket", socket.to_str().unwrap()]);
    let finding = report.has("other_configuration");
    says(finding, daemon.path("").to_str().unwrap());
}

#[test]
fn a_daemon_that_cannot_be_asked_is_not_taken_for_one_that_is_not_there() {
    let upstream = Upstream::http();
    upstream.takes_unsigned();
    upstream.at("/mcp", legacy);
    let setup = Setup::before(&upstream).written(&format!(
        "[upstream.up]\nurl = \"{}\"\n[[listener]]\ntcp = \"127.0.0.1:0\"\n[admin]\nunix = \"off\"",
        upstream.url()
    ));
    let report = Report::of(&setup);
    assert_eq!(report.has("no_admin")["verdict"], "warn");
    report.lacks("no_daemon");
}

#[test]
fn an_upstream_that_never_answers_is_given_up() {
    let upstream = Upstream::https();
    upstream.at("/mcp", |_| std::future::pending());
    let setup = Setup::before(&upstream).upstream("request_timeout = \"300ms\"");
    Report::of(&setup).fails("no_answer", 69);
}

#[test]
fn a_stream_that_is_held_back_is_measured_and_one_that_is_missing_told() {
    let upstream = Upstream::https();
    upstream.at("/mcp", |call| async move {
        match call.seen.method.as_str() {
            "GET" => std::future::pending().await,
            _ => legacy(call).await,
        }
    });
    let report = Report::of(&Setup::before(&upstream));
    says(report.fails("stream_buffered", 69), "holds it back");

    let upstream = Upstream::https();
    upstream.at("/mcp", |call| async move {
        match call.seen.method.as_str() {
            "GET" => Ok(status(405)),
            _ => legacy(call).await,
        }
    });
    let report = Report::of(&Setup::before(&upstream));
    report.has("no_stream");
    report.lacks("stream_ok");
    assert_eq!(report.failures(), [""; 0]);
}

#[test]
fn the_modern_era_is_heard_too_and_its_stream_measured() {
    let upstream = Upstream::https();
    upstream.at("/mcp", |mut call| async move {
        let message: Value = serde_json::from_slice(&call.read().await?).unwrap();
        let result = match message["method"].as_str().unwrap() {
            "server/discover" => json!({"supportedVersions": ["2026-07-28"]}),
            "subscriptions/listen" => {
                let (pipe, response) = event_stream();
                tokio::spawn(async move {
                    let event =
                        r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged"}"#;
                    pipe.send(format!("data: {event}\n\n")).await;
                    pipe.closed().await;
                });
                return Ok(response);
            }
            _ => return Ok(answer(&message)),
        };
        let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
        Ok(json_answer(answer.to_string()))
    });
    let report = Report::of(&Setup::before(&upstream));
    says(report.has("mcp_ok"), "2026-07-28, 2025-11-25");
    says(report.has("stream_ok"), "the stream goes on");
}
