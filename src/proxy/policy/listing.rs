//! Listings without what may not be called: only what is left out changes, all else stays as it came.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::config::{Policy, Rules};

/// The key of a listing in a result, and the key that names its items.
const LISTS: [(&str, &str); 4] = [
    ("tools", "name"),
    ("prompts", "name"),
    ("resources", "uri"),
    ("resourceTemplates", "uriTemplate"),
];

/// An object as it is written. A key may come twice: whichever a client takes is looked into.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Text(key), value)) = map.next_entry()? {
                    members.push((key, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

fn read<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

/// The message or batch without what `policy` rules out; `None` if it stays as it is.
///
/// Told by its shape, not by the request it answers: a resumed stream may bring
/// the answer to a request of long ago.
pub fn filter(policy: &Policy, message: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(message).ok()?;
    let whole: &RawValue = serde_json::from_str(text).ok()?;
    let mut cuts = Vec::new();
    if whole.get().starts_with('[') {
        for reply in read::<Vec<&RawValue>>(whole)? {
            note(policy, text, reply, &mut cuts);
        }
    } else {
        note(policy, text, whole, &mut cuts);
    }
    (!cuts.is_empty()).then(|| without(text, cuts).into_bytes())
}

fn note(policy: &Policy, text: &str, reply: &RawValue, cuts: &mut Vec<Range<usize>>) {
    let Some(Members(reply)) = read(reply) else {
        return;
    };
    let results = reply.into_iter().filter(|(key, _)| key == "result");
    let lists = results
        .filter_map(|(_, result)| read::<Members<'_>>(result))
        .flat_map(|Members(members)| members);
    for (key, items) in lists {
        let Some((_, name)) = LISTS.iter().find(|(list, _)| *list == key) else {
            continue;
        };
        let rules = match &*key {
            "tools" => &policy.tools,
            "prompts" => &policy.prompts,
            _ => &policy.resources,
        };
        let Some(items) = read::<Vec<&RawValue>>(items).filter(|_| rules.restrict()) else {
            continue;
        };
        let ranges: Vec<_> = items.iter().map(|item| place(text, item)).collect();
        let left_out: Vec<_> = items
            .iter()
            .map(|item| !is_permitted(rules, item, name))
            .collect();
        cuts.extend(cut(&ranges, &left_out));
    }
}

/// Whether the item has a name, and no name that is ruled out.
fn is_permitted(rules: &Rules, item: &RawValue, name: &str) -> bool {
    let Some(Members(members)) = read(item) else {
        return false;
    };
    let mut names = members.iter().filter(|(key, _)| key == name).peekable();
    names.peek().is_some()
        && names.all(|(_, name)| read(name).is_some_and(|Text(name)| rules.permit(&name)))
}

/// Where a value that was read from `text` stands in it.
fn place(text: &str, raw: &RawValue) -> Range<usize> {
    let start = raw.get().as_ptr() as usize - text.as_ptr() as usize;
    start..start + raw.get().len()
}

/// What has to go, with the comma before each item, or behind it where nothing is left before.
fn cut(items: &[Range<usize>], left_out: &[bool]) -> Vec<Range<usize>> {
    let first_kept = left_out.iter().position(|out| !out);
    (0..items.len())
        .filter(|&index| left_out[index])
        .map(|index| match first_kept {
            Some(kept) if index < kept => items[index].start..items[index + 1].start,
            Some(_) => items[index - 1].end..items[index].end,
            None if index + 1 < items.len() => items[index].start..items[index + 1].start,
            None => items[index].clone(),
        })
        .collect()
}

fn without(text: &str, mut cuts: Vec<Range<usize>>) -> String {
    cuts.sort_by_key(|cut| cut.start);
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for cut in cuts {
        out.push_str(text.get(at..cut.start).unwrap_or_default());
        at = at.max(cut.end);
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::config::{Peers, Rules};

    fn policy(deny: &[&str]) -> Policy {
        Policy {
            peers: Peers::default(),
            tools: Rules::denying(deny),
            prompts: Rules::default(),
            resources: Rules::denying(deny),
            dry_run: false,
            place: String::new(),
        }
    }

    #[test]
    fn a_denied_tool_is_left_out_and_nothing_else_changes() {
        let listing = r#"{"jsonrpc":"2.0", "id":9223372036854775808,"result":{"tools":[ {"name":"a","x":1.0} , {"name":"del"},{"name":"b"} ],"nextCursor":"c"}}"#;
        let left = filter(&policy(&["del"]), listing.as_bytes()).unwrap();
        assert_eq!(
            String::from_utf8(left).unwrap(),
            r#"{"jsonrpc":"2.0", "id":9223372036854775808,"result":{"tools":[ {"name":"a","x":1.0},{"name":"b"} ],"nextCursor":"c"}}"#
        );
    }

    #[test]
    fn what_has_nothing_denied_in_it_stays_as_it_is() {
        for message in [
            r#"{"id":1,"result":{"tools":[{"name":"a"}]}}"#,
            r#"{"id":1,"result":{"content":[{"name":"del"}]}}"#,
            r#"{"id":1,"result":{"prompts":[{"name":"del"}]}}"#,
            r#"{"method":"notifications/tools/list_changed"}"#,
            "nonsense",
        ] {
            assert_eq!(
                filter(&policy(&["del"]), message.as_bytes()),
                None,
                "{message}"
            );
        }
    }

    #[test]
    fn resources_templates_and_batches_are_filtered_too() {
        let batch = r#"[{"id":1,"result":{"resources":[{"uri":"x://del","name":"n"}]}},{"id":2,"result":{"resourceTemplates":[{"uriTemplate":"x://{a}"},{"uriTemplate":"y"}]}}]"#;
        let left = filter(&policy(&["x://*"]), batch.as_bytes()).unwrap();
        assert_eq!(
            String::from_utf8(left).unwrap(),
            r#"[{"id":1,"result":{"resources":[]}},{"id":2,"result":{"resourceTemplates":[{"uriTemplate":"y"}]}}]"#
        );
    }

    #[test]
    fn an_item_without_a_name_is_left_out() {
        let listing = r#"{"id":1,"result":{"tools":[{"nom":"a"},7]}}"#;
        let left = filter(&policy(&["del"]), listing.as_bytes()).unwrap();
        assert_eq!(left, br#"{"id":1,"result":{"tools":[]}}"#);
    }

    #[test]
    fn what_is_odd_beside_a_listing_does_not_hide_it() {
        for listing in [
            r#"{"result":{"tools":[{"name":"del"}],"prompts":7}}"#,
            r#"[7,{"result":{"tools":[{"name":"del"}]}}]"#,
            r#"{"result":{},"result":{"tools":[],"tools":[{"name":"del"}]}}"#,
            r#"{"result":{"tools":[{"name":"a","name":"del"}]}}"#,
        ] {
            let left = filter(&policy(&["del"]), listing.as_bytes()).expect(listing);
            assert!(
                !String::from_utf8(left).unwrap().contains("del"),
                "{listing}"
            );
        }
        let odd = r#"{"result":{"tools":[{"name":"a","uri":7}]}}"#;
        assert_eq!(filter(&policy(&["del"]), odd.as_bytes()), None);
    }

    proptest! {
        #[test]
        fn what_is_left_is_exactly_what_is_permitted(names in proptest::collection::vec("a|b|del", 0..8)) {
            let tools: Vec<_> = names.iter().map(|name| json!({ "name": name })).collect();
            let listing = json!({ "id": 1, "result": { "tools": tools } }).to_string();
            let left = filter(&policy(&["del"]), listing.as_bytes()).unwrap_or(listing.into_bytes());
            let left: Value = serde_json::from_slice(&left).unwrap();
            let kept: Vec<_> = tools.into_iter().filter(|tool| tool["name"] != "del").collect();
            prop_assert_eq!(&left["result"]["tools"], &Value::Array(kept));
        }
    }
}
