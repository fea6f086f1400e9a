//! Several teams on one host: each with its own socket, its own routes and its own upstreams.

use serde_json::Value;

use crate::common::{Answer, Ask, Client, Daemon, Http, Setup, Upstream};

/// Sockets `a.sock` and `b.sock` beside the usual listeners, with these lines in their tables.
fn teams(setup: Setup, a: &str, b: &str) -> Setup {
    let (of_a, of_b) = (setup.path("a.sock"), setup.path("b.sock"));
    setup.more(&format!(
        "[[listener]]\nunix = {of_a:?}\n{a}\n[[listener]]\nunix = {of_b:?}\n{b}\n"
    ))
}

async fn ask(daemon: &Daemon, socket: &str, ask: Ask) -> Answer {
    let mut client = Client::unix(&daemon.path(socket), Http::One).await;
    client.ask(ask).await
}

fn own_routes(paths: &[&str]) -> String {
    let routes = paths
        .iter()
        .map(|path| format!("[[listener.route]]\npath = {path:?}\nupstream = \"up\"\n"));
    routes.collect()
}

#[tokio::test]
async fn a_listener_with_routes_of_its_own_has_these_alone() {
    let upstream = Upstream::https();
    let setup = teams(
        Setup::before(&upstream),
        &own_routes(&["/a"]),
        &own_routes(&["/b", "/shared/b"]),
    );
    let shared = "[[route]]\npath = \"/shared\"\nupstream = \"up\"\n";
    let daemon = setup.more(shared).start().await;
    for (socket, path, passes) in [
        ("a.sock", "/a/mcp", true),
        ("a.sock", "/b/mcp", false),
        ("a.sock", "/shared", false),
        ("b.sock", "/b/mcp", true),
        ("b.sock", "/shared/b", true),
        ("b.sock", "/shared/c", false),
        ("b.sock", "/a/mcp", false),
        ("proxy.sock", "/shared/b", true),
        ("proxy.sock", "/a/mcp", false),
    ] {
        let answer = ask(&daemon, socket, Ask::get(path)).await;
        if passes {
            assert_eq!(answer.status, 200, "{socket} {path}: {answer:?}");
        } else {
            answer.assert_refused(404, "no_route");
        }
    }
    let of_a = daemon.path("a.sock").display().to_string();
    let status = daemon.status();
    let is_of_a = |route: &&Value| route["listener"] == of_a.as_str();
    let routes: Vec<_> = status["routes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(is_of_a)
        .collect();
    assert_eq!((routes.len(), &routes[0]["path"]), (1, &Value::from("/a")));
}

#[tokio::test]
async fn several_upstreams_need_no_shared_route_where_every_listener_has_its_own() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream)
        .unix_listener(&own_routes(&["/a"]))
        .tcp_listener(&own_routes(&["/b"]))
        .more("[upstream.second]\nurl = \"http://127.0.0.1:1\"\n");
    let daemon = setup.start().await;
    assert_eq!(ask(&daemon, "proxy.sock", Ask::get("/a")).await.status, 200);
    assert_eq!(daemon.get("/b").await.status, 200);
    daemon.get("/a").await.assert_refused(404, "no_route");
}

#[tokio::test]
async fn a_connection_whose_listener_is_gone_does_not_fall_under_the_shared_routes() {
    let upstream = Upstream::https();
    let mut daemon = Setup::before(&upstream).start().await;
    let before = daemon.setup.config();
    daemon
        .reload_with(|setup| teams(setup, &own_routes(&["/a"]), ""))
        .await;
    let mut of_a = Client::unix(&daemon.path("a.sock"), Http::One).await;
    let mut of_b = Client::unix(&daemon.path("b.sock"), Http::One).await;
    assert_eq!(of_a.ask(Ask::get("/a")).await.status, 200);
    of_a.ask(Ask::get("/b"))
        .await
        .assert_refused(404, "no_route");
    assert_eq!(of_b.ask(Ask::get("/b")).await.status, 200);
    // Their next requests are on their way when the listeners go.
    let slow = upstream.count();
    daemon.reload_with(|setup| setup.written(&before)).await;
    // A request that comes before the connection is closed is refused; later it is not served at all.
    if let Ok(answer) = of_a.try_ask(Ask::get("/b")).await {
        answer.assert_refused(403, "peer_forbidden");
    }
    assert_eq!(upstream.count(), slow);
}
