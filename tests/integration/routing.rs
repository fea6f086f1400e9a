//! Which upstream a path leads to, and how it is written there.

use crate::common::{Answer, Ask, Setup, Upstream, Way};

#[tokio::test]
async fn a_base_path_is_put_before_the_requests_own() {
    let upstream = Upstream::https();
    for base in ["/base", "/base/"] {
        let url = format!("{}{base}", upstream.url());
        let daemon = Setup::at(&url).start().await;
        for (asked, sent) in [
            ("/mcp", "/base/mcp"),
            ("/", "/base/"),
            ("//a//b?q=1", "/base//a//b?q=1"),
            ("/base/mcp", "/base/base/mcp"),
            ("/a%20b", "/base/a%20b"),
        ] {
            assert_eq!(daemon.get(asked).await.status, 200);
            assert_eq!(upstream.last().target, sent);
        }
    }
}

#[tokio::test]
async fn a_base_path_with_escapes_is_signed_decoded_and_written_as_configured() {
    let upstream = Upstream::https();
    let daemon = Setup::at(&format!("{}/b%20c", upstream.url()))
        .start()
        .await;
    assert_eq!(daemon.get("/x").await.status, 200);
    assert_eq!(upstream.last().target, "/b%20c/x");
}

#[tokio::test]
async fn an_endpoint_is_reached_at_mcp_and_nowhere_else() {
    let upstream = Upstream::https();
    let url = format!("{}/v1/tools", upstream.url());
    let daemon = Setup::before(&upstream).endpoint(&url).start().await;
    for (asked, sent) in [
        ("/mcp", "/v1/tools"),
        ("/mcp/", "/v1/tools"),
        ("/mcp?a=1", "/v1/tools?a=1"),
    ] {
        assert_eq!(daemon.get(asked).await.status, 200);
        assert_eq!(upstream.last().target, sent);
    }
    let before = upstream.count();
    for asked in ["/", "/mcp/more", "/mcpx", "/v1/tools", "//mcp"] {
        daemon.get(asked).await.assert_refused(404, "no_route");
    }
    assert_eq!(upstream.count(), before);
}

#[tokio::test]
async fn an_endpoints_own_query_comes_first() {
    let upstream = Upstream::https();
    let url = format!("{}/mcp?tenant=7", upstream.url());
    let daemon = Setup::before(&upstream).endpoint(&url).start().await;
    daemon.get("/mcp").await;
    assert_eq!(upstream.last().target, "/mcp?tenant=7");
    daemon.get("/mcp?a=1").await;
    assert_eq!(upstream.last().target, "/mcp?tenant=7&a=1");
}

/// One upstream under several names, told apart by their base paths.
fn several(upstream: &Upstream, routes: &str) -> Setup {
    let url = upstream.url();
    let upstreams: String = ["one", "two", "three"]
        .iter()
        .map(|name| {
            format!(
                "[upstream.{name}]\nurl = \"{url}/{name}\"\ncredential = \"key\"\nca_file = \"DIR/ca.pem\"\n"
            )
        })
        .collect();
    Setup::before(upstream).written(&format!(
        r#"
{upstreams}
[credential.key.auth-gateway]
key_id = "{}"
secret = {{ file = "DIR/secret" }}
[[listener]]
unix = "DIR/proxy.sock"
[[listener]]
tcp = "127.0.0.1:0"
{routes}
"#,
        crate::common::KEY_ID
    ))
}

#[tokio::test]
async fn the_longest_prefix_wins_by_whole_segments_whatever_the_order() {
    let upstream = Upstream::https();
    let daemon = several(
        &upstream,
        r#"
[[route]]
path = "/a"
upstream = "one"
[[route]]
path = "/a/b/"
upstream = "two"
[[route]]
path = "/ab"
upstream = "three"
"#,
    )
    .start()
    .await;
    for (asked, sent) in [
        ("/a", "/one/a"),
        ("/a/", "/one/a/"),
        ("/a/x", "/one/a/x"),
        ("/a/b", "/two/a/b"),
        ("/a/b/c", "/two/a/b/c"),
        ("/a/bc", "/one/a/bc"),
        ("/ab/c", "/three/ab/c"),
        // Prefixes are compared decoded, and written as the client did.
        ("/%61/%62/c", "/two/%61/%62/c"),
    ] {
        assert_eq!(daemon.get(asked).await.status, 200, "{asked}");
        assert_eq!(upstream.last().target, sent, "{asked}");
    }
    let before = upstream.count();
    for asked in ["/", "/abc", "/b", "//a"] {
        daemon.get(asked).await.assert_refused(404, "no_route");
    }
    assert_eq!(upstream.count(), before);
}

#[tokio::test]
async fn strip_prefix_takes_the_prefix_off_and_nothing_else() {
    let upstream = Upstream::https();
    let daemon = several(
        &upstream,
        r#"
[[route]]
path = "/acme/"
strip_prefix = true
upstream = "one"
[[route]]
path = "/"
upstream = "two"
[[route]]
path = "/b%20c"
strip_prefix = true
upstream = "three"
"#,
    )
    .start()
    .await;
    for (asked, sent) in [
        ("/acme/mcp", "/one/mcp"),
        ("/acme/", "/one/"),
        ("/acme", "/one"),
        ("/acme//x//y", "/one//x//y"),
        ("/acme/acme/x", "/one/acme/x"),
        ("/%61cme/mcp?q=%2F", "/one/mcp?q=%2F"),
        ("/b%20c/d", "/three/d"),
        ("/other", "/two/other"),
    ] {
        assert_eq!(daemon.get(asked).await.status, 200, "{asked}");
        assert_eq!(upstream.last().target, sent, "{asked}");
    }
}

#[tokio::test]
async fn each_upstream_has_its_own_path_rules_and_credential() {
    let (one, two) = (Upstream::https(), Upstream::http());
    one.accept_only(&[("first", "hush-first")]);
    two.accept_only(&[("second", "hush-second")]);
    let setup = Setup::before(&one).written(&format!(
        r#"
[upstream.one]
url = "{}"
ca_file = "DIR/ca.pem"
credential = "first"
allow_encoded_slash = true
[upstream.two]
url = "{}"
credential = "second"
[credential.first.auth-gateway]
key_id = "first"
secret = {{ file = "DIR/first" }}
[credential.second.auth-gateway]
key_id = "second"
secret = {{ file = "DIR/second" }}
[[route]]
path = "/one"
upstream = "one"
[[route]]
path = "/two"
upstream = "two"
[[listener]]
unix = "DIR/proxy.sock"
"#,
        one.url(),
        two.url()
    ));
    setup.file("first", "hush-first");
    setup.file("second", "hush-second\n");
    let daemon = setup.start().await;
    let ask = async |target: &str| -> Answer {
        let way = Way::Unix(crate::common::Http::One);
        daemon.ask_by(way, Ask::get(target)).await
    };
    assert_eq!(ask("/one/a%2Fb").await.status, 200);
    assert_eq!(ask("/two/ab").await.status, 200);
    ask("/two/a%2Fb").await.assert_refused(400, "path_refused");
    assert_eq!((one.count(), two.count()), (1, 1));
}

#[tokio::test]
async fn where_each_request_goes_is_said_once_at_the_start_and_at_each_reload() {
    let upstream = Upstream::https();
    let daemon = several(
        &upstream,
        "[[route]]\npath = \"/a\"\nupstream = \"one\"\n[[route]]\npath = \"/b\"\nupstream = \"two\"\nstrip_prefix = true\n",
    )
    .start()
    .await;
    let routes = || {
        let lines = daemon.log.all();
        let lines = lines.iter().map(|line| crate::common::daemon::fields(line));
        lines
            .filter(|line| line["msg"] == "route")
            .collect::<Vec<_>>()
    };
    daemon.logged("ready", |line| line["msg"] == "ready").await;
    let first = routes();
    assert_eq!(first.len(), 2, "{first:?}");
    assert_eq!(first[0]["from"], "/a/*");
    assert_eq!(first[0]["to"], format!("{}/one/a/*", upstream.url()));
    assert_eq!(first[1]["to"], format!("{}/two/*", upstream.url()));
    daemon.reload().await;
    crate::common::until("the routes were said again", || routes().len() == 4).await;
}

#[tokio::test]
async fn upstreams_in_clear_and_behind_unix_sockets_get_the_same() {
    for upstream in [Upstream::http(), Upstream::unix(), Upstream::https_h1()] {
        let daemon = Setup::before(&upstream).start().await;
        for way in Way::ALL {
            let answer = daemon.ask_by(way, Ask::post("/mcp", "{\"a\":1}")).await;
            assert_eq!((answer.status.as_u16(), answer.text()), (200, "{\"a\":1}"));
            let seen = upstream.last();
            assert_eq!(seen.version, http::Version::HTTP_11);
            assert_eq!(seen.header("host"), Some(&*seen.authority));
        }
    }
}

#[tokio::test]
async fn a_unix_upstream_may_have_a_base_path_and_is_called_localhost() {
    let upstream = Upstream::unix();
    let daemon = Setup::at(&format!("{}:/base", upstream.url()))
        .start()
        .await;
    assert_eq!(daemon.get("/x").await.status, 200);
    let seen = upstream.only();
    assert_eq!((&*seen.target, &*seen.authority), ("/base/x", "localhost"));
}
