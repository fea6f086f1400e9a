//! Who overrides whom.

use http::HeaderValue;

use super::*;

fn by_environment() -> Setup {
    Setup::empty()
        .env("MCP_UPSTREAM_URL", "https://mcp.acme.example/base/")
        .env("MCP_API_KEY", "id")
        .env("MCP_API_SECRET", "s3cret")
}

fn auth_gateway(config: &Config, index: usize) -> (HeaderValue, &Secret) {
    let CredentialScheme::AuthGateway(gateway) = &config.credentials[index].scheme else {
        panic!("another scheme")
    };
    (
        gateway.key.key_id.header_value().unwrap(),
        &gateway.key.secret,
    )
}

fn tcp(address: &str) -> ListenAddress {
    ListenAddress::Tcp(address.parse().unwrap())
}

#[test]
fn the_environment_alone_configures_one_upstream() {
    let config = by_environment()
        .env("MCP_REQUEST_TIMEOUT", "250ms")
        .env("MCP_SESSION_VALUE", "abc")
        .env("MCP_LISTEN_ADDR", "localhost:9000")
        .env("MCP_SOCKET", "off")
        .load();
    assert_eq!(config.upstreams[0].name, "default");
    assert_eq!(
        config.upstreams[0].target.path,
        TargetPath::Base("/base".into())
    );
    assert_eq!(
        config.upstreams[0].request_timeout,
        Duration::from_millis(250)
    );
    assert_eq!(
        config.upstreams[0].session.as_ref().unwrap().name,
        "x-session-id"
    );
    let [listener] = config.listeners.as_slice() else {
        panic!("{:?}", config.listeners)
    };
    assert_eq!(listener.address, tcp("127.0.0.1:9000"));
    assert_eq!(config.credentials[0].name, "default");
    assert_eq!(
        auth_gateway(&config, 0),
        (HeaderValue::from_static("id"), &secret("s3cret"))
    );
    assert_eq!(
        config.secret_variables,
        ["MCP_API_KEY", "MCP_API_SECRET", "MCP_SESSION_VALUE"]
    );
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn key_and_secret_may_be_in_files_that_the_environment_names() {
    let setup = Setup::empty()
        .private("id", "the-id\n")
        .private("key", "k\n");
    let (id, key) = (setup.path("id"), setup.path("key"));
    let setup = setup
        .env("MCP_UPSTREAM_URL", "http://127.0.0.1:1")
        .env("MCP_API_KEY_FILE", id.to_str().unwrap())
        .env("MCP_API_SECRET_FILE", key.to_str().unwrap());
    let config = setup.load();
    assert_eq!(
        auth_gateway(&config, 0),
        (HeaderValue::from_static("the-id"), &secret("k"))
    );
    let both = setup.env("MCP_API_SECRET", "s");
    assert_eq!(
        both.only_problem(),
        "MCP_API_SECRET_FILE: excludes MCP_API_SECRET; unset one of the two"
    );
}

#[test]
fn every_variable_that_does_not_parse_is_a_problem_under_its_own_name() {
    let setup = by_environment()
        .env("MCP_LISTEN_ADDR", "0.0.0.0:1")
        .env("MCP_SOCKET", "relative.sock")
        .env("MCP_REQUEST_TIMEOUT", "15")
        .env("MCP_SESSION_HEADER", "host")
        .env("MCP_SESSION_VALUE", "")
        .env("MCP_UPSTREAM_INSECURE", "maybe")
        .env("MCP_LOG_LEVEL", "loud")
        .env("MCP_SERVER_READ_TIMEOUT", "x")
        .env("MCP_SERVER_WRITE_TIMEOUT", "0s")
        .env("MCP_SERVER_IDLE_TIMEOUT", "-1s")
        .env("MCP_GRACEFUL_SHUTDOWN", "2 weeks");
    let problems = setup.problems();
    for (name, _) in setup
        .env
        .iter()
        .filter(|(name, _)| name.starts_with("MCP_"))
    {
        let valid = ["MCP_UPSTREAM_URL", "MCP_API_KEY", "MCP_API_SECRET"].contains(&name.as_str());
        let reported = problems
            .iter()
            .any(|line| line.starts_with(&format!("{name}: ")));
        assert_eq!(reported, !valid, "{name}: {problems:#?}");
    }
}

#[test]
fn a_url_in_the_environment_needs_its_key_and_secret() {
    let setup = Setup::empty().env("MCP_UPSTREAM_URL", "https://a/");
    assert_eq!(
        setup.problems(),
        [
            "MCP_API_KEY: is not set; set it to the key's identifier, \
             or MCP_API_KEY_FILE to the name of a file that holds it",
            "MCP_API_SECRET: is not set; set it to the key's secret, \
             or MCP_API_SECRET_FILE to the name of a file that holds it",
        ]
    );
}

#[test]
fn the_environment_overrides_the_only_upstream_of_the_file() {
    let config = Setup::small_and("[log]\nlevel = \"debug\"\n")
        .env("MCP_UPSTREAM_URL", "https://other.example/")
        .env("MCP_API_SECRET", "from-env")
        .env("MCP_LOG_LEVEL", "error")
        .load();
    assert_eq!(config.upstreams.len(), 1);
    assert_eq!(config.upstreams[0].name, "acme");
    assert_eq!(config.upstreams[0].target.authority, "other.example");
    let id = HeaderValue::from_static("550e8400");
    assert_eq!(auth_gateway(&config, 0), (id, &secret("from-env")));
    assert_eq!(config.log.level, slog::Level::Error);
}

#[test]
fn with_several_upstreams_the_environment_cannot_mean_one() {
    let more = "[upstream.b]\nurl = \"https://b/\"\n\
                [[route]]\npath = \"/\"\nupstream = \"b\"\n\
                [[route]]\npath = \"/acme\"\nupstream = \"acme\"\n";
    let setup = Setup::small_and(more).env("MCP_REQUEST_TIMEOUT", "1s");
    assert_eq!(
        setup.only_problem(),
        "MCP_REQUEST_TIMEOUT: cannot tell which upstream it means, as there are acme, b; \
         set this in the file"
    );
}

#[test]
fn flags_override_the_environment() {
    let mut setup = by_environment()
        .env("MCP_LISTEN_ADDR", "off")
        .env("MCP_LOG_LEVEL", "error");
    setup.flags = Flags {
        upstream_url: Some("http://localhost:1/".into()),
        listen: Some("[::1]:0".into()),
        socket: Some("/tmp/p.sock".into()),
        log_level: Some("trace".into()),
        log_format: Some("text".into()),
    };
    let config = setup.load();
    assert_eq!(config.upstreams[0].target.authority, "localhost:1");
    let ListenAddress::Unix(unix) = &config.listeners[0].address else {
        panic!()
    };
    assert_eq!(unix.path, Path::new("/tmp/p.sock"));
    assert_eq!(config.listeners[1].address, tcp("[::1]:0"));
    assert_eq!(
        config.admin.unix.unwrap().path,
        Path::new("/tmp/admin.sock")
    );
    assert_eq!(
        config.log,
        Log {
            level: slog::Level::Trace,
            format: LogFormat::Text
        }
    );
    setup.flags.listen = Some("example.com:80".into());
    assert!(
        setup
            .only_problem()
            .starts_with("--listen: \"example.com:80\" is no IP address")
    );
}

#[test]
fn an_address_from_the_environment_keeps_the_listeners_other_keys() {
    let listeners = "[[listener]]\ntcp = \"127.0.0.1:1\"\nallowed_hosts = [\"a\"]\n\
                     [[listener]]\ntcp = \"127.0.0.1:2\"\n\
                     [[listener]]\nunix = \"/tmp/a.sock\"\nmode = \"0640\"\n";
    let config = Setup::small_and(listeners)
        .env("MCP_LISTEN_ADDR", "127.0.0.1:9")
        .env("MCP_SOCKET", "/tmp/b.sock")
        .load();
    let [first, second] = config.listeners.as_slice() else {
        panic!("{:?}", config.listeners)
    };
    assert_eq!(
        (&first.address, &first.allowed_hosts[..]),
        (&tcp("127.0.0.1:9"), &["a".to_owned()][..])
    );
    let ListenAddress::Unix(unix) = &second.address else {
        panic!("{second:?}")
    };
    assert_eq!(
        (unix.path.to_str(), unix.mode),
        (Some("/tmp/b.sock"), 0o640)
    );
}

#[test]
fn a_daemon_that_nobody_could_reach_is_refused() {
    let setup = by_environment()
        .env("MCP_LISTEN_ADDR", "off")
        .env("MCP_SOCKET", "off");
    assert!(
        setup.only_problem().contains("there is no listener"),
        "{:?}",
        setup.problems()
    );
}

#[test]
fn fragments_merge_in_name_order_and_leave_out_what_editors_leave() {
    let setup = Setup::toml(SMALL)
        .file(
            "conf.d/20.toml",
            "[log]\nlevel = \"error\"\n[[listener]]\ntcp = \"127.0.0.1:2\"\n",
        )
        .file(
            "conf.d/10.yaml",
            "log: {level: debug, format: text}\nlistener: [{tcp: '127.0.0.1:1'}]",
        )
        .file("conf.d/.hidden.toml", "broken")
        .file("conf.d/x.toml~", "broken")
        .file("conf.d/#x.toml#", "broken")
        .file("conf.d/x.toml.dpkg-old", "broken")
        .file("conf.d/README", "broken")
        .private("conf.d/other", "second")
        .file(
            "conf.d/30.json",
            r#"{"credential": {"acme": {"auth-gateway": {"secret": {"file": "other"}}}}}"#,
        );
    let config = setup.load();
    let names = [
        "config.toml",
        "conf.d/10.yaml",
        "conf.d/20.toml",
        "conf.d/30.json",
    ];
    assert_eq!(config.files, names.map(|name| setup.path(name)));
    assert_eq!(
        config.log,
        Log {
            level: slog::Level::Error,
            format: LogFormat::Text
        }
    );
    let addresses: Vec<_> = config.listeners.iter().map(|l| l.address.clone()).collect();
    assert_eq!(addresses, [tcp("127.0.0.1:1"), tcp("127.0.0.1:2")]);
    assert_eq!(auth_gateway(&config, 0).1, &secret("second"));
}

#[test]
fn a_fragment_may_change_where_a_secret_comes_from() {
    let fragment = "[credential.acme.auth-gateway]\nsecret = { env = \"KEY\" }\n";
    let config = Setup::toml(SMALL)
        .file("conf.d/a.toml", fragment)
        .env("KEY", "k")
        .load();
    assert_eq!(auth_gateway(&config, 0).1, &secret("k"));
    assert_eq!(config.secret_variables, ["KEY"]);
}

#[test]
fn a_named_file_must_exist_and_a_default_one_need_not() {
    let mut setup = by_environment();
    assert!(setup.sources().is_configured());
    setup.main = Some("missing.toml");
    let message =
        "missing.toml: the configuration file does not exist; create it or correct the path";
    assert_eq!(setup.only_problem(), message);
    let setup = by_environment().env("MCP_CONFIG", "");
    assert!(
        setup
            .only_problem()
            .starts_with("MCP_CONFIG: is no file name")
    );
}

#[test]
fn a_users_own_file_is_found_without_being_named() {
    let own = "home/mcp-auth-proxy/config.toml";
    let setup = Setup::empty()
        .file(own, SMALL)
        .private("home/mcp-auth-proxy/key", "k");
    assert!(setup.sources().is_configured());
    assert_eq!(setup.load().files, [setup.path(own)]);
}

#[test]
fn nothing_at_all_says_what_to_write_and_where() {
    let setup = Setup::empty();
    assert_eq!(
        setup.only_problem(),
        "no upstream is configured; write [upstream.NAME] with a url into \
         home/mcp-auth-proxy/config.toml, or set MCP_UPSTREAM_URL, MCP_API_KEY and MCP_API_SECRET"
    );
    if !Path::new("/etc/mcp-auth-proxy").exists() {
        fs::remove_dir_all(setup.path("home")).unwrap();
        assert!(
            setup
                .only_problem()
                .contains("home/mcp-auth-proxy/config.toml")
        );
        assert!(!setup.sources().is_configured());
    }
}

#[test]
fn a_misspelt_variable_is_a_warning_and_a_foreign_one_is_not() {
    let setup = by_environment()
        .env("MCP_REQEST_TIMEOUT", "1s")
        .env("MCP_PROXY_TOKEN", "x");
    assert_eq!(
        setup.warnings(),
        ["the variable \"MCP_REQEST_TIMEOUT\" has no effect; did you mean MCP_REQUEST_TIMEOUT?"]
    );
}
