//! Whatever a file looks like: in, out, and every byte is where it was.

use proptest::prelude::*;

use super::*;

fn blank(comments: bool) -> BoxedStrategy<String> {
    let plain = prop_oneof![
        3 => Just(String::new()),
        2 => Just(" ".to_owned()),
        2 => Just("\n  ".to_owned()),
        1 => Just("\r\n\t".to_owned()),
    ];
    if !comments {
        return plain.boxed();
    }
    prop_oneof![
        6 => plain,
        1 => Just(" // {\"x\": [,\n ".to_owned()),
        1 => Just("/* , } */".to_owned()),
        1 => Just("\n/* a\n b */ // c\r\n".to_owned()),
    ]
    .boxed()
}

fn value(comments: bool) -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("1.50".to_owned()),
        Just("null".to_owned()),
        Just("\"//,}\\\"\"".to_owned()),
        Just("\"/* ü\"".to_owned()),
        Just("[]".to_owned()),
    ];
    leaf.prop_recursive(2, 12, 4, move |inner| {
        object(inner.clone(), comments, "n").prop_union(list(inner, comments).boxed())
    })
}

fn list(inner: impl Strategy<Value = String> + 'static, comments: bool) -> BoxedStrategy<String> {
    proptest::collection::vec((blank(comments), inner, blank(comments)), 1..3)
        .prop_map(|items| {
            let items: Vec<_> = items.iter().map(|(a, b, c)| format!("{a}{b}{c}")).collect();
            format!("[{}]", items.join(","))
        })
        .boxed()
}

/// An object with keys that begin with `prefix`, and any blanks and comments between its tokens.
fn object(
    inner: impl Strategy<Value = String> + 'static,
    comments: bool,
    prefix: &'static str,
) -> BoxedStrategy<String> {
    let b = move || blank(comments);
    let property = (b(), b(), b(), inner, b());
    let properties = proptest::collection::vec(property, 0..4);
    (properties, any::<bool>(), b())
        .prop_map(move |(properties, trailing, end)| {
            let count = properties.len();
            let mut text = "{".to_owned();
            for (i, (lead, name, colon, value, after)) in properties.into_iter().enumerate() {
                text += &format!("{lead}\"{prefix}{i}\"{name}:{colon}{value}{after}");
                if i + 1 < count || (trailing && comments) {
                    text.push(',');
                }
            }
            format!("{text}{end}}}")
        })
        .boxed()
}

/// A file with or without a table of servers among other things.
fn file(comments: bool) -> impl Strategy<Value = String> {
    let servers = object(value(comments), comments, "s");
    let root = object(value(comments), comments, "r");
    (
        blank(comments),
        root,
        proptest::option::of(servers),
        blank(comments),
    )
        .prop_map(|(before, root, servers, after)| {
            let root = match servers {
                Some(servers) if root.contains('"') => {
                    root.replacen('{', &format!("{{\"mcpServers\": {servers},"), 1)
                }
                Some(servers) => root.replacen('{', &format!("{{\"mcpServers\": {servers}"), 1),
                None => root,
            };
            format!("{before}{root}{after}")
        })
}

fn there_and_back(client: Client, text: &str) -> Result<(), TestCaseError> {
    let Ok(before) = Document::parse(text, spec(client)) else {
        return Err(TestCaseError::reject("no file that the client could read"));
    };
    let entry = stdio(spec(client));
    let after = before
        .put("acme", &entry)
        .map_err(|f| TestCaseError::fail(f.message))?;
    let now = Document::parse(&after, spec(client)).unwrap();
    prop_assert!(now.came_from(&before, &["acme"]), "{}", after);
    prop_assert!(entry.is_in(&now.entry("acme").unwrap().unwrap()));
    let removed = now.remove("acme", Some(&before));
    let removed = removed.map_err(|f| TestCaseError::fail(f.message))?;
    let left = Document::parse(&removed, spec(client)).unwrap();
    prop_assert!(left.entry("acme").unwrap().is_none());
    // An empty table or file is what looks the same wherever its blanks came from.
    let value = before.value();
    let holder = match value.get(spec(client).servers) {
        Some(servers) => servers,
        None => &value,
    };
    if holder.as_object().is_some_and(|holder| !holder.is_empty()) {
        prop_assert_eq!(&removed, text);
    }
    Ok(())
}

proptest! {
    #[test]
    fn jsonc_is_as_it_was_after_write_and_remove(text in file(true)) {
        there_and_back(Client::Zed, &text.replace("mcpServers", "context_servers"))?;
        there_and_back(Client::Cursor, &text)?;
    }

    #[test]
    fn json_is_as_it_was_after_write_and_remove(text in file(false)) {
        there_and_back(Client::ClaudeCode, &text)?;
    }

    #[test]
    fn no_text_makes_it_panic(text in "[{}\\[\\]\",:/*= \nam.#']{0,40}") {
        for client in [Client::Cursor, Client::Codex] {
            let Ok(document) = Document::parse(&text, spec(client)) else { continue };
            let _ = document.put("acme", &stdio(spec(client)));
            let _ = document.update("acme", &stdio(spec(client)));
            let _ = document.remove("acme", None);
        }
    }
}
