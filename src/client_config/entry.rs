//! A server's entry in a client's file, whatever the format.

use http::uri::Authority;
use serde_json::{Map, Value};

use crate::cli::Transport;

/// The keys that this command decides about, in the order they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub transport: Transport,
    pub fields: Vec<(&'static str, Field)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    Text(String),
    List(Vec<String>),
}

/// What an entry is made from.
#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    Entry(&'a Entry),
    /// As it stood in another version of the file.
    Verbatim(&'a str),
}

/// The keys of an entry with a command, of any client.
const STDIO_KEYS: [&str; 6] = ["type", "source", "command", "args", "env", "cwd"];

/// The keys of an entry with a URL, of any client.
const HTTP_KEYS: [&str; 8] = [
    "type",
    "source",
    "url",
    "httpUrl",
    "serverUrl",
    "headers",
    "http_headers",
    "env_http_headers",
];

/// Those that hold the URL.
const URL_KEYS: [&str; 3] = ["url", "httpUrl", "serverUrl"];

impl Field {
    /// As JSON writes it; TOML reads the same.
    pub fn literal(&self) -> String {
        match self {
            Field::Text(text) => quoted(text),
            Field::List(items) => {
                let items: Vec<_> = items.iter().map(|item| quoted(item)).collect();
                format!("[{}]", items.join(", "))
            }
        }
    }

    fn value(&self) -> Value {
        match self {
            Field::Text(text) => text.as_str().into(),
            Field::List(items) => items.as_slice().into(),
        }
    }
}

/// A string as JSON and TOML both write it.
pub fn quoted(text: &str) -> String {
    // JSON leaves DEL alone, which TOML does not allow.
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

impl Entry {
    /// Whether `found` says already what this entry says. Further keys, such as a timeout or
    /// `env`, are the user's.
    pub fn is_in(&self, found: &Value) -> bool {
        let Some(found) = found.as_object() else {
            return false;
        };
        let same = |(key, field): &(&str, Field)| found.get(*key) == Some(&field.value());
        self.fields.iter().all(same) && self.obsolete(found).is_empty()
    }

    /// The keys of `found` that belong to the other transport, which clients refuse beside this one's.
    pub fn obsolete(&self, found: &Map<String, Value>) -> Vec<&'static str> {
        let (marks, keys): (&[&str], &'static [&str]) = match self.transport {
            Transport::Stdio => (&URL_KEYS, &HTTP_KEYS),
            Transport::Http => (&["command"], &STDIO_KEYS),
        };
        if !marks.iter().any(|mark| found.contains_key(*mark)) {
            return Vec::new();
        }
        let is_ours = |key: &str| self.fields.iter().any(|(own, _)| *own == key);
        let keys = keys.iter().copied();
        keys.filter(|key| found.contains_key(*key) && !is_ours(key))
            .collect()
    }
}

/// Whether `found` is an entry of this command's making: it launches this program, or asks a
/// URL at one of `authorities`.
pub fn is_ours(found: &Value, authorities: &[Authority]) -> bool {
    let launches = found["command"]
        .as_str()
        .is_some_and(|command| command.rsplit('/').next() == Some(env!("CARGO_PKG_NAME")));
    let asks = URL_KEYS.iter().any(|key| {
        let url: Option<http::Uri> = found[*key].as_str().and_then(|url| url.parse().ok());
        url.and_then(|url| url.into_parts().authority)
            .is_some_and(|authority| authorities.contains(&authority))
    });
    launches || asks
}
