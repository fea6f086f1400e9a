//! A report never shows a secret.

use super::*;

const HIDDEN: &str = "hunter2-hunter2";

/// Every way in which a secret may come to stand on or near a line that is reported.
const LEAKY: [(&str, &str); 16] = [
    (
        "config.toml",
        "[credential.a.auth-gateway]\nsecert = \"hunter2-hunter2\"\n",
    ),
    (
        "config.toml",
        "[credential.a.auth-gateway]\nkey_id = 1\nsecret = \"hunter2-hunter2\" x\n",
    ),
    (
        "config.toml",
        "[credential.a.auth-gateway]\nsecret = hunter2-hunter2\n",
    ),
    (
        "config.toml",
        "[credential.a]\nsecret = \"hunter2-hunter2\"\n",
    ),
    (
        "config.toml",
        "[credential.a.auth-gatewai]\nsecret = \"hunter2-hunter2\"\n",
    ),
    (
        "config.toml",
        "[upstream.a]\nsecert = \"hunter2-hunter2\"\n",
    ),
    (
        "config.toml",
        "[upstream.a]\nurl = \"https://u:hunter2-hunter2@h/\"\n",
    ),
    (
        "config.toml",
        "[upstream.a]\nurl = \"https://h/?token=hunter2-hunter2\"\n",
    ),
    (
        "config.toml",
        "[upstream.a]\nsession = { header = 1, value = \"hunter2-hunter2\" }\n",
    ),
    (
        "config.toml",
        "[upstream.a.session]\nvalue = \"\"\"\nhunter2-hunter2\n",
    ),
    (
        "config.toml",
        "[upstream.a.session]\nvalue = \"hunter2-hunter2\\u0000\"\n",
    ),
    ("config.toml", "hunter2-hunter2\n"),
    (
        "config.yaml",
        "credential:\n  a:\n    secret: hunter2-hunter2\n",
    ),
    (
        "config.yaml",
        "credential:\n  a:\n    secret: |\n     x\n   hunter2-hunter2\n",
    ),
    (
        "config.json",
        "{\"log\": {\"level\": 1}, \"credential\": {\"a\": \"hunter2-hunter2\"}}",
    ),
    (
        "config.json",
        "{\"credential\": {\"a\": {\"secret\": \"hunter2-hunter2\" \"x\"}}}",
    ),
];

#[test]
fn no_report_shows_a_secret_of_the_file() {
    for (name, text) in LEAKY {
        let report = Setup::named(name, text).report();
        assert!(!report.contains(HIDDEN), "{text}\n{report}");
    }
}

#[test]
fn no_report_shows_a_secret_of_the_environment() {
    let setup = Setup::empty()
        .env("MCP_UPSTREAM_URL", "https://u:hunter2-hunter2@host/")
        .env("MCP_API_KEY", "hunter2-hunter2\u{1}")
        .env("MCP_API_SECRET", "hunter2-hunter2")
        .env("MCP_SESSION_VALUE", "hunter2-hunter2\n\n");
    assert_eq!(setup.problems().len(), 3);
    assert!(!setup.report().contains(HIDDEN), "{}", setup.report());
}

#[test]
fn a_hidden_value_leaves_its_key_in_sight() {
    let setup = Setup::small_and("[credential.b.auth-gateway]\nkey_id = 1\n");
    let report = setup.report();
    assert!(
        report.contains("\n    9 | key_id = …\n      | ^"),
        "{report}"
    );
}

#[test]
fn a_header_holds_no_value_and_is_shown() {
    let report = Setup::small_and("[credential.b.auth-gateway]\nkey_id = \"k\"\n").report();
    let excerpt = "\n    8 | [credential.b.auth-gateway]\n      |               ^";
    assert!(report.contains(excerpt), "{report}");
}

#[test]
fn a_harmless_line_with_a_syntax_error_is_shown() {
    let report = Setup::toml("[log]\nlevel = info\n").report();
    assert!(
        report.contains("\n    2 | level = info\n      |         ^"),
        "{report}"
    );
}

#[test]
fn a_configuration_can_be_printed_for_debugging() {
    let text = SMALL.replace("{ file = \"key\" }", "\"hunter2-hunter2\"");
    let config = Setup::toml(&text).load();
    assert!(!format!("{config:?}").contains(HIDDEN));
}

#[test]
fn control_characters_of_a_file_do_not_reach_the_terminal() {
    let report = Setup::small_and("[log]\n\"le\\u001b[31mvel\" = 1 # \u{85}\n").report();
    assert!(
        !report.chars().any(|c| c.is_control() && c != '\n'),
        "{report:?}"
    );
}
