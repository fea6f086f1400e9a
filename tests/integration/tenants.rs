//! Several teams on one host: each with its own socket, its own routes and its own upstreams.

use std::fs::{self, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

#[cfg(target_os = "linux")]
use nix::sys::signal::{Signal, kill};
#[cfg(target_os = "linux")]
use nix::unistd::Pid;
use serde_json::Value;

#[cfg(target_os = "linux")]
use crate::common::process;
use crate::common::tls::{Authority, authority};
use crate::common::user::{self, User};
use crate::common::{Answer, Ask, Client, Daemon, Http, KEY_ID, Setup, Upstream, Way, until};

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

// Who may use what.

const ALICE: User = User {
    uid: 64_001,
    gid: 64_001,
    groups: &[64_050, 64_060],
};
const BOB: User = User {
    uid: 64_002,
    gid: 64_002,
    groups: &[],
};

/// A daemon whose socket everybody can reach, with these lines under its only route.
async fn open_to_all(upstream: &Upstream, route: &str) -> Daemon {
    let shared = format!("[[route]]\npath = \"/\"\nupstream = \"up\"\n{route}\n");
    let setup = Setup::before(upstream)
        .unix_listener("mode = \"0666\"")
        .more(&shared);
    fs::set_permissions(setup.dir(), Permissions::from_mode(0o755)).unwrap();
    setup.start().await
}

async fn client_of(daemon: &Daemon, user: User, way: Way) -> Client {
    let (socket, port) = (daemon.socket(), daemon.address());
    match way {
        Way::Unix(http) => {
            let stream = user.runs(|| UnixStream::connect(socket).unwrap());
            Client::over_unix(stream, http).await
        }
        Way::Tcp(http) => {
            let stream = user.runs(|| TcpStream::connect(port).unwrap());
            Client::over_tcp(stream, http).await
        }
    }
}

#[tokio::test]
async fn users_and_groups_are_those_that_the_kernel_names_on_socket_and_port() {
    if !user::can_be_others() {
        return;
    }
    let upstream = Upstream::https();
    for (rules, alice, bob) in [
        ("allow = { users = [\"64001\"] }", true, false),
        ("allow = { groups = [\"64002\"] }", false, true),
        (
            "allow = { users = [\"64001\", \"64002\"] }\ndeny = { users = [\"64002\"] }",
            true,
            false,
        ),
        ("deny = { users = [\"64001\"] }", false, true),
        ("allow = { users = [] }", false, false),
    ] {
        let daemon = open_to_all(&upstream, rules).await;
        for (user, permitted) in [(ALICE, alice), (BOB, bob)] {
            let mut client = client_of(&daemon, user, Way::Unix(Http::One)).await;
            let answer = client
                .ask(Ask::get("/mcp").header("x-request-id", "unix"))
                .await;
            if permitted {
                assert_eq!(answer.status, 200, "{rules} {user:?}: {answer:?}");
            } else {
                answer.assert_refused(403, "peer_forbidden");
                assert!(!answer.text().contains("config.toml"), "{answer:?}");
            }
        }
        if alice != bob {
            let line = daemon
                .logged("the refusal", |line| line["status"] == 403)
                .await;
            let cause = line["cause"].as_str().unwrap();
            assert!(cause.contains("config.toml:"), "{cause}");
        }
    }
    // The user database knows neither of them, so that of TCP their users alone are known.
    for (rules, alice, bob) in [
        ("allow = { users = [\"64001\"] }", true, false),
        ("deny = { users = [\"64001\"] }", false, true),
        ("allow = { groups = [\"64002\"] }", false, false),
        ("deny = { groups = [\"64002\"] }", false, false),
    ] {
        let daemon = open_to_all(&upstream, rules).await;
        for (user, permitted) in [(ALICE, alice), (BOB, bob)] {
            let mut client = client_of(&daemon, user, Way::Tcp(Http::Two)).await;
            let answer = client.ask(Ask::get("/mcp")).await;
            assert_eq!(
                answer.status == 200,
                permitted,
                "{rules} {user:?}: {answer:?}"
            );
        }
    }
}

#[tokio::test]
async fn supplementary_groups_count_however_many_there_are() {
    if !user::can_be_others() {
        return;
    }
    static MANY: std::sync::LazyLock<Vec<u32>> =
        std::sync::LazyLock::new(|| (70_000..70_200).collect());
    let carol = User {
        uid: 64_003,
        gid: 64_003,
        groups: &MANY,
    };
    let upstream = Upstream::https();
    let daemon = open_to_all(&upstream, "allow = { groups = [\"64060\", \"70199\"] }").await;
    for (user, status) in [(ALICE, 200), (BOB, 403), (carol, 200)] {
        let mut client = client_of(&daemon, user, Way::Unix(Http::Two)).await;
        assert_eq!(
            client.ask(Ask::get("/mcp")).await.status,
            status,
            "{user:?}"
        );
    }
}

#[tokio::test]
async fn a_listener_that_is_not_for_a_client_tells_it_only_that_the_proxy_lives() {
    if !user::can_be_others() {
        return;
    }
    let upstream = Upstream::https();
    let setup =
        Setup::before(&upstream).unix_listener("mode = \"0666\"\nallow = { users = [\"64001\"] }");
    fs::set_permissions(setup.dir(), Permissions::from_mode(0o755)).unwrap();
    let daemon = setup.start().await;
    let mut bob = client_of(&daemon, BOB, Way::Unix(Http::One)).await;
    assert_eq!(bob.ask(Ask::get("/healthz")).await.status, 200);
    let discovery = Ask::get("/.well-known/oauth-protected-resource");
    bob.ask(discovery).await.assert_refused(404, "not_offered");
    for path in ["/readyz", "/mcp", "/"] {
        bob.ask(Ask::get(path))
            .await
            .assert_refused(403, "peer_forbidden");
    }
    let mut alice = client_of(&daemon, ALICE, Way::Unix(Http::One)).await;
    assert_eq!(alice.ask(Ask::get("/mcp")).await.status, 200);
    // The other listener has no such rule.
    assert_eq!(daemon.get("/mcp").await.status, 200);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_client_is_told_by_its_executable_on_the_socket() {
    let upstream = Upstream::https();
    let own = std::env::current_exe().unwrap();
    let link = tempfile::tempdir().unwrap();
    let link = link.path().join("link");
    std::os::unix::fs::symlink(&own, &link).unwrap();
    for (rules, status) in [
        (format!("allow = {{ executables = [{own:?}] }}"), 200),
        (format!("allow = {{ executables = [{link:?}] }}"), 200),
        ("allow = { executables = [\"/bin/sh\"] }".to_owned(), 403),
        (format!("deny = {{ executables = [{own:?}] }}"), 403),
        (
            format!("allow = {{ users = [\"4294967294\"], executables = [{own:?}] }}"),
            403,
        ),
    ] {
        let daemon = open_to_all(&upstream, &rules).await;
        assert!(
            !daemon.text().contains("a rule names executables"),
            "the rule keeps the daemon's own walls down"
        );
        let answer = ask(&daemon, "proxy.sock", Ask::get("/mcp")).await;
        assert_eq!(answer.status, status, "{rules}: {answer:?}");
        // TCP does not tell, and what is unknown is not what is allowed.
        assert_eq!(daemon.get("/mcp").await.status, 403, "{rules}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn whoever_looks_at_executables_for_the_daemon_has_nothing_of_it_and_goes_with_it() {
    let upstream = Upstream::https();
    let rule = "deny = { executables = [\"/bin/sh\"] }";
    let mut daemon = open_to_all(&upstream, rule).await;
    if daemon.status()["sandbox"]["files"] != "in force" {
        eprintln!("skipped: no sandbox here: {}", daemon.status()["sandbox"]);
        return;
    }
    let onlooker = process::child_of(daemon.pid()).expect("another process");
    let of_onlooker = |name: &str| fs::read(format!("/proc/{onlooker}/{name}")).unwrap();
    assert_eq!(of_onlooker("environ"), b"");
    assert_eq!(of_onlooker("cmdline"), b"mcp-auth-proxy-onlooker\0");
    // While it is loaded it has its libraries open.
    let descriptors = || fs::read_dir(format!("/proc/{onlooker}/fd")).unwrap();
    until("it has three descriptors", || descriptors().count() == 3).await;
    // It is not stopped by what stops the daemon, before the daemon is.
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        kill(Pid::from_raw(onlooker), signal).unwrap();
    }
    let asked = ask(&daemon, "proxy.sock", Ask::get("/mcp")).await;
    assert_eq!(asked.status, 200);
    // Without it nothing is known, and what is unknown is denied.
    kill(Pid::from_raw(onlooker), Signal::SIGKILL).unwrap();
    let refused = ask(&daemon, "proxy.sock", Ask::get("/mcp")).await;
    refused.assert_refused(403, "peer_forbidden");
    let line = daemon
        .logged("the refusal", |line| line["status"] == 403)
        .await;
    let cause = line["cause"].as_str().unwrap();
    assert!(cause.contains("restart the daemon"), "{cause}");

    let mut daemon = {
        assert!(daemon.stop().await.success());
        open_to_all(&upstream, rule).await
    };
    let onlooker = process::child_of(daemon.pid()).expect("another process");
    assert!(daemon.stop().await.success());
    until("it is gone", || !process::lives(onlooker)).await;
}

// Who proves who it is.

const TOKEN: &str = "a-token-of-the-build-servers-own";
const OTHER_TOKEN: &str = "another-token-for-somebody-else";

/// Adds `tokens` for `ci` and `desk` to the TCP listener.
fn with_tokens(setup: Setup) -> Setup {
    let ci = setup.file("ci.token", TOKEN);
    let desk = setup.file("desk.token", OTHER_TOKEN);
    setup.tcp_listener(&format!(
        "tokens = {{ ci = {{ file = {ci:?} }}, desk = {{ file = {desk:?} }} }}\n"
    ))
}

/// Makes the TCP listener speak TLS, with `more` in its table.
fn with_tls(setup: Setup, more: &str) -> Setup {
    let identity = authority().issue(&["localhost"]);
    let cert = setup.file("server.pem", &identity.certificate);
    let key = setup.file("server.key", &identity.key);
    setup.tcp_listener(&format!(
        "tls = {{ cert = {cert:?}, key = {key:?}{more} }}\n"
    ))
}

fn bearer(ask: Ask, token: &str) -> Ask {
    ask.header("authorization", &format!("Bearer {token}"))
}

#[tokio::test]
async fn a_port_that_wants_tokens_serves_their_clients_alone_and_keeps_the_token_to_itself() {
    let upstream = Upstream::https();
    let setup = with_tokens(Setup::before(&upstream)).upstream("forward_authorization = true");
    let route = "[[route]]\npath = \"/\"\nupstream = \"up\"\ndeny = { clients = [\"desk\"] }\n\
                 [[route]]\npath = \"/open\"\nupstream = \"up\"\n";
    let daemon = setup.more(route).start().await;
    for http in [Http::One, Http::Two] {
        let way = Way::Tcp(http);
        let get = || Ask::get("/mcp");
        let asked = bearer(get(), TOKEN).header("x-request-id", "known");
        assert_eq!(daemon.ask_by(way, asked).await.status, 200);
        assert_eq!(upstream.last().header("authorization"), None);
        assert_eq!(daemon.logged_request("known").await["client"], "ci");
        let denied = daemon.ask_by(way, bearer(get(), OTHER_TOKEN)).await;
        denied.assert_refused(403, "peer_forbidden");
        for wrong in [
            get(),
            bearer(get(), ""),
            bearer(get(), &TOKEN[1..]),
            get().header("authorization", TOKEN),
            get().header("authorization", &format!("Basic {TOKEN}")),
            bearer(bearer(get(), TOKEN), OTHER_TOKEN),
        ] {
            let answer = daemon.ask_by(way, wrong).await;
            // No 401, and no challenge: MCP clients would look for a login.
            answer.assert_refused(403, "client_unauthenticated");
        }
    }
    assert_eq!(daemon.get("/healthz").await.status, 200);
    daemon
        .get("/readyz")
        .await
        .assert_refused(403, "client_unauthenticated");
    // The socket asks nobody: whoever comes by it could be the one who is denied.
    let asked = bearer(Ask::get("/mcp"), TOKEN);
    let nameless = ask(&daemon, "proxy.sock", asked).await;
    nameless.assert_refused(403, "peer_forbidden");
    // Elsewhere it passes what is the client's own.
    let asked = bearer(Ask::get("/open"), TOKEN);
    assert_eq!(ask(&daemon, "proxy.sock", asked).await.status, 200);
    assert!(!daemon.text().contains(TOKEN), "{}", daemon.text());
}

#[tokio::test]
async fn a_token_that_is_taken_away_serves_no_more_on_the_same_connection() {
    let upstream = Upstream::https();
    let mut daemon = with_tokens(Setup::before(&upstream)).start().await;
    let mut client = daemon.client(Way::Tcp(Http::One)).await;
    let asked = || bearer(Ask::get("/mcp"), TOKEN);
    assert_eq!(client.ask(asked()).await.status, 200);
    daemon
        .reload_with(|setup| {
            setup.file("ci.token", "the-token-that-comes-after-it");
            setup
        })
        .await;
    client
        .ask(asked())
        .await
        .assert_refused(403, "client_unauthenticated");
    let new = bearer(Ask::get("/mcp"), "the-token-that-comes-after-it");
    assert_eq!(client.ask(new).await.status, 200);
}

#[tokio::test]
async fn a_port_speaks_tls_and_knows_its_clients_by_their_certificates() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    let ca = setup.path("ca.pem");
    let setup = with_tls(setup, &format!(", client_ca = {ca:?}"));
    let daemon = setup.start().await;
    let known = authority().issue(&["build.example", "also.example"]);
    for http in [Http::One, Http::Two] {
        let mut client = Client::tls(daemon.address(), Some(&known), http)
            .await
            .unwrap();
        let id = format!("{http:?}");
        let asked = Ask::post("/mcp", "{}").header("x-request-id", &id);
        assert_eq!(client.ask(asked).await.status, 200);
        assert_eq!(upstream.last().header("x-forwarded-proto"), Some("https"));
        assert_eq!(daemon.logged_request(&id).await["client"], "build.example");
    }
    let stranger = Authority::new("nobody's").issue(&["build.example"]);
    for identity in [None, Some(&stranger)] {
        let connected = Client::tls(daemon.address(), identity, Http::One).await;
        // TLS 1.3 tells a client of its certificate's refusal after its handshake.
        if let Ok(mut client) = connected {
            assert!(client.try_ask(Ask::get("/mcp")).await.is_err());
        }
    }
    // In clear there is nothing to be had.
    let mut plain = daemon.client(Way::Tcp(Http::One)).await;
    assert!(plain.try_ask(Ask::get("/healthz")).await.is_err());
}

#[tokio::test]
async fn a_token_or_a_certificate_will_do_where_both_are_taken() {
    let upstream = Upstream::https();
    let setup = with_tokens(Setup::before(&upstream));
    let ca = setup.path("ca.pem");
    let daemon = with_tls(setup, &format!(", client_ca = {ca:?}"))
        .start()
        .await;
    let known = authority().issue(&["build.example"]);
    let mut by_certificate = Client::tls(daemon.address(), Some(&known), Http::Two)
        .await
        .unwrap();
    assert_eq!(by_certificate.ask(Ask::get("/mcp")).await.status, 200);
    let mut by_token = Client::tls(daemon.address(), None, Http::Two)
        .await
        .unwrap();
    assert_eq!(
        by_token.ask(bearer(Ask::get("/mcp"), TOKEN)).await.status,
        200
    );
    let neither = by_token.ask(Ask::get("/mcp")).await;
    neither.assert_refused(403, "client_unauthenticated");
}

#[tokio::test]
async fn a_new_certificate_is_shown_after_a_reload_and_an_old_authority_is_believed_no_more() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    let clients = Authority::new("the clients' own");
    let ca = setup.file("clients.pem", &clients.pem);
    let mut daemon = with_tls(setup, &format!(", client_ca = {ca:?}"))
        .start()
        .await;
    let known = clients.issue(&["build.example"]);
    let mut old = Client::tls(daemon.address(), Some(&known), Http::One)
        .await
        .unwrap();
    assert_eq!(old.ask(Ask::get("/mcp")).await.status, 200);
    daemon.reload().await;
    // The same authority, read again.
    assert_eq!(old.ask(Ask::get("/mcp")).await.status, 200);
    let next = Authority::new("the clients' next");
    daemon
        .reload_with(|setup| {
            setup.file("clients.pem", &next.pem);
            // Not for the name that clients connect to.
            let identity = authority().issue(&["elsewhere.example"]);
            setup.file("server.pem", &identity.certificate);
            setup.file("server.key", &identity.key);
            setup
        })
        .await;
    old.ask(Ask::get("/mcp"))
        .await
        .assert_refused(403, "client_unauthenticated");
    let known = next.issue(&["build.example"]);
    assert!(
        Client::tls(daemon.address(), Some(&known), Http::One)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_port_of_the_network_is_served_with_tls_and_known_clients() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream).replaced_tcp_listener(
        "tcp = \"0.0.0.0:0\"\nallow_non_loopback = true\nallowed_hosts = [\"mcp.example\"]",
    );
    let daemon = with_tls(with_tokens(setup), "").start().await;
    let port = ([127, 0, 0, 1], daemon.address().port()).into();
    let mut client = Client::tls(port, None, Http::One).await.unwrap();
    let asked = |host| bearer(Ask::get("/mcp").host(host), TOKEN);
    assert_eq!(client.ask(asked("mcp.example")).await.status, 200);
    client
        .ask(asked("other.example"))
        .await
        .assert_refused(403, "host_forbidden");
}

#[tokio::test]
async fn whoever_is_refused_by_name_is_named_in_log_and_audit() {
    let upstream = Upstream::https();
    let setup = with_tokens(Setup::before(&upstream));
    let audit = setup.path("audit.log");
    let setup = setup
        .tcp_listener("allow = { clients = [\"ci\"] }")
        .more(&format!("[audit]\nfile = {audit:?}"));
    let daemon = setup.start().await;
    let asked = bearer(Ask::get("/mcp"), OTHER_TOKEN).header("x-request-id", "refused");
    daemon
        .ask(asked)
        .await
        .assert_refused(403, "peer_forbidden");
    assert_eq!(daemon.logged_request("refused").await["client"], "desk");
    until("its record", || {
        let records = fs::read_to_string(&audit).unwrap_or_default();
        records
            .lines()
            .any(|line| line.contains("\"client\":\"desk\""))
    })
    .await;
}

// Which credential.

#[tokio::test]
async fn a_client_may_name_a_credential_that_its_route_offers_and_no_other() {
    let upstream = Upstream::https();
    let setup = Setup::before(&upstream);
    let (secret, audit) = (setup.path("secret"), setup.path("audit.log"));
    let more = ["second", "third"].map(|name| {
        format!(
            "[credential.{name}.auth-gateway]\nkey_id = \"{}\"\nsecret = {{ file = {secret:?} }}\n",
            KEY_ID
        )
    });
    let daemon = setup
        .more(&more.concat())
        .more(&format!("[audit]\nfile = {audit:?}"))
        .more("[upstream.other]\nurl = \"http://127.0.0.1:1\"\ncredential = \"third\"")
        .more("[[route]]\npath = \"/\"\nupstream = \"up\"\n[[route]]\npath = \"/two/\"\nupstream = \"up\"\ncredentials = [\"key\", \"second\"]\n[[route]]\npath = \"/other\"\nupstream = \"other\"")
        .start()
        .await;
    let named = |path: &str, name: &str| Ask::get(path).header("x-mcp-auth-credential", name);
    for name in ["second", "key"] {
        let answer = daemon.ask(named("/two/mcp", name)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(upstream.last().header("x-mcp-auth-credential"), None);
        let said = format!("\"credential\":\"{name}\"");
        until("its record", || {
            let records = fs::read_to_string(&audit).unwrap();
            records
                .lines()
                .last()
                .is_some_and(|line| line.contains(&said))
        })
        .await;
    }
    let before = upstream.count();
    for asked in [
        named("/two/mcp", "third"),
        named("/two/mcp", "nothing"),
        named("/two/mcp", "second").header("x-mcp-auth-credential", "key"),
        named("/mcp", "second"),
    ] {
        daemon
            .ask(asked.header("x-request-id", "refused"))
            .await
            .assert_refused(403, "credential_forbidden");
    }
    assert_eq!(upstream.count(), before);
    until("the audit tells what was asked for", || {
        let records = fs::read_to_string(&audit).unwrap();
        let last = records.lines().last().unwrap_or_default();
        last.contains(r#""cause":"the client named \"second\"""#)
    })
    .await;
    assert_eq!(daemon.get("/two/mcp").await.status, 200);
    // The upstream's own may be named, offered or not.
    assert_eq!(daemon.ask(named("/mcp", "key")).await.status, 200);
}
