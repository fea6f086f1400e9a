//! What each step of a request costs, by itself.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use divan::Bencher;
use divan::counter::BytesCount;
use futures_util::FutureExt;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use mcp_auth_proxy::auth::{Auth, Surroundings, Unsigned};
use mcp_auth_proxy::client::ProxyVariables;
use mcp_auth_proxy::config::{
    AuthGateway, Config, Credential, CredentialScheme, Flags, GatewayHeaders, GatewayKey, Sources,
    Target, Text,
};
use mcp_auth_proxy::env::Env;
use mcp_auth_proxy::metrics::Metrics;
use mcp_auth_proxy::proxy::cache::{Asked, Cache, Found, Question};
use mcp_auth_proxy::secret::Secret;
use mcp_auth_proxy::snapshot::{Partitions, Router};
use mcp_auth_proxy::{config, mcp, path, proxy};

fn main() {
    divan::main();
}

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"hello"}}}"#;

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        })
        .collect()
}

/// What an MCP client sends.
fn of_a_client() -> HeaderMap {
    headers(&[
        ("host", "localhost:8080"),
        ("user-agent", "agent/1.0"),
        ("accept", "application/json, text/event-stream"),
        ("content-type", "application/json"),
        ("content-length", "102"),
        ("connection", "keep-alive"),
        ("mcp-session-id", "5f2c1a70-9d3e-4a55-8a1e-6f1f0f5ad9c1"),
        ("mcp-protocol-version", "2025-11-25"),
        ("authorization", "Bearer from-before"),
    ])
}

fn gateway() -> Auth {
    let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
    let credential = Credential {
        name: "bench".to_owned(),
        scheme: CredentialScheme::AuthGateway(Box::new(AuthGateway {
            key: GatewayKey {
                key_id: Text {
                    secret: secret("550e8400-e29b-41d4-a716-446655440000"),
                    hidden: false,
                },
                secret: secret("aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789"),
            },
            previous: None,
            headers: GatewayHeaders::default(),
        })),
    };
    let around = Surroundings {
        proxies: &ProxyVariables::new(|_| None),
        metrics: Metrics::default().credential("bench"),
        log: &slog::Logger::root(slog::Discard, slog::o!()),
    };
    Auth::new(&credential, &around).unwrap()
}

/// One attempt: the ticket, the MAC, its hex and the three headers, put into a head that has others.
#[divan::bench(sample_size = 64)]
fn signature(bencher: Bencher) {
    let auth = gateway();
    let uri = Uri::from_static("/mcp?session=1");
    let target = Target::endpoint("https://mcp.example.com/").unwrap();
    bencher
        .with_inputs(|| {
            let mut headers = of_a_client();
            headers.reserve(4);
            headers
        })
        .bench_refs(|headers| {
            let ticket = auth.ready(None).now_or_never().unwrap().ok().unwrap();
            let request = Unsigned {
                method: &Method::POST,
                uri: black_box(&uri),
                headers,
                target: &target,
            };
            let credential = auth.sign(&ticket, &request, SystemTime::now());
            for (name, value) in credential.iter() {
                headers.insert(name, value.clone());
            }
        });
}

#[divan::bench(sample_size = 64)]
fn head_cleaning(bencher: Bencher) {
    bencher
        .with_inputs(of_a_client)
        .bench_refs(|headers| proxy::clean(headers, false, |_| false));
}

#[divan::bench]
fn path_check() -> bool {
    path::check(black_box("/team-500/tools%20and/mcp"), false).is_ok()
}

#[divan::bench(args = [1, 1000])]
fn routing(bencher: Bencher, routes: usize) {
    let folder = tempfile::tempdir().expect("a folder for the configuration");
    let config = load(&write_config(&folder, routes));
    let router = Router::new(&config, 0..config.shared_routes);
    let paths: Vec<String> = (0..routes).map(|n| format!("/team-{n}/mcp")).collect();
    let mut turn = 0;
    bencher.bench_local(|| {
        turn = (turn + 7919) % paths.len();
        router.find(black_box(paths[turn].as_bytes()))
    });
}

#[divan::bench(args = [102, 65_536], sample_size = 16)]
fn json_rpc_peek(bencher: Bencher, len: usize) {
    let body = CALL.replace("hello", &"a".repeat(len - CALL.len() + 5));
    bencher
        .counter(BytesCount::of_str(&body))
        .bench(|| mcp::peek(black_box(body.as_bytes())).is_some());
}

/// From the request's body to the answer with its id.
#[divan::bench(sample_size = 16)]
fn cache_hit(bencher: Bencher) {
    let question = br#"{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{}}"#;
    let answer = br#"{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"echo","inputSchema":{"type":"object"}}]}}"#;
    let (head, ()) = Request::post("/mcp").body(()).unwrap().into_parts();
    let target = PathAndQuery::from_static("/mcp");
    let policy = config::Cache {
        ttl: Some(Duration::from_secs(3600)),
        ..config::Cache::default()
    };
    let (cache, partitions) = (Arc::new(Cache::new(1 << 20)), Partitions::default());
    let find = || {
        let asked = Asked {
            question: Question::read(&head, &target, black_box(question), false).unwrap(),
            partitions: partitions.clone(),
            policy,
        };
        let found = cache.find(asked, Duration::ZERO);
        found.now_or_never().unwrap()
    };
    let Found::Miss(mut ticket) = find() else {
        panic!("nothing was asked yet");
    };
    assert!(ticket.saw(answer, Instant::now()));
    bencher.bench_local(|| assert!(matches!(find(), Found::Answer(_))));
}

/// Whether a piece of a stream ends between two events.
#[divan::bench(args = [64, 65_536])]
fn event_scan(bencher: Bencher, len: usize) {
    let piece = format!("data: {}\n\n", "a".repeat(len - 8));
    let mut boundary = proxy::Boundary::default();
    bencher.bench_local(|| {
        boundary.pass(black_box(piece.as_bytes()));
        boundary.is_between_events()
    });
}

/// From files to a validated configuration, secrets read.
#[divan::bench(args = [1, 1000])]
fn config_load(bencher: Bencher, routes: usize) {
    let folder = tempfile::tempdir().expect("a folder for the configuration");
    let path = write_config(&folder, routes);
    bencher.bench(|| load(&path));
}

fn load(path: &std::path::Path) -> Config {
    let sources = Sources {
        file: Some(path.to_owned()),
        env: Env::from_pairs([("HOME", "/nonexistent")]),
        flags: Flags::default(),
    };
    Config::load(&sources).unwrap_or_else(|problems| panic!("{problems}"))
}

fn write_config(folder: &tempfile::TempDir, routes: usize) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789").expect("a secret");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&secret, mode).expect("a private secret");
    let mut text = String::new();
    let credentials = routes.min(200);
    for n in 0..credentials {
        text += &format!(
            "[upstream.u{n}]\nurl = \"https://mcp.example/\"\ncredential = \"c{n}\"\n\
             [credential.c{n}.auth-gateway]\nkey_id = \"k{n}\"\nsecret = {{ file = \"secret\" }}\n"
        );
    }
    for n in 0..routes {
        let upstream = n % credentials;
        text += &format!("[[route]]\npath = \"/team-{n}/\"\nupstream = \"u{upstream}\"\n");
    }
    text += "[[listener]]\ntcp = \"127.0.0.1:0\"\n[admin]\nunix = \"off\"\n";
    let path = folder.path().join("config.toml");
    std::fs::write(&path, text).expect("a configuration");
    path
}
