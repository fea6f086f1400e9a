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
