//! Tool arguments that are mirrored into `Mcp-Param-*` headers (2026-07-28, "Custom Headers from Tool Parameters").

use std::collections::{HashMap, HashSet};

use http::{HeaderMap, HeaderName};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::mirror;

const ANNOTATION: &str = "x-mcp-header";

/// More tools than any client shows; a listing that grows without end must not take our memory.
const MAX_TOOLS: usize = 4096;

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
pub struct Catalog(HashMap<String, Vec<Mirrored>>);

#[derive(Deserialize)]
struct Listing<'a> {
    #[serde(borrow)]
    result: Tools<'a>,
}

#[derive(Deserialize)]
struct Tools<'a> {
    #[serde(borrow)]
    tools: Vec<Tool<'a>>,
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
        let Ok(Listing { result }) = serde_json::from_slice::<Listing<'_>>(answer) else {
            return Learned::default();
        };
        let mut learned = Learned {
            next_cursor: result.next_cursor,
            ..Learned::default()
        };
        for tool in result.tools {
            let schema = tool.input_schema.map_or("", RawValue::get);
            // Most schemas have no annotation: they are not even parsed.
            if !schema.contains(ANNOTATION) {
                self.0.remove(&tool.name);
                continue;
            }
            match serde_json::from_str(schema)
                .map_err(|_| "is no schema")
                .and_then(|s| scan(&s))
            {
                Ok(mirrored) if self.0.len() < MAX_TOOLS => {
                    drop(self.0.insert(tool.name, mirrored))
                }
                Ok(_) => {}
                Err(reason) => {
                    self.0.remove(&tool.name);
                    learned.invalid.push((tool.name, reason));
                }
            }
        }
        learned
    }

    /// The headers that mirror a call of `tool`, each with the value its arguments have for
    /// it; none for a tool that was never listed.
    pub fn mirrored<'a>(
        &'a self,
        tool: &str,
        arguments: &'a str,
    ) -> impl Iterator<Item = (&'a HeaderName, Option<String>)> {
        let mirrored = self.0.get(tool).map_or(&[][..], Vec::as_slice);
        mirrored
            .iter()
            .map(|parameter| (&parameter.header, at_path(arguments, &parameter.path)))
    }

    /// The headers for a call of `tool`.
    pub fn headers(&self, tool: &str, arguments: &str) -> HeaderMap {
        self.mirrored(tool, arguments)
            .filter_map(|(name, value)| Some((name.clone(), mirror::encode(&value?))))
            .collect()
    }
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
fn at_path(arguments: &str, path: &[String]) -> Option<String> {
    let (first, rest) = path.split_first()?;
    let members: HashMap<String, &RawValue> = serde_json::from_str(arguments).ok()?;
    let value = members.get(first)?.get();
    if !rest.is_empty() {
        return at_path(value, rest);
    }
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
