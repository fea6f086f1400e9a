//! JSON with everything that stands in it: keys that come twice, numbers as they are written.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    Object(Vec<(String, Tree)>),
    Array(Vec<Tree>),
    Text(String),
    /// A number, a boolean or null.
    Other(String),
}

impl Tree {
    /// `None` for what is no JSON, or nests deeper than anyone reads.
    pub fn read(text: &str) -> Option<Self> {
        Self::of(serde_json::from_str(text).ok()?, 0)
    }

    fn of(raw: &RawValue, depth: usize) -> Option<Self> {
        let text = raw.get();
        if depth > 32 {
            return None;
        }
        Some(match text.as_bytes().first()? {
            b'{' => {
                let Pairs(pairs) = serde_json::from_str(text).ok()?;
                let pairs = pairs.into_iter();
                let pairs = pairs.map(|(key, raw)| Some((key, Self::of(raw, depth + 1)?)));
                Self::Object(pairs.collect::<Option<_>>()?)
            }
            b'[' => {
                let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
                let items = items.into_iter().map(|raw| Self::of(raw, depth + 1));
                Self::Array(items.collect::<Option<_>>()?)
            }
            b'"' => Self::Text(serde_json::from_str(text).ok()?),
            _ => Self::Other(text.to_owned()),
        })
    }

    /// Every value under a key; none of what is no object.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Tree> {
        self.pairs()
            .iter()
            .filter(move |(name, _)| name == key)
            .map(|(_, value)| value)
    }

    /// The value under a key, for one who takes the last of several.
    pub fn last(&self, key: &str) -> Option<&Tree> {
        let mut pairs = self.pairs().iter().rev();
        pairs.find(|(name, _)| name == key).map(|(_, value)| value)
    }

    pub fn pairs(&self) -> &[(String, Tree)] {
        match self {
            Self::Object(pairs) => pairs,
            _ => &[],
        }
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// The members of an object as they come.
pub struct Pairs<'a>(pub Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}
