//! JSON-RPC: what the strict reader takes, every other reader understands in the same way.

use std::borrow::Cow;

use super::tree::Tree;
use crate::mcp::{self, Waiting, strict};

pub fn check(data: &[u8]) {
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
