//! JSON-RPC: what the strict reader takes, every other reader understands in the same way.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::tree::{Pairs, Tree};
use crate::mcp::strict::{self, Members};
use crate::mcp::{self, Peek, Waiting, mirror};

pub fn check(data: &[u8]) {
    scanned(data);
    messages(data);
}

/// What our own scanner takes, refuses and finds, serde_json does.
pub fn scanned(data: &[u8]) {
    assert_eq!(mcp::peek(data), peek(data), "another peek");
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let names = ["method", "_meta", mirror::VERSION_KEY, "taskId"];
    let found = Members::of(text, names).map(|members| members.certain().ok());
    let parsed = members(text, names)
        .map(|members| members.map(|raw| raw.map(|raw| raw.map(RawValue::get))));
    assert_eq!(found, parsed, "other members");
}

fn peek(body: &[u8]) -> Option<Peek<'_>> {
    let [method, params] = members(std::str::from_utf8(body).ok()?, ["method", "params"])??;
    let text = |raw: &RawValue| serde_json::from_str(raw.get()).map(Cow::Owned).ok();
    let method: Option<Cow<'_, str>> = match method {
        Some(method) => Some(text(method)?),
        None => None,
    };
    let subject = |params: &RawValue| {
        let [name, uri] = members(params.get(), ["name", "uri"])??;
        text(name.or(uri)?)
    };
    let with_subject = [
        "tools/call",
        "prompts/get",
        "resources/read",
        "resources/subscribe",
        "resources/unsubscribe",
    ];
    let has_subject = method
        .as_deref()
        .is_some_and(|method| with_subject.contains(&method));
    let name = params.filter(|_| has_subject).and_then(subject);
    Some(Peek { method, name })
}

/// `None` for what is no object, and nothing of one that can be read in two ways.
fn members<'a, const N: usize>(
    text: &'a str,
    names: [&str; N],
) -> Option<Option<[Option<&'a RawValue>; N]>> {
    let Pairs(pairs) = serde_json::from_str(text).ok()?;
    let mut found = [None; N];
    for (index, name) in names.iter().enumerate() {
        let name = name.to_lowercase();
        let mut alike = pairs.iter().filter(|(key, _)| folded(key) == name);
        found[index] = match (alike.next(), alike.next()) {
            (None, _) => None,
            (Some((key, value)), None) if *key == names[index] => Some(*value),
            _ => return Some(None),
        };
    }
    Some(Some(found))
}

/// What Go's reader takes for the same key, beside the key itself.
fn folded(key: &str) -> String {
    key.to_lowercase().replace('ſ', "s")
}

fn messages(data: &[u8]) {
    let Ok(messages) = strict::read(data) else {
        return;
    };
    let text = std::str::from_utf8(data).expect("it took what is no UTF-8");
    // What nests too deep for this reader is skipped, and so is nothing else.
    let Some(tree) = Tree::read(text) else { return };
    let trees = match &tree {
        Tree::Array(items) => &items[..],
        one => std::slice::from_ref(one),
    };
    assert_eq!(messages.len(), trees.len());
    for (message, tree) in messages.iter().zip(trees) {
        assert!(matches!(tree, Tree::Object(_)), "it took what is no object");
        agree(&message.method, tree, "method");
        let params = only(tree, "params")
            .cloned()
            .unwrap_or(Tree::Object(Vec::new()));
        agree(&message.name, &params, "name");
        agree(&message.uri, &params, "uri");
        let reference = only(&params, "ref")
            .cloned()
            .unwrap_or(Tree::Object(Vec::new()));
        let read = message.reference.as_ref();
        agree(&read.and_then(|read| read.name.clone()), &reference, "name");
        agree(&read.and_then(|read| read.uri.clone()), &reference, "uri");
    }
    if let ([message], Tree::Object(_)) = (&messages[..], &tree)
        && let Some(peek) = mcp::peek(data)
    {
        assert_eq!(peek.method, message.method, "the log names another method");
    }
    answers(data, trees);
}

/// The value that stands under a key however a reader treats case and repetition.
fn only<'a>(object: &'a Tree, key: &str) -> Option<&'a Tree> {
    let mut found = object.pairs().iter().filter(|(name, _)| {
        // What Go's reader takes for the same key, beside the key itself.
        name.replace('ſ', "s")
            .replace('\u{212a}', "k")
            .eq_ignore_ascii_case(key)
    });
    let first = found.next();
    assert!(found.next().is_none(), "{key} could be read in two ways");
    if let Some((name, _)) = first {
        assert_eq!(name, key, "a key is understood by some only");
    }
    first.map(|(_, value)| value)
}

fn agree(read: &Option<Cow<'_, str>>, object: &Tree, key: &str) {
    let stands = only(object, key);
    assert_eq!(read.as_deref(), stands.and_then(Tree::text), "{key}");
    assert_eq!(
        read.is_some(),
        stands.is_some(),
        "a {key} that is no text passed"
    );
}

/// Every request is owed one answer with its own id, and nothing else is.
fn answers(data: &[u8], trees: &[Tree]) {
    let waiting = match mcp::waiting(data) {
        Waiting::One(id) => vec![id],
        Waiting::Batch(ids) => ids,
        Waiting::Nobody | Waiting::Unread => return,
    };
    for id in &waiting {
        let id = Tree::read(id).expect("an id that is no JSON");
        assert!(
            trees
                .iter()
                .any(|tree| tree.all("id").any(|own| *own == id))
        );
    }
    let requests = trees.iter().filter(|tree| tree.last("method").is_some());
    assert!(waiting.len() <= requests.count());
}
