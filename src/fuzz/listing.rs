//! Listings: what may not be called is not in them, and nothing else is gone.

use super::tree::Tree;
use crate::config::{Peers, Policy, Rules};
use crate::proxy::filter_listing;

const LISTS: [(&str, &str); 4] = [
    ("tools", "name"),
    ("prompts", "name"),
    ("resources", "uri"),
    ("resourceTemplates", "uriTemplate"),
];

pub fn check(data: &[u8]) {
    let policy = Policy {
        peers: Peers::default(),
        tools: Rules::denying(&["del*"]),
        prompts: Rules::default(),
        resources: Rules::denying(&["del*"]),
        dry_run: false,
        place: String::new(),
    };
    let Ok(text) = std::str::from_utf8(data) else {
        assert_eq!(filter_listing(&policy, data), None);
        return;
    };
    let Some(before) = Tree::read(text) else {
        return;
    };
    let filtered = filter_listing(&policy, data);
    let after = filtered.as_deref().unwrap_or(data);
    let after = std::str::from_utf8(after).expect("it is no text any more");
    let after = Tree::read(after).expect("it is no JSON any more");
    assert_eq!(after, expected(&policy, &before));
}

fn expected(policy: &Policy, message: &Tree) -> Tree {
    match message {
        Tree::Array(replies) => Tree::Array(replies.iter().map(|one| reply(policy, one)).collect()),
        one => reply(policy, one),
    }
}

fn reply(policy: &Policy, reply: &Tree) -> Tree {
    each(reply, |key, value| match key {
        "result" => each(value, |key, value| list(policy, key, value)),
        _ => value.clone(),
    })
}

/// An object with its values changed; anything else as it is.
fn each(object: &Tree, change: impl Fn(&str, &Tree) -> Tree) -> Tree {
    let Tree::Object(pairs) = object else {
        return object.clone();
    };
    let pairs = pairs
        .iter()
        .map(|(key, value)| (key.clone(), change(key, value)));
    Tree::Object(pairs.collect())
}

fn list(policy: &Policy, key: &str, value: &Tree) -> Tree {
    let (Tree::Array(items), Some((_, name))) =
        (value, LISTS.iter().find(|(list, _)| *list == key))
    else {
        return value.clone();
    };
    let rules = match key {
        "tools" => &policy.tools,
        "prompts" => &policy.prompts,
        _ => &policy.resources,
    };
    let is_permitted = |item: &&Tree| {
        let mut names = item.all(name).peekable();
        let is_named = names.peek().is_some();
        !rules.restrict()
            || is_named && names.all(|name| name.text().is_some_and(|name| rules.permit(name)))
    };
    Tree::Array(items.iter().filter(is_permitted).cloned().collect())
}
