//! Files that are not what their format demands.

use super::*;

/// The problems of one file, without the name of the directory.
fn faults(name: &'static str, text: &str) -> Vec<String> {
    Setup::named(name, text).problems()
}

#[test]
fn broken_toml_is_reported_line_by_line() {
    for (text, place) in [
        (
            "[log]\nlevel = info\n",
            "config.toml:2:9: text needs quotes",
        ),
        ("[log\n", "config.toml:1:5: "),
        ("[log]\nlevel\n", "config.toml:2:6: "),
        ("[log]\nlevel = \"info\nformat = 1\n", "config.toml:2:14: "),
        ("[listener]\ntcp = 127.0.0.1:80\n", "config.toml:2:"),
        (
            "[log]\nlevel = \"a\"\nlevel = \"b\"\n",
            "config.toml:3:1: the key is already there",
        ),
        ("[log]\n[log]\n", "config.toml:2:2: "),
    ] {
        let found = faults("config.toml", text);
        assert!(found[0].starts_with(place), "{text}: {found:?}");
    }
}

#[test]
fn broken_yaml_is_reported_at_its_place() {
    for (text, place) in [
        ("log:\n  level: [a\n", "config.yaml:3:1: "),
        ("log: {level: \"a}\n", "config.yaml:"),
        ("log:\n\tlevel: a\n", "config.yaml:2:2: tabs disallowed"),
        (
            "log: 1\nlog: 2\n",
            "config.yaml:2:1: the key \"log\" is already there in line 1",
        ),
        (
            "a: 1\n---\nb: 2\n",
            "config.yaml:2:1: a second YAML document",
        ),
        ("- a\n", "config.yaml:1:1: the file holds an array"),
        (
            "log: !env X\n",
            "config.yaml:1:6: the tag !env has no meaning here",
        ),
        ("? [a]\n: b\n", "config.yaml:1:3: a key must be plain text"),
        ("a: &a [*a]\n", "config.yaml:1:8: "),
    ] {
        let found = faults("config.yaml", text);
        assert!(found[0].starts_with(place), "{text}: {found:?}");
    }
}

#[test]
fn json_is_json_without_comments_or_trailing_commas() {
    for (text, place) in [
        ("", "config.json:1:1: the file must hold one JSON object"),
        ("[]", "config.json:1:1: the file must hold one JSON object"),
        ("{\n// no\n}", "config.json:2:1: "),
        ("{\"log\": {},}", "config.json:1:11: "),
        ("{log: {}}", "config.json:1:2: "),
        ("{\"log\": {}} x", "config.json:1:13: "),
        (
            "{\"a\": 1,\n \"a\": 2}",
            "config.json:2:2: the key \"a\" is already there in line 1",
        ),
        ("{\"a\": 'b'}", "config.json:1:7: "),
        ("{\"a\": ", "config.json:1:"),
    ] {
        let found = faults("config.json", text);
        assert!(found[0].starts_with(place), "{text}: {found:?}");
    }
}

#[test]
fn nesting_without_end_is_refused_before_the_stack_is() {
    let deep = 100_000;
    let toml = format!("a = {}", "[".repeat(deep));
    let yaml = "- ".repeat(deep);
    let flow = "[".repeat(deep);
    let json = format!("{{\"a\": {}", "[".repeat(deep));
    for (name, text) in [
        ("c.toml", &toml),
        ("c.yaml", &yaml),
        ("c.yml", &flow),
        ("c.json", &json),
    ] {
        assert!(!faults(name, text).is_empty());
    }
    let mild = format!("{{\"a\": {}1{}}}", "[".repeat(40), "]".repeat(40));
    assert!(faults("c.json", &mild)[0].contains("nested deeper than 32 levels"));
    assert!(faults("c.yaml", &mild)[0].contains("nested deeper than 32 levels"));
    let toml = format!("a = {}1{}", "[".repeat(40), "]".repeat(40));
    assert!(faults("c.toml", &toml)[0].contains("nested deeper than 32 levels"));
}

#[test]
fn aliases_that_multiply_are_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let below = format!("*a{}", level - 1);
        text += &format!(
            "a{level}: &a{level} [{}]\n",
            [below.as_str(); 10].join(", ")
        );
    }
    let found = faults("config.yaml", &text);
    assert!(
        found[0].contains("aliases make this file too large"),
        "{found:?}"
    );
}

#[test]
fn a_file_over_a_mebibyte_or_not_in_utf8_is_refused() {
    let long = "#".repeat(1024 * 1024 + 1);
    assert_eq!(
        faults("config.toml", &long),
        [
            "config.toml: the configuration file is larger than 1024 KiB; \
          name the right file or shorten it"
        ]
    );
    let setup = Setup::toml("");
    fs::write(setup.path("config.toml"), b"# \n\xff\n").unwrap();
    assert_eq!(
        setup.only_problem(),
        "config.toml: line 2 is not UTF-8; save the file as UTF-8"
    );
}

#[test]
fn syntax_errors_of_all_files_are_reported_together() {
    let setup = Setup::toml("[log\n")
        .file("conf.d/a.yaml", "- x")
        .file("conf.d/b.json", "{");
    let found = setup.problems();
    for (problem, name) in found
        .iter()
        .zip(["config.toml", "conf.d/a.yaml", "conf.d/b.json"])
    {
        assert!(problem.starts_with(name), "{problem}");
    }
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn the_same_configuration_can_be_written_in_each_format() {
    let yaml = "
upstream:
  acme: &acme
    url: https://mcp.acme.example/
    credential: acme
    request_timeout: 3s
    http_version: 1.1
credential: {acme: {auth-gateway: {key_id: '550e8400', secret: {file: key}}}}
listener:
- tcp: 127.0.0.1:1
";
    let json = r#"{
  "upstream": {"acme": {
    "url": "https://mcp.acme.example/", "credential": "acme",
    "request_timeout": "3s", "http_version": "1.1"
  }},
  "credential": {"acme": {"auth-gateway": {"key_id": "550e8400", "secret": {"file": "key"}}}},
  "listener": [{"tcp": "127.0.0.1:1"}]
}"#;
    let toml = SMALL.replace(
        "credential = \"acme\"",
        "credential = \"acme\"\nrequest_timeout = \"3s\"\nhttp_version = \"1.1\"",
    );
    let toml = format!("{toml}[[listener]]\ntcp = \"127.0.0.1:1\"\n");
    let toml = Setup::toml(&toml).load();
    for other in [
        Setup::named("c.yaml", yaml).load(),
        Setup::named("c.json", json).load(),
    ] {
        assert_eq!(other.upstreams, toml.upstreams);
        assert_eq!(other.credentials, toml.credentials);
        assert_eq!(other.listeners, toml.listeners);
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_a_parser_panic(text in "[\\[\\]{}:=\"'\\-#&*,.a-c0-9 \\n\\t\u{e9}]{0,80}") {
        for format in [parse::Format::Toml, parse::Format::Yaml, parse::Format::Json] {
            if let Err(faults) = parse::parse(&text, format, 0) {
                proptest::prop_assert!(!faults.is_empty());
            }
        }
    }
}

#[test]
fn a_date_in_toml_wants_quotes() {
    let text = "[credential.a.auth-gateway]\nkey_id = \"k\"\nsecret = \"s\"\n\
                previous = { secret = \"s\", until = 2026-12-31T12:00:00Z }\n";
    let found = faults("config.toml", text).join("\n");
    assert!(
        found.contains(
            "config.toml:4:36: credential.a.auth-gateway.previous.until: a date needs quotes"
        ),
        "{found}"
    );
}
