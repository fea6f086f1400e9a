//! Files as people write them, good and broken.

use super::*;
use crate::client_config::entry::is_ours;
use serde_json::json;

/// Text, and the same with the entry; the inverse has to hold without another version at hand.
const SHAPES: [(&str, &str); 12] = [
    (
        r#"{"mcpServers":{"a":1}}"#,
        r#"{"mcpServers":{"a":1,"acme": E}}"#,
    ),
    (
        r#"{"mcpServers": {"a": 1}}"#,
        r#"{"mcpServers": {"a": 1, "acme": E}}"#,
    ),
    (
        r#"{"mcpServers": {"b": 2, "a": 1}}"#,
        r#"{"mcpServers": {"b": 2, "a": 1, "acme": E}}"#,
    ),
    (
        r#"{"mcpServers": {"b": 2, "a": 1,}}"#,
        r#"{"mcpServers": {"b": 2, "a": 1, "acme": E,}}"#,
    ),
    (r#"{"z": 0}"#, r#"{"z": 0, "mcpServers": {"acme": E}}"#),
    (
        "{\"mcpServers\": {\n \"a\": 1 // c\n}}",
        "{\"mcpServers\": {\n \"a\": 1, // c\n \"acme\": E\n}}",
    ),
    (
        "{\"mcpServers\": {\n \"a\": 1 /* c */ /* d */\n}}",
        "{\"mcpServers\": {\n \"a\": 1, /* c */ /* d */\n \"acme\": E\n}}",
    ),
    (
        "{\"mcpServers\": {\n \"a\": 1, // c\n // d\n}}",
        "{\"mcpServers\": {\n \"a\": 1, // c\n \"acme\": E,\n // d\n}}",
    ),
    (
        "{\"mcpServers\": {\n \"a\": 1\n , // c\n}}",
        "{\"mcpServers\": {\n \"a\": 1\n , // c\n \"acme\": E,\n}}",
    ),
    (
        "{\"mcpServers\": {\"a\": 1 // c\n}}",
        "{\"mcpServers\": {\"a\": 1, \"acme\": E // c\n}}",
    ),
    (
        "{\"mcpServers\": { // c\n}}",
        "{\"mcpServers\": { // c\n  \"acme\": E\n}}",
    ),
    (
        "{\r\n\t\"mcpServers\": {\r\n\t\t\"a\": \"//\" // c\r\n\t}\r\n}",
        "{\r\n\t\"mcpServers\": {\r\n\t\t\"a\": \"//\", // c\r\n\t\t\"acme\": E\r\n\t}\r\n}",
    ),
];

/// The entry's braces and all that is in them, as one letter.
fn abridged(text: &str) -> String {
    let start = text.find("\"acme\": {").unwrap() + "\"acme\": ".len();
    let end = start + text[start..].find('}').unwrap() + 1;
    format!("{}E{}", &text[..start], &text[end..])
}

#[test]
fn the_entry_is_written_as_its_neighbours_are_and_leaves_no_trace() {
    let entry = stdio(spec(Client::Cursor));
    for (before, meant) in SHAPES {
        let after = put(Client::Cursor, before, &entry);
        assert_eq!(abridged(&after), meant);
        let keep = Some(before).filter(|text| text.contains("{ //"));
        assert_eq!(remove(Client::Cursor, &after, keep), before);
    }
}

#[test]
fn what_came_after_the_entry_stays_when_it_goes() {
    for (text, left) in [
        (
            "{\"mcpServers\": {\"acme\": {}, \"b\": 1}}",
            "{\"mcpServers\": {\"b\": 1}}",
        ),
        (
            "{\"mcpServers\": {\n  \"acme\": {},\n  \"b\": 1\n}}",
            "{\"mcpServers\": {\n  \"b\": 1\n}}",
        ),
        (
            "{\"mcpServers\": {\"a\": 1, // c\n\"acme\": {}, \"b\": 1}}",
            "{\"mcpServers\": {\"a\": 1, // c\n\"b\": 1}}",
        ),
        (
            "{\"mcpServers\": {\"a\": 1 // c\n, \"acme\": {} }}",
            "{\"mcpServers\": {\"a\": 1 // c\n }}",
        ),
        (
            "{\"mcpServers\": {\"acme\": {} /* mine */}}",
            "{\"mcpServers\": {/* mine */}}",
        ),
        ("{\"mcpServers\": {\"acme\": {}}, \"b\": 1}", "{\"b\": 1}"),
    ] {
        assert_eq!(remove(Client::Cursor, text, None), left);
    }
}

#[test]
fn an_empty_table_stays_if_it_was_there_before() {
    let entry = stdio(spec(Client::Cursor));
    for before in ["{\"mcpServers\": {}}", "{}", "{\n  \"mcpServers\": {}\n}\n"] {
        let after = put(Client::Cursor, before, &entry);
        assert_eq!(remove(Client::Cursor, &after, Some(before)), before);
    }
}

#[test]
fn tables_of_toml_go_with_the_tables_below_them_and_nothing_else() {
    for (text, left) in [
        ("[mcp_servers.acme]\ncommand = \"x\"\n", ""),
        (
            "a = 1\n\n[mcp_servers.acme]\nurl = \"x\"\n\n[b]\n",
            "a = 1\n\n[b]\n",
        ),
        (
            "[mcp_servers.acme]\nurl = \"\"\"\n[no]\n\"\"\" # c\n# kept\n[mcp_servers.b]\n\n[mcp_servers.acme.env]\nA = 1\nB.c = 2\n# end\n",
            "# kept\n[mcp_servers.b]\n# end\n",
        ),
        (
            "[mcp_servers]\nacme.url = \"x\"\nb.url = \"y\"\n",
            "[mcp_servers]\nb.url = \"y\"\n",
        ),
        ("[mcp_servers.acme.env]\nA = 1\n[z]\n", "[z]\n"),
        ("[mcp_servers]\nacme = { url = \"x\" }\n", "[mcp_servers]\n"),
    ] {
        assert_eq!(remove(Client::Codex, text, None), left);
    }
}

#[test]
fn a_toml_file_keeps_its_last_lines_end() {
    let entry = stdio(spec(Client::Codex));
    for before in [
        "a = 1",
        "a = 1\n",
        "a = 1\n\n",
        "a = 1\r\n",
        "a = 1\r\nb = 2",
        "# c",
    ] {
        let after = put(Client::Codex, before, &entry);
        assert_eq!(remove(Client::Codex, &after, None), before);
        assert_eq!(after.ends_with('\n'), before.ends_with('\n'));
    }
}

#[test]
fn the_users_own_keys_in_the_entry_survive_an_update() {
    for (client, text, meant) in [
        (
            Client::Windsurf,
            "{\"mcpServers\": {\"acme\": {\n  \"command\": \"/old/mcp-auth-proxy\", // c\n  \"disabled\": true\n}}}",
            "{\"mcpServers\": {\"acme\": {\n  // c\n  \"disabled\": true,\n  \"serverUrl\": \"http://127.0.0.1:8080/mcp\"\n}}}",
        ),
        (
            Client::Codex,
            "[mcp_servers.acme] # c\ncommand = \"/old/mcp-auth-proxy\"\nargs = [\n  \"x\",\n]\nenabled = false\n[mcp_servers.acme.env]\nA = \"b\"\n[z]\n",
            "[mcp_servers.acme] # c\nurl = \"http://127.0.0.1:8080/mcp\"\nenabled = false\n[z]\n",
        ),
    ] {
        let document = Document::parse(text, spec(client)).unwrap();
        let entry = http(spec(client)).unwrap();
        let after = document.update("acme", &entry).unwrap();
        assert_eq!(after, meant);
    }
}

#[test]
fn what_is_broken_is_told_with_its_place() {
    for (client, text, place, words) in [
        (
            Client::ClaudeCode,
            "{\n  \"a\": 1,\n}",
            (2, 9),
            "JSON syntax",
        ),
        (Client::ClaudeCode, "{ // c\n}", (1, 3), "JSON syntax"),
        (Client::Zed, "{\n  \"ü\": tru\n}", (2, 8), "JSON syntax"),
        (Client::Zed, "{} {}", (1, 4), "JSON syntax"),
        (Client::Zed, "[]", (1, 1), "begin with {"),
        (
            Client::Cursor,
            "{\"mcpServers\": []}",
            (1, 16),
            "\"mcpServers\" has to be an object",
        ),
        (
            Client::Cursor,
            "{\"mcpServers\": {},\n\"mcpServers\": {}}",
            (2, 1),
            "twice",
        ),
        (Client::Codex, "a = 1\nb = [\n", (2, 6), "TOML syntax"),
        (
            Client::Codex,
            "mcp_servers = 1",
            (1, 1),
            "mcp_servers has to be a table",
        ),
    ] {
        let Err(fault) = Document::parse(text, spec(client)) else {
            panic!("{text} was understood");
        };
        assert!(fault.message.contains(words), "{text}: {}", fault.message);
        assert_eq!(fault.place(text), place, "{text}: {}", fault.message);
    }
}

#[test]
fn an_entry_that_is_there_twice_is_a_fault() {
    let text = "{\"mcpServers\": {\"acme\": {},\n \"acme\": {}}}";
    let document = Document::parse(text, spec(Client::Cursor)).unwrap();
    assert_eq!(document.entry("acme").unwrap_err().place(text), (2, 2));
}

#[test]
fn what_cannot_be_changed_without_harm_is_not_changed() {
    let spec = spec(Client::Codex);
    let text = "mcp_servers = { b = { url = \"x\" } }\n";
    let document = Document::parse(text, spec).unwrap();
    let fault = document.put("acme", &stdio(spec)).unwrap_err();
    assert!(fault.message.contains("by hand"), "{}", fault.message);
}

#[test]
fn ours_is_what_launches_this_program_or_asks_the_daemons_port() {
    let port = ["127.0.0.1:8080".parse().unwrap()];
    for (entry, ours) in [
        (
            json!({ "command": "/opt/homebrew/bin/mcp-auth-proxy", "args": ["stdio"] }),
            true,
        ),
        (json!({ "command": "mcp-auth-proxy" }), true),
        (
            json!({ "command": "npx", "args": ["mcp-auth-proxy"] }),
            false,
        ),
        (
            json!({ "type": "http", "url": "http://127.0.0.1:8080/x" }),
            true,
        ),
        (json!({ "serverUrl": "http://127.0.0.1:8081/mcp" }), false),
        (json!({ "url": "not a url" }), false),
        (json!(null), false),
    ] {
        assert_eq!(is_ours(&entry, &port), ours, "{entry}");
    }
}
