//! Whose a line is that is too long to be kept: read off its first and its last part.

use serde_json::value::RawValue;

use super::{Id, answerable};

/// How much of either end of a line is looked at, in bytes.
pub const END: usize = 16 * 1024;

/// The id of the request, if what is left of the line leaves no doubt that it is one and has this id.
///
/// A response or a notification gets `None`: nobody may be told that they failed.
pub fn id_of(head: &[u8], tail: &[u8]) -> Option<Id> {
    let members: Vec<_> = from_start(head).into_iter().chain(from_end(tail)).collect();
    let values = |name: &'static str| {
        members
            .iter()
            .filter(move |(key, _)| *key == name)
            .map(|(_, value)| *value)
    };
    values("\"method\"").next()?;
    let id = values("\"id\"").next()?;
    let is_clear = values("\"id\"").all(|other| other == id);
    let id: &RawValue = serde_json::from_slice(id.as_bytes()).ok()?;
    answerable(id).ok().filter(|_| is_clear)
}

/// The members of an object from its start to where the text ends, whole ones only.
fn from_start(text: &[u8]) -> Vec<(&str, &str)> {
    let mut members = Vec::new();
    let mut rest = text.trim_ascii_start().strip_prefix(b"{");
    while let Some((key, after)) = rest.and_then(value) {
        let Some((found, after)) = after.strip_prefix(b":").and_then(value) else {
            break;
        };
        // A number at the cut may be the beginning of a longer one.
        rest = after.strip_prefix(b",");
        if rest.is_some() {
            members.push((key, found));
        }
    }
    members
}

/// The JSON value that a text begins with, and what follows it.
fn value(text: &[u8]) -> Option<(&str, &[u8])> {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<&RawValue>();
    let found = values.next()?.ok()?.get();
    let after = &text[values.byte_offset()..];
    Some((found, after.trim_ascii_start()))
}

/// The members of an object from its end backwards, as long as they are strings, numbers and words.
fn from_end(text: &[u8]) -> Vec<(&str, &str)> {
    let mut members = Vec::new();
    let mut rest = text.trim_ascii_end().strip_suffix(b"}");
    while let Some((before, found)) = rest.and_then(last_scalar) {
        let Some((before, key)) = before.strip_suffix(b":").and_then(last_scalar) else {
            break;
        };
        members.push((key, found));
        rest = before.strip_suffix(b",");
    }
    members
}

/// The string, number or word that a text ends with, and what comes before it.
///
/// Outside of a string each quote is one's end, and the next quote back that no backslash escapes its start.
fn last_scalar(text: &[u8]) -> Option<(&[u8], &str)> {
    let text = text.trim_ascii_end();
    let start = match text.strip_suffix(b"\"") {
        Some(inner) => (0..inner.len())
            .rev()
            .find(|&at| is_plain_quote(inner, at))?,
        None => {
            let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
            text.len() - text.iter().rev().take_while(|byte| is_word(byte)).count()
        }
    };
    let found = std::str::from_utf8(&text[start..]).ok()?;
    (!found.is_empty()).then(|| (text[..start].trim_ascii_end(), found))
}

fn is_plain_quote(text: &[u8], at: usize) -> bool {
    let escapes = text[..at].iter().rev().take_while(|&&byte| byte == b'\\');
    text[at] == b'"' && escapes.count() % 2 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line is cut so that its middle is lost.
    fn found(line: &str, head: usize, tail: usize) -> Option<Id> {
        id_of(
            &line.as_bytes()[..head],
            &line.as_bytes()[line.len() - tail..],
        )
    }

    #[test]
    fn an_id_is_found_at_either_end() {
        let first = r#"{"jsonrpc":"2.0","id": 7 ,"method":"tools/call","params":{"text":"xxxxxxxxxxxxxxxx"}}"#;
        assert_eq!(found(first, 60, 10).as_deref(), Some("7"));
        let last = r#"{"method":"tools/call","params":{"id":1,"t":"xx\\\"}xxx"},"jsonrpc":"2.0","id":"a\"b"}"#;
        assert_eq!(found(last, 40, 45).as_deref(), Some(r#""a\"b""#));
        assert_eq!(found(last, 40, 27).as_deref(), Some(r#""a\"b""#));
        let both =
            r#"{"id":9223372036854775808,"params":["xxxxxxxxxxxxxxxxxxxxxxxxxxx"],"method":"x"}"#;
        assert_eq!(found(both, 30, 20).as_deref(), Some("9223372036854775808"));
    }

    #[test]
    fn what_is_cut_or_nested_or_contradicts_itself_is_nobodys() {
        let nested =
            r#"{"method":"x","params":{"a":[{"id":1,"method":"x"}],"b":"xxxxxxxxxxxxx","id":2}}"#;
        assert_eq!(found(nested, 40, 30), None);
        let cut = r#"{"method":"x","id":1234567,"params":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}"#;
        assert_eq!(found(cut, 22, 10), None);
        let twice = r#"{"method":"x","id":1,"params":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","id":2}"#;
        assert_eq!(found(twice, 30, 12), None);
        let response = r#"{"jsonrpc":"2.0","id":1,"result":{"text":"xxxxxxxxxxxxxxxxxxxxxxxxxx"}}"#;
        assert_eq!(found(response, 40, 20), None);
        let strange = r#"{"method":"x","id":{},"params":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}"#;
        assert_eq!(found(strange, 40, 20), None);
        assert_eq!(found(r#"[{"method":"x","id":1}]"#, 20, 3), None);
    }

    #[test]
    fn no_text_makes_it_stumble() {
        let line = r#"{"method":"x\\","id":-1.5e3,"p":{"q":"\u00e9\"\\"},"z":"ü","id":-1.5e3}"#;
        for head in 0..line.len() {
            for tail in 0..line.len() {
                let id = found(line, head, tail);
                assert!(
                    id.is_none() || id.as_deref() == Some("-1.5e3"),
                    "{head} {tail}"
                );
            }
        }
    }
}
