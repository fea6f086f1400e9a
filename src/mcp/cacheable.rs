//! Results that say how long they are good for, and notifications that they no longer are
//! (2026-07-28, "Caching").

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json;

/// The requests whose results may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Discover,
    Tools,
    Prompts,
    Resources,
    Templates,
    Read,
}

impl Kind {
    pub const COUNT: usize = 6;

    pub fn of(method: &str) -> Option<Self> {
        Some(match method {
            "server/discover" => Self::Discover,
            "tools/list" => Self::Tools,
            "prompts/list" => Self::Prompts,
            "resources/list" => Self::Resources,
            "resources/templates/list" => Self::Templates,
            "resources/read" => Self::Read,
            _ => return None,
        })
    }
}

/// What a notification says has changed.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    Tools,
    Prompts,
    Resources,
    /// One resource, by its URI.
    Resource(String),
}

#[derive(Deserialize)]
struct Notification<'a> {
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Updated {
    uri: String,
}

/// One of these is in each of them. Made once: a search is prepared in more time than it takes.
static WORDS: LazyLock<[Finder<'_>; 2]> =
    LazyLock::new(|| ["list_changed", "updated"].map(Finder::new));

impl Change {
    /// Reads every change in a message or batch; most messages are not even parsed.
    pub fn read(message: &[u8]) -> Vec<Self> {
        let may_be_one = WORDS.iter().any(|word| word.find(message).is_some());
        if !may_be_one {
            return Vec::new();
        }
        let parsed: Vec<Notification<'_>> = json::objects(message).unwrap_or_default();
        parsed.iter().filter_map(Self::of).collect()
    }

    fn of(notification: &Notification<'_>) -> Option<Self> {
        Some(match notification.method.as_deref()? {
            "notifications/tools/list_changed" => Self::Tools,
            "notifications/prompts/list_changed" => Self::Prompts,
            "notifications/resources/list_changed" => Self::Resources,
            "notifications/resources/updated" => {
                let params = notification.params.map_or("", RawValue::get);
                json::object::<Updated>(params.as_bytes())
                    // An update of who knows what is a change of everything.
                    .map_or(Self::Resources, |updated| Self::Resource(updated.uri))
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_however_they_are_written() {
        for (message, change) in [
            (
                r#"{"method":"notifications/tools/list_changed"}"#,
                Change::Tools,
            ),
            (
                r#"{"method":"notifications\/prompts\/list_changed","params":{}}"#,
                Change::Prompts,
            ),
            (
                r#"{"method":"notifications/resources/list_changed"}"#,
                Change::Resources,
            ),
            (
                r#"{"params":{"_meta":{"a":1},"uri":"file:\/\/\/a"},"method":"notifications/resources/updated"}"#,
                Change::Resource("file:///a".to_owned()),
            ),
            (
                r#"{"method":"notifications/resources/updated"}"#,
                Change::Resources,
            ),
            (
                r#" [{"id":1,"result":{}},{"method":"notifications/tools/list_changed"}]"#,
                Change::Tools,
            ),
        ] {
            assert_eq!(Change::read(message.as_bytes()), [change], "{message}");
        }
    }

    #[test]
    fn whatever_only_mentions_a_change_is_none() {
        for message in [
            r#"{"id":1,"result":{"text":"notifications/tools/list_changed"}}"#,
            r#"{"method":"notifications/message","params":{"data":"list_changed"}}"#,
            r#"{"method":"notifications/tools/list_changed""#,
            r#"["notifications/tools/list_changed",null]"#,
            r#"[["notifications/tools/list_changed",null]]"#,
            "list_changed",
        ] {
            assert_eq!(Change::read(message.as_bytes()), [], "{message}");
        }
    }
}
