//! Who and what is not let in: refused with a code, logged once, nothing upstream.

use crate::common::admin;
use crate::common::{Ask, Http, Setup, Upstream, Way};

/// Every path a listener answers itself, and one that goes upstream.
const PATHS: [&str; 5] = [
    "/mcp",
    "/healthz",
    "/readyz",
    "/.well-known/oauth-protected-resource",
    "/no/such/route",
];

#[tokio::test]
async fn a_foreign_host_is_refused_on_every_path_of_every_listener() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    for way in Way::ALL {
        for path in PATHS {
            for host in [
                "evil.example",
                "evil.example:80",
                "localhost.evil.example",
                "10.0.0.1",
            ] {
                let answer = daemon.ask_by(way, Ask::get(path).host(host)).await;
                answer.assert_refused(403, "host_forbidden");
            }
        }
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn loopback_names_and_listed_hosts_are_let_in() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream)
        .tcp_listener("allowed_hosts = [\"mcp.internal\", \"Other.Example\"]");
    let daemon = setup.start().await;
    for host in [
        "localhost",
        "LOCALHOST:1234",
        "127.0.0.1",
        "127.1.2.3:80",
        "[::1]",
        "[::1]:8080",
        "mcp.internal",
        "MCP.internal:8080",
        "other.example",
    ] {
        let answer = daemon.ask(Ask::get("/mcp").host(host)).await;
        assert_eq!(answer.status, 200, "{host}");
    }
    // What one listener allows, the other does not.
    let unix = Way::Unix(Http::One);
    let answer = daemon
        .ask_by(unix, Ask::get("/mcp").host("mcp.internal"))
        .await;
    answer.assert_refused(403, "host_forbidden");
}

#[tokio::test]
async fn a_foreign_origin_is_refused_on_every_path_of_every_listener() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream)
        .tcp_listener("allowed_origins = [\"https://App.example\", \"http://localhost:3000\"]");
    let daemon = setup.start().await;
    for way in Way::ALL {
        for path in PATHS {
            for origin in [
                "https://evil.example",
                "http://localhost:3001",
                "https://localhost",
                "null",
                "https://app.example.evil.example",
                "",
            ] {
                let answer = daemon
                    .ask_by(way, Ask::get(path).header("origin", origin))
                    .await;
                answer.assert_refused(403, "origin_forbidden");
            }
        }
    }
    assert_eq!(upstream.count(), 0);
    for origin in [
        "https://app.example",
        "http://localhost:3000",
        "http://localhost",
    ] {
        let answer = daemon.ask(Ask::get("/mcp").header("origin", origin)).await;
        assert_eq!(answer.status, 200, "{origin}");
    }
    let unix = Way::Unix(Http::One);
    let answer = daemon
        .ask_by(
            unix,
            Ask::get("/mcp").header("origin", "https://app.example"),
        )
        .await;
    answer.assert_refused(403, "origin_forbidden");
}

#[tokio::test]
async fn one_foreign_origin_among_several_is_enough() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream).tcp_listener("allowed_origins = [\"https://a.example\"]");
    let daemon = setup.start().await;
    let ask = Ask::get("/mcp")
        .header("origin", "https://a.example")
        .header("origin", "https://b.example");
    daemon
        .ask(ask)
        .await
        .assert_refused(403, "origin_forbidden");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn fetches_of_other_sites_pages_are_refused_on_every_path_of_every_listener() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    for way in Way::ALL {
        for path in PATHS {
            for site in ["cross-site", "same-site", "Cross-Site"] {
                let ask = Ask::get(path).header("sec-fetch-site", site);
                let answer = daemon.ask_by(way, ask).await;
                answer.assert_refused(403, "cross_site_forbidden");
            }
        }
    }
    assert_eq!(upstream.count(), 0);
    for site in ["same-origin", "none"] {
        let answer = daemon
            .ask(Ask::get("/mcp").header("sec-fetch-site", site))
            .await;
        assert_eq!(answer.status, 200, "{site}");
    }
}

#[tokio::test]
async fn a_preflight_is_no_way_in_and_gets_no_permission() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    let ask = Ask::new("OPTIONS", "/mcp")
        .header("origin", "https://evil.example")
        .header("access-control-request-method", "POST");
    // That no CORS header is in the answer, the client's list of headers sees to.
    daemon
        .ask(ask)
        .await
        .assert_refused(403, "origin_forbidden");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn the_admin_listeners_have_the_same_guards() {
    let upstream = Upstream::https();
    let setup =
        Setup::before(&upstream).more("[admin]\nunix = \"DIRX/admin.sock\"\ntcp = \"127.0.0.1:0\"");
    let config = setup.config().replace("DIRX", "DIR");
    let daemon = setup.written(&config).start().await;
    let socket = daemon.admin_socket();
    for path in [
        "/status",
        "/metrics",
        "/healthz",
        "/readyz",
        "/-/reload",
        "/none",
    ] {
        for headers in [
            "host: evil.example\r\n",
            "host: localhost\r\norigin: https://evil.example\r\n",
            "host: localhost\r\nsec-fetch-site: cross-site\r\n",
        ] {
            for method in ["GET", "POST"] {
                let (status, page) = admin::ask_with(&socket, method, path, headers).unwrap();
                assert_eq!(status, 403, "{method} {path} {headers} {page}");
            }
        }
    }
    assert!(daemon.status()["last_reload"].is_null());
}

#[tokio::test]
async fn an_unknown_route_gets_a_404_that_says_what_to_do() {
    let upstream = Upstream::https();
    let url = format!("{}/mcp", upstream.url());
    let daemon = Setup::before(&upstream).endpoint(&url).start().await;
    let answer = daemon.get("/elsewhere").await;
    answer.assert_refused(404, "no_route");
    assert!(answer.text().contains("/elsewhere") && answer.text().contains("[[route]]"));
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn each_refusal_is_logged_once_with_its_code() {
    let upstream = Upstream::https();
    let url = format!("{}/mcp", upstream.url());
    let daemon = Setup::before(&upstream).endpoint(&url).start().await;
    for (id, ask, status, code) in [
        ("one", Ask::get("/else"), 404, "no_route"),
        ("two", Ask::get("/a/../b"), 400, "path_refused"),
        (
            "three",
            Ask::get("/mcp").host("evil.example"),
            403,
            "host_forbidden",
        ),
        (
            "four",
            Ask::get("/mcp").header("origin", "null"),
            403,
            "origin_forbidden",
        ),
        (
            "five",
            Ask::get("/mcp").header("sec-fetch-site", "cross-site"),
            403,
            "cross_site_forbidden",
        ),
    ] {
        let answer = daemon.ask(ask.header("x-request-id", id)).await;
        answer.assert_refused(status, code);
        let lines = daemon.requests_logged(id).await;
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0]["error_code"], code);
        assert_eq!(lines[0]["status"], status);
        assert_eq!(lines[0]["level"], "warning");
        let series = format!("mcp_auth_proxy_errors_total{{code=\"{code}\"}}");
        assert_eq!(daemon.metric(&series), 1.0, "{code}");
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_json_rpc_request_is_refused_by_its_own_id() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    for (body, ids) in [
        (r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#, "[7]"),
        (
            r#"{"jsonrpc":"2.0","id":"a\u0062","method":"ping"}"#,
            r#"["ab"]"#,
        ),
        (r#"{"jsonrpc":"2.0","id":0,"method":"ping"}"#, "[0]"),
        (
            r#"[{"jsonrpc":"2.0","id":1,"method":"a"},{"jsonrpc":"2.0","method":"n"},{"jsonrpc":"2.0","id":"b","method":"c"}]"#,
            r#"[1,"b"]"#,
        ),
    ] {
        for way in Way::ALL {
            let answer = daemon.ask_by(way, Ask::post("/a%2fb", body)).await;
            answer.assert_refused(400, "path_refused");
            let page = answer.json();
            let found = match page.as_array() {
                Some(answers) => answers.iter().map(|answer| answer["id"].clone()).collect(),
                None => vec![page["id"].clone()],
            };
            assert_eq!(serde_json::to_string(&found).unwrap(), ids, "{way:?}");
        }
    }
    let huge = r#"{"jsonrpc":"2.0","id":123456789012345678901234567890,"method":"ping"}"#;
    let answer = daemon.post("/a%2fb", huge).await;
    assert!(
        answer
            .text()
            .contains(r#""id":123456789012345678901234567890,"#)
    );
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn who_sent_no_request_gets_problem_details() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    for body in [
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
        "no JSON",
        "",
    ] {
        let answer = daemon.post("/a%2fb", body).await;
        answer.assert_refused(400, "path_refused");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json"),
            "{body}"
        );
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn oauth_discovery_ends_at_the_proxy() {
    let upstream = Upstream::https();
    let daemon = Setup::before(&upstream).start().await;
    for path in [
        "/.well-known/oauth-authorization-server",
        "/.well-known/oauth-authorization-server/mcp",
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/a/b",
    ] {
        for way in Way::ALL {
            daemon
                .ask_by(way, Ask::get(path))
                .await
                .assert_refused(404, "not_offered");
        }
    }
    assert_eq!(upstream.count(), 0);
}
