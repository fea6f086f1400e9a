//! Tool arguments that are mirrored into `Mcp-Param-*` headers (2026-07-28, "Custom Headers from Tool Parameters").

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use http::{HeaderMap, HeaderName};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::mirror;
use crate::json::{self, Object};

const ANNOTATION: &str = "x-mcp-header";

/// More tools than any client shows; a listing that grows without end must not take our memory.
const MAX_TOOLS: usize = 4096;
/// Names and paths of all of them, in bytes.
const MAX_BYTES: usize = 1024 * 1024;

/// Keywords that lead to subschemas which a property's path may not pass through.
const ELSEWHERE: [&str; 18] = [
    "items",
    "prefixItems",
    "contains",
    "additionalProperties",
    "unevaluatedProperties",
    "unevaluatedItems",
    "propertyNames",
    "patternProperties",
    "dependentSchemas",
    "oneOf",
    "anyOf",
    "allOf",
    "not",
    "if",
    "then",
    "else",
    "$defs",
    "definitions",
];

/// One annotated parameter: where it is in the arguments, and the header it goes to.
#[derive(Debug, PartialEq, Eq)]
pub struct Mirrored {
    path: Vec<String>,
    header: HeaderName,
}

/// The annotated tools of one server, as far as its listings have been seen.
#[derive(Debug, Default)]
pub struct Catalog {
    tools: HashMap<String, Vec<Mirrored>>,
    /// What their names and paths hold.
    bytes: usize,
}

/// An argument that comes twice.
#[derive(Debug, PartialEq, Eq)]
pub struct Twofold(pub String);

#[derive(Deserialize)]
struct Listing<'a> {
    #[serde(borrow)]
    result: Object<Tools<'a>>,
}

#[derive(Deserialize)]
struct Tools<'a> {
    #[serde(borrow)]
    tools: Vec<Object<Tool<'a>>>,
    #[serde(rename = "nextCursor")]
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Tool<'a> {
    name: String,
    #[serde(borrow, rename = "inputSchema")]
    input_schema: Option<&'a RawValue>,
}

/// What a page of a listing taught.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Learned {
    pub next_cursor: Option<String>,
    /// Tools whose annotations break the rules, with the reason.
    pub invalid: Vec<(String, &'static str)>,
}

impl Catalog {
    /// Takes in one page of a `tools/list` answer; anything else teaches nothing.
    pub fn learn(&mut self, answer: &[u8]) -> Learned {
        let Ok(Listing { result }) = json::object::<Listing<'_>>(answer) else {
            return Learned::default();
        };
        let Object(result) = result;
        let mut learned = Learned {
            next_cursor: result.next_cursor,
            ..Learned::default()
        };
        for Object(tool) in result.tools {
            let schema = tool.input_schema.map_or("", RawValue::get);
            // Most schemas have no annotation: they are not even parsed.
            if !schema.contains(ANNOTATION) {
                self.forget(&tool.name);
                continue;
            }
            match serde_json::from_str(schema)
                .map_err(|_| "is no schema")
                .and_then(|s| scan(&s))
            {
                Ok(mirrored) => self.keep(tool.name, mirrored),
                Err(reason) => {
                    self.forget(&tool.name);
                    learned.invalid.push((tool.name, reason));
                }
            }
        }
        learned
    }

    fn keep(&mut self, tool: String, mirrored: Vec<Mirrored>) {
        self.forget(&tool);
        let size = size(&tool, &mirrored);
        if self.tools.len() < MAX_TOOLS && self.bytes + size <= MAX_BYTES {
            self.bytes += size;
            self.tools.insert(tool, mirrored);
        }
    }

    fn forget(&mut self, tool: &str) {
        if let Some(mirrored) = self.tools.remove(tool) {
            self.bytes -= size(tool, &mirrored);
        }
    }

    /// The headers that mirror a call of `tool`, each with the value its arguments have for
    /// it; none for a tool that was never listed.
    pub fn mirrored<'a>(
        &'a self,
        tool: &str,
        arguments: &'a str,
    ) -> impl Iterator<Item = (&'a HeaderName, Result<Option<String>, Twofold>)> {
        let mirrored = self.tools.get(tool).map_or(&[][..], Vec::as_slice);
        mirrored
            .iter()
            .map(|parameter| (&parameter.header, at_path(arguments, &parameter.path)))
    }

    /// The headers for a call of `tool`.
    pub fn headers(&self, tool: &str, arguments: &str) -> HeaderMap {
        self.mirrored(tool, arguments)
            .filter_map(|(name, value)| Some((name.clone(), mirror::encode(&value.ok()??))))
            .collect()
    }
}

fn size(tool: &str, mirrored: &[Mirrored]) -> usize {
    let of_path = |path: &[String]| path.iter().map(String::len).sum::<usize>();
    let of_one = |one: &Mirrored| of_path(&one.path) + one.header.as_str().len();
    tool.len() + mirrored.iter().map(of_one).sum::<usize>()
}

/// Finds a schema's annotations; one in a wrong place makes the whole definition invalid.
fn scan(schema: &Value) -> Result<Vec<Mirrored>, &'static str> {
    let mut found = Vec::new();
    let mut left = vec![(Some(Vec::new()), schema)];
    while let Some((path, node)) = left.pop() {
        let Value::Object(node) = node else { continue };
        if let Some(annotation) = node.get(ANNOTATION) {
            found.push(mirrored(path.as_deref(), node, annotation)?);
        }
        for (keyword, value) in node {
            match value {
                Value::Object(properties) if keyword == "properties" => {
                    left.extend(properties.iter().map(|(name, schema)| {
                        let path = path
                            .as_ref()
                            .map(|path: &Vec<String>| path.iter().chain([name]).cloned().collect());
                        (path, schema)
                    }));
                }
                _ if ELSEWHERE.contains(&keyword.as_str()) => {
                    left.extend(subschemas(keyword, value).into_iter().map(|s| (None, s)));
                }
                _ => {}
            }
        }
    }
    let mut names = HashSet::new();
    if !found
        .iter()
        .all(|parameter| names.insert(&parameter.header))
    {
        return Err("two parameters share a header");
    }
    Ok(found)
}

fn mirrored(
    path: Option<&[String]>,
    schema: &Map<String, Value>,
    annotation: &Value,
) -> Result<Mirrored, &'static str> {
    let path = path
        .filter(|path| !path.is_empty())
        .ok_or("an annotation is not on a property reached through properties alone")?;
    let name = annotation.as_str().filter(|name| !name.is_empty());
    let name = name.ok_or("an annotation is no header name")?;
    let header = HeaderName::try_from(format!("mcp-param-{name}"))
        .map_err(|_| "an annotation is no header name")?;
    match schema.get("type").and_then(Value::as_str) {
        Some("string" | "integer" | "boolean") => Ok(Mirrored {
            path: path.to_vec(),
            header,
        }),
        _ => Err("an annotated parameter is no string, integer or boolean"),
    }
}

fn subschemas<'a>(keyword: &str, value: &'a Value) -> Vec<&'a Value> {
    let is_map = matches!(
        keyword,
        "patternProperties" | "dependentSchemas" | "$defs" | "definitions"
    );
    match value {
        Value::Array(list) => list.iter().collect(),
        Value::Object(map) if is_map => map.values().collect(),
        other => vec![other],
    }
}

/// The primitive at a path, as text; `None` where it is absent, null or no primitive.
///
/// # Errors
/// There are two, and parsers differ in which they take.
fn at_path(arguments: &str, path: &[String]) -> Result<Option<String>, Twofold> {
    let Some((first, rest)) = path.split_first() else {
        return Ok(None);
    };
    let Ok(Pairs(members)) = serde_json::from_str(arguments) else {
        return Ok(None);
    };
    let mut values = members.iter().filter(|(key, _)| key == first);
    match (values.next(), values.next()) {
        (Some(_), Some(_)) => Err(Twofold(first.clone())),
        (Some((_, value)), None) if !rest.is_empty() => at_path(value.get(), rest),
        (Some((_, value)), None) => Ok(primitive(value.get())),
        (None, _) => Ok(None),
    }
}

/// Every member of an object, those that come twice as well.
struct Pairs<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairVisitor)
    }
}

struct PairVisitor;

impl<'de> Visitor<'de> for PairVisitor {
    type Value = Pairs<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(Key(key)) = map.next_key()? {
            pairs.push((key, map.next_value()?));
        }
        Ok(Pairs(pairs))
    }
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

fn primitive(value: &str) -> Option<String> {
    match value.as_bytes().first()? {
        b'"' => serde_json::from_str(value).ok(),
        b't' | b'f' => Some(value.to_owned()),
        b'-' | b'0'..=b'9' => Some(decimal(value)),
        _ => None,
    }
}

/// An integer's digits, however it was written: `42`, `42.0` and `4.2e1` are one value.
fn decimal(number: &str) -> String {
    const SAFE: f64 = 9_007_199_254_740_991.0;
    if !number.contains(['.', 'e', 'E']) {
        return number.to_owned();
    }
    match number.parse::<f64>() {
        Ok(value) if value.fract() == 0.0 && value.abs() <= SAFE => format!("{value:.0}"),
        Ok(value) => value.to_string(),
        Err(_) => number.to_owned(),
    }
}

#[cfg(test)]
mod tests;
