//! What a valid configuration comes to.

use super::*;

const PRODUCT_EXAMPLE: &str = r#"
[upstream.acme]
url = "https://mcp.acme.example/"
credential = "acme"

[credential.acme.auth-gateway]   # one sub-table, named after the scheme
key_id = "550e8400-e29b-41d4-a716-446655440000"
secret = { file = "key" }

# Everything below has defaults.
[upstream.acme.session]          # a fixed header for upstreams that want one
header = "x-session-id"
value = { file = "session" }

[[listener]]
unix = "/run/mcp-auth-proxy/proxy.sock"
mode = "0660"
group = "0"

[[listener]]
tcp = "127.0.0.1:8080"
allowed_hosts = []               # beside the loopback names
allowed_origins = []

# With more than one upstream, routes say who goes where.
[[route]]
path = "/acme/"                  # longest prefix wins, by whole segments
strip_prefix = true
upstream = "acme"

[admin]
unix = "/run/mcp-auth-proxy/admin.sock"
tcp = "127.0.0.1:9464"           # off unless given

[log]
level = "info"
format = "json"                  # or "text"

[limits]
max_body = "64MiB"
replay_buffer = "1MiB"
"#;

#[test]
fn the_example_of_the_manual_loads() {
    let setup = Setup::toml(PRODUCT_EXAMPLE).private("session", "abc");
    let config = setup.load();
    assert_eq!(config.warnings, Vec::<String>::new());
    assert_eq!(config.files, [setup.path("config.toml")]);
    let upstream = &config.upstreams[0];
    assert_eq!(upstream.target.authority, "mcp.acme.example");
    assert_eq!(upstream.target.path, TargetPath::Base(String::new()));
    assert_eq!(upstream.session.as_ref().unwrap().value, secret("abc"));
    assert_eq!(upstream.credential, Some(0));
    let CredentialScheme::AuthGateway(gateway) = &config.credentials[0].scheme else {
        panic!("another scheme")
    };
    let key_id = gateway.key.key_id.header_value().unwrap();
    assert_eq!(key_id, "550e8400-e29b-41d4-a716-446655440000");
    assert_eq!(gateway.key.secret, secret("s3cret"));
    assert_eq!(gateway.headers, GatewayHeaders::default());
    let route = Route {
        path: "/acme".into(),
        strip_prefix: true,
        upstream: 0,
        access: Access::default(),
        credentials: Vec::new(),
        request_timeout: None,
        policies: Vec::new(),
    };
    assert_eq!(config.routes, [route]);
    let unix = UnixAddress {
        path: "/run/mcp-auth-proxy/proxy.sock".into(),
        mode: 0o660,
        owner: None,
        group: Some(0),
    };
    assert_eq!(config.listeners[0].address, ListenAddress::Unix(unix));
    assert_eq!(config.admin.tcp, Some("127.0.0.1:9464".parse().unwrap()));
    assert_eq!(
        config.log,
        Log {
            level: slog::Level::Info,
            format: LogFormat::Json
        }
    );
    assert_eq!(
        config.limits,
        Limits {
            max_body: 64 << 20,
            replay_buffer: 1 << 20,
            max_connections: None,
            max_connections_per_peer: None,
            rate: Vec::new(),
            cache: 16 << 20
        }
    );
}

#[test]
fn the_smallest_file_leaves_everything_else_to_defaults() {
    let config = Setup::toml(SMALL).load();
    let upstream = &config.upstreams[0];
    assert_eq!(upstream.request_timeout, Duration::from_secs(15));
    assert_eq!(upstream.connect_timeout, Duration::from_secs(5));
    assert_eq!(upstream.http_version, HttpVersion::Auto);
    assert_eq!(upstream.upstream_401, Upstream401::Translate);
    assert_eq!(upstream.sse_fallback, SseFallback::Auto);
    assert_eq!(upstream.session_recovery, SessionRecovery::Off);
    assert!(!upstream.stream_recovery);
    assert_eq!(*upstream.tls, Tls::default());
    assert!(!upstream.allow_encoded_slash && !upstream.forward_authorization);
    assert_eq!(
        config.routes,
        [Route {
            path: String::new(),
            strip_prefix: false,
            upstream: 0,
            access: Access::default(),
            credentials: Vec::new(),
            request_timeout: None,
            policies: Vec::new(),
        }]
    );
    let addresses: Vec<_> = config.listeners.iter().map(|l| &l.address).collect();
    let socket = UnixAddress {
        path: "/run/user/4711/mcp-auth-proxy/proxy.sock".into(),
        mode: 0o600,
        owner: None,
        group: None,
    };
    let tcp = ListenAddress::Tcp("127.0.0.1:8080".parse().unwrap());
    assert_eq!(addresses, [&ListenAddress::Unix(socket), &tcp]);
    let admin = config.admin.unix.unwrap();
    assert_eq!(
        admin.path,
        Path::new("/run/user/4711/mcp-auth-proxy/admin.sock")
    );
    assert_eq!(admin.mode, 0o600);
    assert_eq!(config.admin.tcp, None);
    assert_eq!(config.server.graceful_shutdown, Duration::from_secs(10));
    assert!((1..=8).contains(&config.server.workers));
}

#[test]
fn every_other_setting_has_its_words() {
    let text = SMALL.replace(
        "credential = \"acme\"",
        "credential = \"acme\"\nhttp_version = \"2\"\nallow_encoded_slash = true\n\
         upstream_401 = \"pass\"\nsse_fallback = \"never\"\nsession_recovery = \"replay\"\nstream_recovery = true\nforward_authorization = true",
    );
    let more = "[limits]\nmax_body = 1000\nreplay_buffer = 0\ncache = 0\n\
                [server]\nworkers = 3\nread_timeout = \"1m\"\nidle_timeout = \"1h\"\n\
                [log]\nlevel = \"warn\"\n[admin]\ntcp = \"off\"\n\
                [[listener]]\nunix = \"/tmp/p.sock\"\nmode = \"0640\"\nowner = \"root\"\ngroup = \"12\"\n\
                allowed_hosts = [\"Host.Docker.internal\"]\nallowed_origins = [\"http://A:3000\"]\n";
    let config = Setup::toml(&format!("{text}{more}")).load();
    let upstream = &config.upstreams[0];
    assert_eq!(upstream.http_version, HttpVersion::Http2);
    assert_eq!(upstream.upstream_401, Upstream401::Pass);
    assert_eq!(upstream.sse_fallback, SseFallback::Never);
    assert_eq!(upstream.session_recovery, SessionRecovery::Replay);
    assert!(upstream.stream_recovery);
    assert!(upstream.allow_encoded_slash && upstream.forward_authorization);
    assert_eq!(
        config.limits,
        Limits {
            max_body: 1000,
            replay_buffer: 0,
            max_connections: None,
            max_connections_per_peer: None,
            rate: Vec::new(),
            cache: 0
        }
    );
    assert_eq!(
        (config.server.workers, config.server.read_timeout.as_secs()),
        (3, 60)
    );
    assert_eq!(config.log.level, slog::Level::Warning);
    assert_eq!(config.admin.tcp, None);
    let [listener] = config.listeners.as_slice() else {
        panic!()
    };
    let path = "/tmp/p.sock".into();
    let unix = UnixAddress {
        path,
        mode: 0o640,
        owner: Some(0),
        group: Some(12),
    };
    assert_eq!(listener.address, ListenAddress::Unix(unix));
    assert_eq!(listener.allowed_hosts, ["host.docker.internal"]);
    assert_eq!(listener.allowed_origins, ["http://a:3000"]);
}

#[test]
fn a_misspelt_table_is_one_problem() {
    let setup = Setup::toml(&SMALL.replace("[upstream", "[upsteam"));
    assert_eq!(
        setup.only_problem(),
        "config.toml:2:2: upsteam: unknown key \"upsteam\"; did you mean \"upstream\"?"
    );
}

/// The configuration after the program of its only refreshed secret printed `new`.
fn refreshed(config: &Config, new: &str) -> Result<Config, String> {
    assert_eq!(config.refreshed.len(), 1);
    config.with_secret(&config.refreshed[0].secret, &secret(new))
}

#[test]
fn a_token_that_a_program_prints_anew_takes_the_place_of_the_one_before() {
    let tokens = "[[listener]]\ntcp = \"127.0.0.1:0\"\n[listener.tokens]\n\
                  desk = \"0123456789abcdef\"\nci.command = [\"/bin/echo\", \"fedcba9876543210\"]\nci.refresh = \"1h\"\n";
    let config = Setup::small_and(tokens).load();
    let client = |config: &Config, token: &str| {
        let client = config.listeners[0].tokens.client(token.as_bytes());
        client.map(|name| name.to_string())
    };
    assert_eq!(client(&config, "fedcba9876543210").as_deref(), Some("ci"));
    let next = refreshed(&config, "another-token-of-ci").unwrap();
    assert_eq!(client(&next, "another-token-of-ci").as_deref(), Some("ci"));
    assert_eq!(client(&next, "fedcba9876543210"), None);
    assert_eq!(client(&next, "0123456789abcdef").as_deref(), Some("desk"));
    assert!(next.refreshed[0].secret == secret("another-token-of-ci"));
    // And the next time.
    let last = refreshed(&next, "a-third-token-of-ci").unwrap();
    assert_eq!(client(&last, "another-token-of-ci"), None);
    assert!(
        refreshed(&config, "short")
            .unwrap_err()
            .contains("16 bytes")
    );
    let same = refreshed(&config, "0123456789abcdef").unwrap_err();
    assert!(same.contains("\"desk\" has the same token"), "{same}");
}

#[test]
fn a_signature_key_in_base64_that_a_program_prints_anew_is_put_into_force() {
    let credential = "[upstream.two]\nurl = \"https://two.example/\"\ncredential = \"two\"\n\
        [credential.two.http-signature]\nkey_id = \"k\"\nalgorithm = \"hmac-sha256\"\n\
        key_encoding = \"base64\"\nkey = { command = [\"/bin/echo\", \"Zmlyc3Q=\"], refresh = \"1h\" }\n\
        [[route]]\npath = \"/\"\nupstream = \"two\"\n";
    let config = Setup::small_and(credential).load();
    let next = refreshed(&config, "c2Vjb25k").unwrap();
    let CredentialScheme::HttpSignature(signature) = &next.credentials[1].scheme else {
        panic!("{next:?}");
    };
    assert!(signature.key == secret("c2Vjb25k") && signature.signing_key().is_ok());
    let crate::key::SigningKey::Hmac(_) = signature.signing_key().unwrap() else {
        panic!("another kind of key")
    };
    let unfit = refreshed(&config, "not base64!").unwrap();
    let CredentialScheme::HttpSignature(signature) = &unfit.credentials[1].scheme else {
        panic!("{unfit:?}");
    };
    assert!(signature.signing_key().is_err());
}

#[test]
fn a_new_value_for_a_secret_that_stands_nowhere_is_an_error() {
    let config = Setup::small_and("").load();
    let (old, new) = (secret("s3cret"), secret("next"));
    assert!(
        config.with_secret(&old, &new).is_err(),
        "equal, and another"
    );
}

#[test]
fn programs_that_print_secrets_run_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let script = |own: &str, other: &str| {
        let (own, other) = (dir.path().join(own), dir.path().join(other));
        let wait = format!(
            "touch {0}; while ! test -e {1}; do sleep 0.01; done; echo s3cret",
            own.display(),
            other.display()
        );
        format!("{{ command = [\"/bin/sh\", \"-c\", {wait:?}], timeout = \"20s\" }}")
    };
    let (one, other) = (script("a", "b"), script("b", "a"));
    let setup = Setup::small_and(&format!(
        "[upstream.two]\nurl = \"https://two.example/\"\ncredential = \"two\"\n\
         [credential.two.headers]\nx-one = {one}\nx-other = {other}\n\
         [[route]]\npath = \"/\"\nupstream = \"two\"\n"
    ));
    let mut told = None;
    let config = Config::load_telling(&setup.sources(), |longest| told = Some(longest)).unwrap();
    assert_eq!(config.commands.len(), 2);
    assert_eq!(told, Some(Duration::from_secs(20)));
    assert_eq!(
        Config::command_time(&setup.sources()),
        Duration::from_secs(20)
    );
    let mut told = None;
    Config::load_telling(&Setup::small_and("").sources(), |longest| {
        told = Some(longest)
    })
    .unwrap();
    assert_eq!(told, None);
}

#[test]
fn a_secret_that_was_refreshed_during_a_reload_is_not_undone_by_it() {
    let setup = Setup::small_and(
        "[upstream.two]\nurl = \"https://two.example/\"\ncredential = \"two\"\n\
         [credential.two.bearer]\ntoken = { command = [\"/bin/echo\", \"first\"], refresh = \"1h\" }\n\
         [[route]]\npath = \"/\"\nupstream = \"two\"\n",
    );
    let token = |config: &Config| match &config.credentials[1].scheme {
        CredentialScheme::Bearer { token } => token.clone(),
        other => panic!("{other:?}"),
    };
    let before = setup.load();
    let now = refreshed(&before, "second").unwrap();
    assert!(token(&setup.load().carry_over(&before, &now)) == secret("second"));
    // A reload alone takes what the program printed for it.
    assert!(token(&setup.load().carry_over(&before, &before)) == secret("first"));
}

#[test]
fn variables_that_are_handed_on_to_programs_are_taken_out_of_the_environment() {
    let command = "[upstream.two]\nurl = \"https://two.example/\"\ncredential = \"two\"\n\
         [credential.two.bearer]\ntoken = { command = [\"/bin/sh\", \"-c\", \"echo $VAULT_TOKEN\"], \
         pass_env = [\"VAULT_TOKEN\", \"SSL_CERT_FILE\"] }\n\
         [[route]]\npath = \"/\"\nupstream = \"two\"\n";
    let config = Setup::small_and(command)
        .env("VAULT_TOKEN", "of-the-vault")
        .load();
    assert_eq!(config.secret_variables, ["VAULT_TOKEN"]);
    let CredentialScheme::Bearer { token } = &config.credentials[1].scheme else {
        panic!("{config:?}");
    };
    assert!(*token == secret("of-the-vault"), "the program has it still");
}
