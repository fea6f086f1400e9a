//! The stdio bridge as MCP clients launch it: a line in, a line out, whatever happens behind the daemon.

mod bridge;
mod cost;
mod old_server;
mod server;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use self::bridge::Bridge;
use self::old_server::OldServer;
use self::server::Server;
use crate::common::process::is_release;
use crate::common::upstream::unauthorized;
use crate::common::{Daemon, Setup, Upstream, secrets, until};

const MODERN: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;

/// A server of few words behind a daemon.
struct Scene {
    server: Server,
    daemon: Daemon,
    upstream: Upstream,
}

impl Scene {
    async fn set() -> Self {
        let upstream = Upstream::https();
        let server = Server::at(&upstream, "/mcp");
        let daemon = Setup::before(&upstream).start().await;
        Self {
            server,
            daemon,
            upstream,
        }
    }

    fn bridge(&self) -> Bridge {
        Bridge::to(&self.daemon, &[])
    }

    /// A bridge whose client has opened a session.
    async fn opened(&self) -> Bridge {
        let mut bridge = self.bridge();
        bridge.initialize().await;
        bridge
    }
}

#[tokio::test]
async fn ids_stay_themselves_and_every_request_is_answered_once() {
    let scene = Scene::set().await;
    let mut bridge = scene.opened().await;
    let ids = ["0", "\"0\"", "9223372036854775808", "-7", r#""\u00e9""#];
    for id in ids {
        bridge.ask(id, "ping").await;
    }
    for id in ids {
        assert!(bridge.answer(id).await.contains("\"result\""), "{id}");
    }
    bridge.end().await.assert_clean();
    assert_eq!(scene.server.executed().len(), ids.len());
}

#[tokio::test]
async fn the_session_and_the_version_are_kept_and_ended() {
    let scene = Scene::set().await;
    let mut bridge = Bridge::to(&scene.daemon, &["--name", "acme"]);
    bridge.initialize().await;
    bridge.ask("1", "ping").await;
    bridge.answer("1").await;
    let seen = scene.server.posts();
    assert_eq!(seen[0].header("mcp-session-id"), None);
    assert_eq!(seen[1].method(), "notifications/initialized");
    for post in &seen[1..] {
        assert_eq!(post.header("mcp-session-id").as_deref(), Some("session-1"));
        assert_eq!(
            post.header("mcp-protocol-version").as_deref(),
            Some("2025-06-18")
        );
        assert!(post.header("user-agent").unwrap().ends_with("(acme)"));
    }
    bridge.end().await.assert_clean();
    assert_eq!(scene.server.ended(), ["session-1"]);
}

#[tokio::test]
async fn a_lost_session_is_opened_again_once_for_all_who_wait() {
    let scene = Scene::set().await;
    let mut bridge = scene.opened().await;
    scene.server.forget_sessions();
    let ids: Vec<_> = (1..=30).map(|id: u32| id.to_string()).collect();
    for id in &ids {
        bridge.ask(id, "tools/list").await;
    }
    for id in &ids {
        assert!(bridge.answer(id).await.contains("\"result\""));
    }
    assert_eq!(scene.server.count("initialize"), 2);
    assert_eq!(scene.server.count("notifications/initialized"), 2);
    let mut executed = scene.server.executed();
    executed.sort_by_key(|id| id.parse::<u32>().unwrap());
    assert_eq!(executed, ids);
    bridge.end().await.assert_clean();
    assert_eq!(scene.server.ended(), ["session-2"]);
}

#[tokio::test]
async fn a_new_session_has_the_log_level_and_the_subscriptions_of_the_old() {
    let scene = Scene::set().await;
    let mut bridge = scene.opened().await;
    for (id, method, params) in [
        (1, "logging/setLevel", r#"{"level":"info"}"#),
        (2, "resources/subscribe", r#"{"uri":"file:///a"}"#),
        (3, "resources/subscribe", r#"{"uri":"file:///b"}"#),
        (4, "resources/unsubscribe", r#"{"uri":"file:///a"}"#),
        (5, "logging/setLevel", r#"{"level":"debug"}"#),
    ] {
        bridge
            .send(&format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#
            ))
            .await;
        bridge.answer(&id.to_string()).await;
    }
    scene.server.forget_sessions();
    bridge.ask("6", "ping").await;
    bridge.answer("6").await;
    let posts = scene.server.posts();
    let reopened = posts.iter().rposition(|post| post.method() == "initialize");
    let bodies: Vec<_> = posts[reopened.unwrap()..]
        .iter()
        .map(|post| String::from_utf8(post.body.to_vec()).unwrap())
        .collect();
    let asked = |part: &str| bodies.iter().filter(|body| body.contains(part)).count();
    assert_eq!(asked(r#""level":"debug""#), 1, "{bodies:?}");
    assert_eq!(asked(r#""uri":"file:///b""#), 1);
    assert_eq!(bodies.len(), 5, "and nothing else: {bodies:?}");
    assert!(bodies[4].contains("ping"), "first of all: {bodies:?}");
    bridge.end().await.assert_clean();
}

#[tokio::test]
async fn a_session_that_cannot_be_opened_again_fails_each_request_once() {
    let scene = Scene::set().await;
    let mut bridge = scene.opened().await;
    scene.server.forget_sessions();
    scene.server.refuse_sessions();
    for id in ["1", "2", "3"] {
        bridge.ask(id, "tools/list").await;
    }
    for id in ["1", "2", "3"] {
        bridge.error(id, "session_lost").await;
    }
    bridge.end().await.assert_clean();
}

#[tokio::test]
async fn a_server_that_leaves_a_new_session_unopened_holds_its_client_up_for_a_while_only() {
    let upstream = Upstream::https();
    let server = Server::at(&upstream, "/mcp");
    let setup = Setup::before(&upstream).upstream("request_timeout = \"10m\"");
    let daemon = setup.start().await;
    let mut bridge = Bridge::to(&daemon, &[]);
    bridge.initialize().await;
    server.forget_sessions();
    server.hang_on_opening();
    bridge.ask("1", "tools/list").await;
    bridge.error("1", "session_lost").await;
    let said = bridge.answer("1").await;
    assert!(said.contains("within 15 seconds"), "{said}");
    bridge.end().await.assert_clean();
}

#[tokio::test]
async fn requests_of_2026_07_28_carry_the_mirrored_headers_and_no_session() {
    let scene = Scene::set().await;
    let mut bridge = scene.bridge();
    let listed = json!({"tools": [{"name": "t", "inputSchema": {"type": "object", "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"}}}}]});
    scene.server.answer("tools/list", listed);
    bridge
        .send(&format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{{MODERN}}}}}"#
        ))
        .await;
    bridge.answer("1").await;
    let call = r#""name":"t","arguments":{"region":"eu, Zürich"}"#;
    bridge
        .send(&format!(
            r#"{{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{{{call},{MODERN}}}}}"#
        ))
        .await;
    bridge.answer("2").await;
    let post = scene.server.posts().pop().unwrap();
    for (name, value) in [
        ("mcp-protocol-version", Some("2026-07-28")),
        ("mcp-method", Some("tools/call")),
        ("mcp-name", Some("t")),
        ("mcp-param-region", Some("=?base64?ZXUsIFrDvHJpY2g=?=")),
        ("mcp-session-id", None),
    ] {
        assert_eq!(post.header(name).as_deref(), value, "{name}");
    }
    bridge.end().await.assert_clean();
}

#[tokio::test]
async fn a_cancellation_closes_a_modern_stream_and_is_forwarded_to_a_legacy_server() {
    let scene = Scene::set().await;
    scene.server.hang("tools/call");
    let mut bridge = scene.bridge();
    bridge
        .send(&format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{{MODERN}}}}}"#
        ))
        .await;
    scene.server.hanging(1).await;
    bridge
        .send(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#)
        .await;
    scene.server.hanging(0).await;
    assert_eq!(scene.server.posts().len(), 1);

    bridge.initialize().await;
    bridge.ask("2", "tools/call").await;
    scene.server.hanging(1).await;
    bridge
        .send(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}"#)
        .await;
    scene.server.posted("notifications/cancelled").await;
    let ended = bridge.end().await;
    assert_eq!(
        ended.lines.len(),
        1,
        "only initialize was answered: {:?}",
        ended.lines
    );
}

#[tokio::test]
async fn notifications_that_a_server_does_not_take_stand_in_nobodys_way() {
    let scene = Scene::set().await;
    let mut bridge = scene.opened().await;
    scene.server.hang("notifications/progress");
    // Each counts 64 KiB at the least, and 256 MiB are held.
    for _ in 0..4096 + 3 {
        bridge
            .send(r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#)
            .await;
    }
    bridge.ask("1", "ping").await;
    bridge.answer("1").await;
    scene.server.hanging(64).await;
    assert_eq!(scene.server.count("notifications/progress"), 64);
    let ended = bridge.end().await;
    assert!(ended.stderr.contains("was dropped"), "{}", ended.stderr);
    // Equal lines are told once, with their number. What opened the session may have been on
    // its way still.
    let again = |times: usize| {
        let folded = format!("the line before came {times} times more");
        ended.stderr.contains(&folded)
    };
    assert!(again(2) || again(3), "{}", ended.stderr);
}

#[tokio::test]
async fn a_cut_stream_is_resumed_after_its_last_event() {
    let scene = Scene::set().await;
    let mut bridge = scene.opened().await;
    scene.server.cut("tools/call", Some("event-7"));
    bridge.ask("1", "tools/call").await;
    assert!(bridge.answer("1").await.contains("resumed after event-7"));
    scene.server.cut("tools/call", None);
    bridge.ask("2", "tools/call").await;
    bridge.error("2", "answer_cut").await;
    bridge.end().await.assert_clean();
}

#[tokio::test]
async fn nobody_waits_on_a_made_up_stream_for_what_cannot_be_resumed() {
    let scene = Scene::set().await;
    let mut bridge = scene.opened().await;
    scene.server.cut("tools/call", Some("event-7"));
    scene.server.resume_nothing();
    bridge.ask("1", "tools/call").await;
    bridge.error("1", "answer_cut").await;
    bridge.end().await.assert_clean();
}

#[tokio::test]
async fn a_server_that_resumes_every_stream_and_never_answers_is_given_up() {
    let scene = Scene::set().await;
    let mut bridge = scene.opened().await;
    scene.server.cut("tools/call", Some("event-7"));
    scene.server.resume_in_silence();
    bridge.ask("1", "tools/call").await;
    bridge.error("1", "answer_cut").await;
    let seen = scene.upstream.seen();
    let resumed = seen
        .iter()
        .filter(|seen| seen.header("last-event-id").is_some());
    assert_eq!(resumed.count(), 5);
    bridge.end().await.assert_clean();
}

#[tokio::test]
async fn the_daemons_own_errors_arrive_as_they_are() {
    let daemon = Setup::at("http://127.0.0.1:1").start().await;
    let mut bridge = Bridge::to(&daemon, &[]);
    bridge.ask("9223372036854775808", "initialize").await;
    let answer = bridge.answer("9223372036854775808").await;
    assert!(answer.contains("upstream_unreachable"), "{answer}");
    bridge.end().await.assert_clean();
}

#[tokio::test]
async fn twenty_mebibytes_pass_both_ways_in_one_line() {
    let scene = Scene::set().await;
    let mut bridge = scene.opened().await;
    let text = "x".repeat(20 * 1024 * 1024);
    scene.server.answer("tools/call", json!({ "text": text }));
    bridge
        .send(&format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"text":"{text}"}}}}"#
        ))
        .await;
    assert!(bridge.answer("1").await.len() > text.len());
    assert!(scene.server.posts().pop().unwrap().body.len() > text.len());
    bridge.end().await.assert_clean();
}

#[tokio::test]
async fn a_line_over_the_limit_is_refused_under_its_own_id() {
    let scene = Scene::set().await;
    let mut bridge = scene.opened().await;
    let text = "x".repeat(64 * 1024 * 1024);
    let members = format!(r#""method":"tools/call","params":{{"id":3,"text":"{text}"}}"#);
    bridge
        .send(&format!(r#"{{"jsonrpc":"2.0","id":"first",{members}}}"#))
        .await;
    bridge.error("\"first\"", "bad_request").await;
    bridge
        .send(&format!(r#"{{{members},"jsonrpc":"2.0","id":0}}"#))
        .await;
    bridge.error("0", "bad_request").await;
    let response = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"text":"{text}"}}}}"#);
    bridge.send(&response).await;
    assert!(bridge.answer("null").await.contains("64 MiB"));
    bridge.ask("1", "ping").await;
    bridge.answer("1").await;
    bridge.end().await.assert_clean();
    assert_eq!(scene.server.executed(), ["1"]);
}

#[tokio::test]
async fn the_end_of_input_and_sigterm_end_it_in_time_with_calls_in_flight() {
    let scene = Scene::set().await;
    for signal in [None, Some(Signal::SIGTERM)] {
        let mut bridge = scene.opened().await;
        scene.server.hang("tools/call");
        bridge.ask("1", "tools/call").await;
        scene.server.hanging(1).await;
        let start = Instant::now();
        let ended = match signal {
            None => bridge.end().await,
            Some(signal) => bridge.stop(signal).await,
        };
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{:?}",
            start.elapsed()
        );
        ended.assert_clean();
        assert!(
            ended.lines[1].contains(r#""code":"stopped""#),
            "{:?}",
            ended.lines
        );
        scene.server.hanging(0).await;
    }
    assert_eq!(scene.server.ended(), ["session-1", "session-2"]);
}

#[tokio::test]
async fn what_is_no_message_is_refused_and_does_no_harm() {
    let scene = Scene::set().await;
    let mut bridge = scene.opened().await;
    for line in [
        "nonsense",
        "[]",
        "7",
        "{}",
        r#"{"jsonrpc":"2.0","id":{},"method":"x"}"#,
    ] {
        bridge.send(line).await;
        assert!(
            bridge.answer("null").await.contains("bad_request"),
            "{line}"
        );
    }
    bridge.ask("1", "ping").await;
    bridge.answer("1").await;
    assert_eq!(bridge.end().await.code, Some(0));
}

#[tokio::test]
async fn a_daemon_that_starts_late_is_waited_for() {
    let upstream = Upstream::https();
    let _server = Server::at(&upstream, "/mcp");
    let setup = Setup::before(&upstream);
    let socket = setup.path("proxy.sock");
    let mut bridge = Bridge::launch(setup.dir(), &["--socket", socket.to_str().unwrap()]);
    bridge.ask("1", "initialize").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let _daemon = setup.start().await;
    assert!(bridge.answer("1").await.contains("\"result\""));
    bridge.end().await.assert_clean();
}

#[tokio::test]
async fn a_missing_daemon_gives_each_request_one_error_and_the_person_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let mut bridge = Bridge::launch(dir.path(), &[]);
    for id in ["1", "2"] {
        bridge.ask(id, "ping").await;
    }
    for id in ["1", "2"] {
        bridge.error(id, "no_daemon").await;
    }
    bridge.ask("3", "ping").await;
    bridge.error("3", "no_daemon").await;
    let ended = bridge.end().await;
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("systemctl start mcp-auth-proxy"),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn standalone_signs_without_a_daemon() {
    let upstream = Upstream::https();
    let server = Server::at(&upstream, "/mcp");
    let setup = Setup::before(&upstream);
    let config = setup.write();
    let mut bridge = Bridge::launch(
        setup.dir(),
        &["--standalone", "--config", config.to_str().unwrap()],
    );
    bridge.initialize().await;
    bridge.ask("1", "ping").await;
    bridge.answer("1").await;
    bridge.end().await.assert_clean();
    // The upstream verifies each signature and fails this test over a wrong one.
    assert!(
        server
            .posts()
            .iter()
            .all(|post| post.header("x-signature").is_some())
    );
    assert_eq!(server.ended(), ["session-1"]);
}

#[tokio::test]
async fn standalone_tells_of_a_refused_credential_and_shows_none_of_it() {
    let upstream = Upstream::https();
    upstream.expects_refusals();
    let setup = Setup::before(&upstream).credential("other", "wrong");
    let config = setup.write();
    let mut bridge = Bridge::launch(
        setup.dir(),
        &["--standalone", "--config", config.to_str().unwrap()],
    );
    bridge.ask("1", "initialize").await;
    bridge.error("1", "upstream_rejected_credential").await;
    bridge.end().await.assert_clean();
}

#[tokio::test]
async fn standalone_keeps_its_secret_to_itself_also_where_the_server_repeats_it() {
    let upstream = Upstream::https();
    upstream.takes_unsigned();
    let asked = AtomicUsize::new(0);
    upstream.at("/mcp", move |call| {
        let sent = call.seen.header("authorization").unwrap().to_owned();
        let token = sent.rsplit(' ').next().unwrap();
        let spelled: String = sent.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
        let is_text = asked.fetch_add(1, Ordering::Relaxed) == 0;
        let said = if is_text {
            format!("no such token: {token}")
        } else {
            format!(
                r#"{{"jsonrpc":"2.0","id":2,"error":{{"code":-1,"message":"not by {spelled}"}}}}"#
            )
        };
        let kind = if is_text {
            "text/plain"
        } else {
            "application/json"
        };
        let mut response = unauthorized(said);
        let headers = response.headers_mut();
        headers.insert("content-type", kind.parse().unwrap());
        std::future::ready(Ok(response))
    });
    let setup = Setup::before(&upstream);
    let (token, ca) = (
        setup.file("token", "hush-token-of-the-bridge"),
        setup.path("ca.pem"),
    );
    let config = format!(
        "[upstream.up]\nurl = \"{}\"\nca_file = {ca:?}\ncredential = \"key\"\n\
         [credential.key.bearer]\ntoken = {{ file = {token:?} }}\n\
         [[listener]]\nunix = \"DIR/proxy.sock\"\n",
        upstream.url()
    );
    let setup = setup.written(&config);
    let config = setup.write();
    let mut bridge = Bridge::launch(
        setup.dir(),
        &["--standalone", "--config", config.to_str().unwrap()],
    );
    bridge.ask("1", "initialize").await;
    bridge.error("1", "upstream_rejected_credential").await;
    let said = bridge.answer("1").await;
    assert!(said.contains("no such token: [credential]"), "{said}");
    bridge.ask("2", "tools/list").await;
    let said = bridge.answer("2").await;
    assert!(said.contains("not by [credential]"), "{said}");
    for line in &bridge.end().await.lines {
        secrets::assert_none("stdout", line);
    }
}

#[tokio::test]
async fn standalone_waits_for_an_answer_as_long_as_the_configuration_says() {
    let upstream = Upstream::https();
    let pipes = upstream.streams_of("application/json", "/stalled");
    upstream.at("/hanging", |_| std::future::pending());
    for (path, code, words) in [
        ("/hanging", "timeout", "no answer began within 1s"),
        ("/stalled", "answer_cut", "broke off"),
    ] {
        let setup = Setup::before(&upstream)
            .upstream("request_timeout = \"1s\"\nresponse_idle_timeout = \"500ms\"");
        let config = setup.write();
        let config = ["--config", config.to_str().unwrap(), "--route", path];
        let mut bridge = Bridge::launch(setup.dir(), &[&["--standalone"], &config[..]].concat());
        bridge.ask("1", "initialize").await;
        bridge.error("1", code).await;
        let said = bridge.answer("1").await;
        assert!(said.contains(words), "{said}");
        bridge.end().await.assert_clean();
    }
    drop(pipes);
}

#[tokio::test]
async fn a_hundred_bridges_share_one_daemon() {
    let scene = Scene::set().await;
    let mut bridges: Vec<_> = (0..100).map(|_| scene.bridge()).collect();
    for bridge in &mut bridges {
        bridge.initialize().await;
        bridge.ask("1", "ping").await;
    }
    for bridge in &mut bridges {
        bridge.answer("1").await;
    }
    for bridge in bridges {
        bridge.end().await.assert_clean();
    }
    assert_eq!(scene.server.ended().len(), 100);
}

#[tokio::test]
async fn it_stays_small_also_after_a_large_message() {
    let scene = Scene::set().await;
    let mut bridge = scene.opened().await;
    for id in 0..200 {
        bridge.ask(&id.to_string(), "ping").await;
        bridge.answer(&id.to_string()).await;
    }
    let limit = if is_release() { 8 * 1024 } else { 32 * 1024 };
    let small = bridge.resident_kib();
    assert!(small < limit, "{small} KiB");
    scene.server.answer(
        "tools/call",
        json!({ "text": "x".repeat(20 * 1024 * 1024) }),
    );
    bridge.ask("\"large\"", "tools/call").await;
    bridge.answer("\"large\"").await;
    until("its memory is given back", || {
        bridge.resident_kib() < limit + 4 * 1024
    })
    .await;
    bridge.end().await.assert_clean();
}

#[tokio::test]
async fn a_server_of_2024_11_05_is_met_on_its_own_stream() {
    let upstream = Upstream::https();
    let old = OldServer::at(&upstream, "/mcp", "/messages");
    let daemon = Setup::before(&upstream).start().await;
    let mut bridge = Bridge::to(&daemon, &[]);
    bridge.initialize().await;
    for id in ["1", "\"two\""] {
        bridge.ask(id, "ping").await;
        assert!(bridge.answer(id).await.contains("\"result\""));
    }
    old.cut().await;
    bridge.ask("3", "ping").await;
    assert!(bridge.answer("3").await.contains("\"result\""));
    bridge.end().await.assert_clean();
}

#[tokio::test]
async fn a_request_that_names_no_revision_is_sent_in_that_of_the_last_one() {
    let scene = Scene::set().await;
    let mut bridge = scene.bridge();
    bridge
        .send(&format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{{{MODERN}}}}}"#
        ))
        .await;
    bridge.answer("1").await;
    bridge.ask("2", "tools/list").await;
    bridge.answer("2").await;
    let post = scene.server.posts().pop().unwrap();
    assert_eq!(post.header("mcp-method").as_deref(), Some("tools/list"));
    assert_eq!(
        post.header("mcp-protocol-version").as_deref(),
        Some("2026-07-28")
    );
    bridge.end().await.assert_clean();
}

#[tokio::test]
async fn whatever_a_server_answers_only_mcp_comes_out() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    let (json, events, html) = ("application/json", "text/event-stream", "text/html");
    for (path, status, media_type, answer) in [
        ("/html", 200, html, "<p>Sign in</p>"),
        ("/no-message", 200, json, r#"{"hello":"world"}"#),
        ("/half", 200, json, r#"{"jsonrpc":"2.0","id":1,"res"#),
        ("/nothing", 200, json, ""),
        ("/list", 200, json, "[[]]"),
        (
            "/two",
            200,
            json,
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n{\"a\":1}",
        ),
        (
            "/events",
            200,
            events,
            "data: hello\n\ndata: {\"id\":1}\n\ndata: {\n\n",
        ),
        (
            "/other",
            200,
            events,
            "event: x\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n",
        ),
        ("/accepted", 202, json, ""),
        ("/failure", 500, html, "<h1>Oops</h1>"),
        ("/elsewhere", 302, html, ""),
    ] {
        upstream.says(path, status, &[("content-type", media_type)], answer);
        let mut bridge = Bridge::to(&daemon, &["--route", path]);
        bridge.ask("1", "ping").await;
        assert!(
            bridge.answer("1").await.contains(r#""code":-32000"#),
            "{path}"
        );
        let ended = bridge.end().await;
        ended.assert_clean();
        assert_eq!(ended.lines.len(), 1, "{path}: {:?}", ended.lines);
    }
}

#[tokio::test]
async fn a_daemon_that_is_killed_gives_each_call_one_error_and_may_come_back() {
    let scene = Scene::set().await;
    let mut bridge = scene.opened().await;
    scene.server.hang("tools/call");
    for id in ["1", "2"] {
        bridge.ask(id, "tools/call").await;
    }
    scene.server.hanging(2).await;
    scene.daemon.signal(Signal::SIGKILL);
    for id in ["1", "2"] {
        bridge.error(id, "reset").await;
    }
    scene.server.hanging(0).await;
    let mut dead = scene.daemon;
    dead.exit().await;
    bridge.ask("3", "ping").await;
    let socket = format!("unix = {:?}", dead.socket());
    let next = Setup::before(&scene.upstream).replaced_tcp_listener(&socket);
    let _daemon = next.start().await;
    assert!(bridge.answer("3").await.contains("\"result\""));
    bridge.end().await.assert_clean();
    assert_eq!(scene.server.executed(), ["3"]);
}
