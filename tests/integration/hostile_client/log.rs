//! What a client writes never becomes a line of the log, and never drives a terminal.

use crate::common::daemon::fields;
use crate::common::{Ask, Daemon, Http, Setup, Upstream, Way, raw};

/// Text that would end a line, close a JSON string, or move a cursor.
const NASTY: [&str; 8] = [
    "a\nb",
    "a\r\n{\"msg\":\"forged\",\"level\":\"info\"}",
    "\",\"level\":\"critical\",\"x\":\"",
    "\u{1b}[2J\u{1b}]0;owned\u{7}",
    "\u{202e}txt.exe\u{2028}\u{2029}\u{85}",
    "\0\u{8}\u{7f}",
    "key=value peer_uid=0 \\\"",
    "\u{fffd}\u{feff}",
];

/// Requests that carry it wherever a log line takes something from.
async fn send_all(daemon: &Daemon) -> usize {
    let mut count = 0;
    for nasty in NASTY {
        let message = serde_json::json!({
            "jsonrpc": "2.0", "id": nasty, "method": format!("tools/call{nasty}"), "params": { "name": nasty },
        });
        let call = serde_json::json!({
            "jsonrpc": "2.0", "id": nasty, "method": "tools/call", "params": { "name": nasty },
        });
        for message in [message, call] {
            daemon.ask(Ask::post("/log", message.to_string())).await;
            count += 1;
        }
        let escaped: String = nasty.bytes().map(|byte| format!("%{byte:02x}")).collect();
        daemon.get(&format!("/{escaped}?{escaped}")).await;
        count += 1;
    }
    for (method, target, id) in [
        ("GET", "/\u{e9}\u{1f600}", "abc\u{1b}[31m"),
        ("A!#$%&'*+-.^_`|~", "/quote\"quote", "{\"msg\":\"x\"}"),
        ("GET", "/back\\slash", "a\",\"b\":\"c"),
        ("GET", "/%22,%22msg%22:%22forged", "a b"),
    ] {
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: {id}\r\nConnection: close\r\n\r\n"
        );
        raw::exchange(daemon.address(), request.as_bytes()).await;
    }
    count
}

/// The last line: everything before it has been written.
async fn finish(daemon: &Daemon) -> Vec<String> {
    daemon
        .ask_by(
            Way::Unix(Http::One),
            Ask::get("/healthz").header("x-request-id", "the-last"),
        )
        .await;
    daemon
        .log
        .find("the last line", |line| line.contains("the-last"))
        .await;
    daemon.log.all()
}

#[tokio::test]
async fn each_request_is_one_line_of_json_whatever_it_says() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    let count = send_all(&daemon).await;
    let lines = finish(&daemon).await;
    let mut requests = 0;
    for line in &lines {
        let value = fields(line);
        assert!(value.is_object(), "no JSON: {line}");
        assert!(
            !line.chars().any(char::is_control),
            "a control character in {line:?}"
        );
        assert!(
            value["level"] != "critical" && value["msg"] != "forged",
            "{line}"
        );
        requests += usize::from(value["msg"] == "request");
    }
    assert!(requests > count, "{requests} lines for {count} requests");
    // What was said is there to be read, as it was.
    for nasty in NASTY {
        assert!(
            lines.iter().any(|line| fields(line)["mcp_name"] == nasty),
            "{nasty:?}"
        );
    }
}

#[tokio::test]
async fn the_text_log_escapes_what_would_break_a_line_or_drive_a_terminal() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream)
        .more("")
        .log_level("debug\"\nformat = \"text")
        .start()
        .await;
    send_all(&daemon).await;
    for line in finish(&daemon).await {
        let odd = |c: char| {
            c.is_control()
                || matches!(
                    c,
                    '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2029}' | '\u{feff}'
                )
        };
        assert!(!line.chars().any(odd), "{line:?}");
        assert!(
            line.starts_with("20"),
            "a line that is none of ours: {line:?}"
        );
        assert!(
            !line.contains(" peer_uid=0 \\\"") || line.contains("mcp_name=\""),
            "{line:?}"
        );
    }
}

#[tokio::test]
async fn names_and_paths_of_any_length_make_lines_of_bounded_length() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    let long = "n".repeat(900_000);
    let call = serde_json::json!({
        "jsonrpc": "2.0", "id": 1, "method": long, "params": { "name": long },
    });
    daemon.ask(Ask::post("/log", call.to_string())).await;
    let call = serde_json::json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": long },
    });
    daemon.ask(Ask::post("/log", call.to_string())).await;
    daemon.get(&format!("/{}", "p".repeat(60_000))).await;
    for line in finish(&daemon).await {
        assert!(
            line.len() < 16 * 1024,
            "a line of {} bytes: {}",
            line.len(),
            &line[..200]
        );
    }
}
