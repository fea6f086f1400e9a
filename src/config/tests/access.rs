//! Who may use what, as it is written.

use super::*;

#[test]
fn a_rule_that_names_nobody_and_names_that_nobody_has_are_problems() {
    let route = |rule: &str| {
        Setup::small_and(&format!(
            "[[route]]\npath = \"/\"\nupstream = \"acme\"\n{rule}\n"
        ))
    };
    for (rule, problem) in [
        (
            "allow = {}",
            "config.toml:11:1: route[1].allow: nobody is named; write users, groups, executables or clients, or remove this",
        ),
        (
            "deny = { users = [\"no-such-user\"] }",
            "config.toml:11:19: route[1].deny.users[1]: there is no user \"no-such-user\"; create it, or name another",
        ),
        (
            "allow = { executables = [\"claude\"] }",
            "config.toml:11:26: route[1].allow.executables[1]: an executable is named by its whole path, such as \"/usr/bin/claude\"",
        ),
    ] {
        assert_eq!(route(rule).only_problem(), problem);
    }
    let config = route("allow = { users = [\"root\"], clients = [\"ci\"] }").load();
    assert!(config.routes[0].access.asks_for_owner());
}

#[test]
fn a_network_address_needs_tls_and_clients_that_prove_who_they_are() {
    let listener =
        |more: &str| Setup::small_and(&format!("[[listener]]\ntcp = \"0.0.0.0:1\"\n{more}\n"));
    for (more, missing) in [
        (
            "",
            "allow_non_loopback = true and tls = { cert = ..., key = ... } and tokens or tls.client_ca",
        ),
        (
            "allow_non_loopback = true",
            "tls = { cert = ..., key = ... } and tokens or tls.client_ca",
        ),
        (
            "allow_non_loopback = true\ntokens = { ci = \"0123456789abcdef\" }",
            "tls = { cert = ..., key = ... }",
        ),
    ] {
        assert_eq!(
            listener(more).only_problem(),
            format!(
                "config.toml:9:7: listener[1].tcp: 0.0.0.0 is not a loopback address, and whoever can \
                 connect is signed for; add {missing}, or write 127.0.0.1:1"
            )
        );
    }
}

#[test]
fn tokens_must_be_long_and_each_client_s_own() {
    let tokens = |list: &str| {
        Setup::small_and(&format!(
            "[[listener]]\ntcp = \"127.0.0.1:0\"\ntokens = {list}\n"
        ))
    };
    for (list, problem) in [
        ("{}", "there is no token"),
        ("{ ci = \"short\" }", "fewer than 16 bytes"),
        (
            "{ ci = \"0123456789abcdef\", desk = \"0123456789abcdef\" }",
            "the client \"ci\" has the same token",
        ),
    ] {
        let found = tokens(list).only_problem();
        assert!(found.contains(problem), "{found}");
        assert!(!found.contains("0123456789"), "{found}");
    }
}

#[test]
fn a_client_that_nobody_is_gets_a_warning() {
    let warnings = |rule: &str, tokens: &str| {
        let setup = Setup::small_and(&format!(
            "[[listener]]\ntcp = \"127.0.0.1:0\"\n{tokens}\n{rule}\n"
        ));
        setup.warnings()
    };
    let tokens = "tokens = { ci = \"0123456789abcdef\", desk = \"fedcba9876543210\" }";
    let about = |rule, tokens| {
        let all = warnings(rule, tokens).into_iter();
        all.filter(|line| line.contains("no client"))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        about("deny = { clients = [\"desc\"] }", tokens),
        [
            "config.toml:11:21: listener[1].deny.clients[1]: no client \"desc\" has a token; did you mean \"desk\"?"
        ]
    );
    assert_eq!(about("allow = { clients = [\"build\"] }", "").len(), 1);
    assert!(about("allow = { clients = [\"ci\"] }", tokens).is_empty());
}
