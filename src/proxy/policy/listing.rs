//! Listings without what may not be called: only what is left out changes, all else stays as it came.

use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::config::{Policy, Rules};

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow)]
    result: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listings<'a> {
    #[serde(borrow)]
    tools: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    prompts: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    resources: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    resource_templates: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    name: Option<String>,
    uri: Option<String>,
    uri_template: Option<String>,
}

/// The message or batch without what `policy` rules out; `None` if it stays as it is.
///
/// Told by its shape, not by the request it answers: a resumed stream may bring
/// the answer to a request of long ago.
pub fn filter(policy: &Policy, message: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(message).ok()?;
    let mut cuts = Vec::new();
    if text.trim_start().starts_with('[') {
        let replies: Vec<Reply<'_>> = serde_json::from_str(text).ok()?;
        for reply in &replies {
            note(policy, text, reply, &mut cuts);
        }
    } else {
        note(policy, text, &serde_json::from_str(text).ok()?, &mut cuts);
    }
    (!cuts.is_empty()).then(|| without(text, cuts).into_bytes())
}

fn note(policy: &Policy, text: &str, reply: &Reply<'_>, cuts: &mut Vec<Range<usize>>) {
    let Some(found) = reply
        .result
        .and_then(|result| serde_json::from_str::<Listings<'_>>(result.get()).ok())
    else {
        return;
    };
    let mut check =
        |items: Option<Vec<&RawValue>>, rules: &Rules, name: fn(Item) -> Option<String>| {
            let items = items.filter(|_| rules.restrict()).unwrap_or_default();
            let is_left_out = |raw: &&RawValue| {
                let item = serde_json::from_str::<Item>(raw.get()).ok();
                !item.and_then(name).is_some_and(|name| rules.permit(&name))
            };
            let ranges: Vec<_> = items.iter().map(|raw| place(text, raw)).collect();
            let left_out: Vec<_> = items.iter().map(is_left_out).collect();
            cuts.extend(cut(&ranges, &left_out));
        };
    check(found.tools, &policy.tools, |item| item.name);
    check(found.prompts, &policy.prompts, |item| item.name);
    check(found.resources, &policy.resources, |item| item.uri);
    check(found.resource_templates, &policy.resources, |item| {
        item.uri_template
    });
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
