//! Upstreams, their credentials and the routes to them.

use super::*;

fn with_url(line: &str) -> Setup {
    Setup::toml(&SMALL.replace("url = \"https://mcp.acme.example/\"", line))
}

#[test]
fn an_endpoint_is_one_url_and_its_route_is_mcp() {
    let config = with_url("endpoint = \"https://Mcp.Acme.example:443/v1/mcp?tenant=7\"").load();
    let target = &config.upstreams[0].target;
    assert_eq!(target.authority, "mcp.acme.example");
    assert_eq!(
        target.path,
        TargetPath::Endpoint("/v1/mcp?tenant=7".parse().unwrap())
    );
    assert_eq!(config.routes[0].path, "/mcp");
    let routed = with_url("endpoint = \"https://a/mcp\"");
    let text = fs::read_to_string(routed.path("config.toml")).unwrap();
    let routed = Setup::toml(&format!(
        "{text}[[route]]\nupstream = \"acme\"\nstrip_prefix = true\n"
    ));
    assert_eq!(routed.load().routes[0].path, "/mcp");
    assert_eq!(
        routed.warnings(),
        ["config.toml:10:16: route[1].strip_prefix: has no effect, \
          as an endpoint's path is fixed; remove it"]
    );
}

#[test]
fn a_list_names_several_urls_the_preferred_first() {
    let config = with_url("url = [\"https://a.example/x/\", \"unix:/run/b.sock:/y\"]").load();
    let upstream = &config.upstreams[0];
    assert_eq!(upstream.target.label(), "https://a.example/x");
    let others: Vec<_> = upstream.others.iter().map(Target::label).collect();
    assert_eq!(others, ["unix:/run/b.sock:/y"]);
    let endpoints = "endpoint = [\"https://a.example/mcp?secret=1\", \"https://a.example/two\"]";
    let config = with_url(endpoints).load();
    assert_eq!(config.upstreams[0].target.label(), "https://a.example/mcp");
    assert_eq!(config.routes[0].path, "/mcp");
    let one = with_url("url = [\"https://a.example/\"]").load();
    assert!(one.upstreams[0].others.is_empty());
}

#[test]
fn a_list_of_urls_is_neither_empty_nor_long_nor_repetitive_and_every_fault_has_its_place() {
    for (line, problems) in [
        (
            "url = []",
            &["upstream.acme.url: a list has from 1 to 8 URLs"][..],
        ),
        (
            "url = [\"https://a/\", \"https://A:443\"]",
            &["upstream.acme.url[2]: this URL is in the list already"],
        ),
        (
            "url = [\"https://a/?q\", \"ftp://b/\", 3]",
            &[
                "upstream.acme.url[1]: a base URL has no query",
                "upstream.acme.url[2]: \"ftp\" is no scheme",
                "upstream.acme.url[3]: expected a string",
            ],
        ),
    ] {
        let told = with_url(line).problems();
        assert_eq!(told.len(), problems.len(), "{told:#?}");
        for (told, problem) in told.iter().zip(problems) {
            assert!(told.contains(problem), "{told}");
        }
    }
}

#[test]
fn an_upstream_can_be_a_unix_socket() {
    for (line, path) in [
        (
            "url = \"unix:/run/mcp.sock\"",
            TargetPath::Base(String::new()),
        ),
        (
            "url = \"unix:///run/mcp.sock:/base/\"",
            TargetPath::Base("/base".into()),
        ),
        (
            "endpoint = \"unix:/run/mcp.sock:/mcp\"",
            TargetPath::Endpoint("/mcp".parse().unwrap()),
        ),
    ] {
        let setup = with_url(line);
        let target = setup.load().upstreams[0].target.clone();
        assert_eq!(target.unix.as_deref(), Some(Path::new("/run/mcp.sock")));
        assert_eq!(
            (target.scheme.as_str(), target.authority.as_str()),
            ("http", "localhost")
        );
        assert_eq!(target.path, path);
        assert_eq!(setup.warnings(), Vec::<String>::new());
    }
}

#[test]
fn what_is_no_url_for_an_upstream_is_refused_with_a_reason() {
    for (url, reason) in [
        ("", "not a URL"),
        ("mcp.acme.example", "not an absolute URL"),
        ("/path", "not an absolute URL"),
        ("ftp://a/", "\"ftp\" is no scheme"),
        ("https:///x", "not a URL"),
        ("https://:80/", "has no host"),
        ("https://a:0/", "1 to 65535"),
        ("https://a:99999/", "1 to 65535"),
        ("https://a:/", "1 to 65535"),
        ("https://u@a/", "a user name or password"),
        ("https://a/#x", "a fragment"),
        ("https://a/b/../c", "\"..\" segment"),
        ("https://a/%zz", "two hex digits"),
        ("https://é/", "xn-- form"),
        ("https://a b/", "not a URL"),
        ("unix:run/a.sock", "begin with \"/\""),
        ("unix:/a.sock:x", "is malformed"),
        ("unix:", "begin with \"/\""),
    ] {
        let problem = with_url(&format!("url = \"{url}\"")).only_problem();
        assert!(
            problem.starts_with("config.toml:3:7: upstream.acme.url: "),
            "{problem}"
        );
        assert!(problem.contains(reason), "{url}: {problem}");
    }
}

#[test]
fn what_is_accepted_but_weak_is_warned_of_at_its_place() {
    let key = "secret = { file = \"key\" }";
    let setup = Setup::toml(
        &SMALL
            .replace("https://mcp", "http://mcp")
            .replace(
                "credential = \"acme\"",
                "credential = \"acme\"\ninsecure_skip_verify = true",
            )
            .replace(key, "secret = \"s3cret\""),
    );
    let places = [
        "8:10: credential.acme.auth-gateway.secret",
        "5:24: upstream.acme.insecure_skip_verify",
        "3:7: upstream.acme.url",
    ];
    let warnings = setup.warnings();
    for place in places {
        assert!(
            warnings.iter().any(|w| w.contains(place)),
            "{place}: {warnings:#?}"
        );
    }
    assert_eq!(warnings.len(), 3, "{warnings:#?}");
    assert!(
        with_url("url = \"http://127.0.0.1:1/\"")
            .warnings()
            .is_empty()
    );
}

#[test]
fn an_upstream_without_a_credential_or_a_route_is_warned_of() {
    let more = "[upstream.b]\nurl = \"https://b/\"\n[[route]]\npath = \"/\"\nupstream = \"acme\"\n";
    assert_eq!(
        Setup::small_and(more).warnings(),
        [
            "config.toml:8:11: upstream.b: requests go out unsigned; \
             add credential = \"NAME\" if the upstream wants one",
            "config.toml:8:11: upstream.b: no route leads to this upstream; \
             write a [[route]] for it or remove it",
        ]
    );
}

#[test]
fn routes_are_decoded_prefixes_and_each_is_there_once() {
    let routes = "[[route]]\npath = \"/a%20b/\"\nupstream = \"acme\"\n\
                  [[route]]\npath = \"/\"\nupstream = \"acme\"\nstrip_prefix = true\n";
    let config = Setup::small_and(routes).load();
    let paths: Vec<_> = config
        .routes
        .iter()
        .map(|r| (r.path.as_str(), r.strip_prefix))
        .collect();
    assert_eq!(paths, [("/a b", false), ("", true)]);
    let twice = "[[route]]\npath = \"/a\"\nupstream = \"acme\"\n\
                 [[route]]\npath = \"/%61/\"\nupstream = \"acme\"\n";
    assert_eq!(
        Setup::small_and(twice).only_problem(),
        "config.toml:12:8: route[2].path: this path has a route already (line 9); remove one"
    );
}

#[test]
fn certificates_and_keys_are_read_and_checked() {
    let ca = rcgen::generate_simple_self_signed(["mcp.acme.example".to_owned()]).unwrap();
    let tls = "credential = \"acme\"\nca_file = \"ca.pem\"\nclient_cert = \"ca.pem\"\nclient_key = \"ca.key\"";
    let setup = Setup::toml(&SMALL.replace("credential = \"acme\"", tls))
        .file("ca.pem", &ca.cert.pem())
        .private("ca.key", &ca.signing_key.serialize_pem());
    let config = setup.load();
    let loaded = &config.upstreams[0].tls;
    assert_eq!(loaded.extra_roots, [ca.cert.der().clone()]);
    let identity = loaded.client_identity.as_ref().unwrap();
    assert_eq!(identity.key.secret_der(), ca.signing_key.serialize_der());
    assert_eq!(setup.load().upstreams, config.upstreams);
    fs::set_permissions(setup.path("ca.key"), Permissions::from_mode(0o644)).unwrap();
    assert!(
        setup.only_problem().ends_with("type: chmod o-rwx ca.key"),
        "{}",
        setup.only_problem()
    );
    let wrong = setup.private("ca.key", "no key");
    assert!(wrong.only_problem().contains("ca.key holds no private key"));
}

#[test]
fn a_name_is_part_of_labels_and_so_is_plain() {
    let setup = Setup::toml(&SMALL.replace("upstream.acme", "upstream.\"a b\""));
    assert!(
        setup
            .only_problem()
            .starts_with("config.toml:2:11: upstream.a b: \"a b\" is no name")
    );
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_url_parser_panic(text in "(https?://|unix:/)?[a-zé0-9%/.:@?#\\[\\] -]{0,40}") {
        for kind in [target::Kind::Url, target::Kind::Endpoint] {
            if let Ok(target) = target::parse(&text, kind) {
                proptest::prop_assert!(!target.authority.as_str().contains('@'));
            }
        }
    }
}
