//! Cache keys: two requests share an answer only if they ask the same.

use std::collections::BTreeMap;

use http::uri::PathAndQuery;
use serde_json::value::RawValue;

use crate::proxy::cache::question::Question;

type Members<'a> = BTreeMap<String, &'a RawValue>;

/// Two bodies with a blank line between them.
pub fn check(data: &[u8]) {
    let at = data
        .windows(2)
        .position(|pair| pair == b"\n\n")
        .unwrap_or(data.len());
    let (one, other) = (&data[..at], data.get(at + 2..).unwrap_or_default());
    if let (Some(one), Some(other)) = (asked(one), asked(other)) {
        assert_eq!(
            one.0 == other.0,
            one.1 == other.1,
            "{:?} {:?}",
            one.1,
            other.1
        );
    }
    if let (Some((digest, _)), Some(sorted)) = (asked(one), sorted(one)) {
        let (again, _) = asked(&sorted).expect("order makes it another kind of request");
        assert_eq!(digest, again, "the order of keys makes it another question");
    }
}

/// A question's digest, and what it has to tell apart.
type Asked = ([u8; 32], Vec<(String, String)>);

/// The digest, and what it has to tell apart: method, parameters and what of `_meta` counts.
fn asked(body: &[u8]) -> Option<Asked> {
    let head = http::Request::new(()).into_parts().0;
    let target = PathAndQuery::from_static("/mcp");
    let question = Question::read(&head, &target, body, false)?;
    let request: Members<'_> = serde_json::from_slice(body).expect("it took what is no object");
    let params = members(request.get("params").copied());
    let meta = members(params.get("_meta").copied());
    let method: String = serde_json::from_str(request["method"].get()).expect("a method");
    let id = request["id"].get();
    assert_eq!(&*question.id, id);
    let mut said = vec![("method".to_owned(), method)];
    let others = params.iter().filter(|(key, _)| *key != "_meta");
    said.extend(others.map(|(key, value)| (format!("p.{key}"), value.get().to_owned())));
    let ignored = ["baggage", "progressToken", "traceparent", "tracestate"];
    let meta = meta
        .iter()
        .filter(|(key, _)| !ignored.contains(&key.as_str()));
    said.extend(meta.map(|(key, value)| (format!("m.{key}"), value.get().to_owned())));
    Some((question.digest, said))
}

fn members(object: Option<&RawValue>) -> Members<'_> {
    object.map_or_else(Members::new, |object| {
        serde_json::from_str(object.get()).expect("it took what is no object")
    })
}

/// The same request with its keys, and those of its parameters, in alphabetical order.
fn sorted(body: &[u8]) -> Option<Vec<u8>> {
    let mut request: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(body).ok()?;
    if let Some(params) = request.get("params") {
        let params: Members<'_> = serde_json::from_str(params.get()).ok()?;
        let params = serde_json::value::to_raw_value(&params).ok()?;
        request.insert("params".to_owned(), params);
    }
    serde_json::to_vec(&request).ok()
}
