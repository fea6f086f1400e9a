//! What an upstream's tools say of themselves: which may be called twice without harm.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;

use crate::json::{self, Object};

/// More tools than this are not remembered; one that is not is never called again.
const MAX_TOOLS: usize = 4096;
const MAX_NAME: usize = 256;

#[derive(Default)]
pub struct Annotations {
    /// Whether a tool may be called again; what is not here may not.
    tools: Mutex<HashMap<Box<str>, bool>>,
}

#[derive(Deserialize)]
struct Answer {
    result: Option<Object<Listing>>,
}

#[derive(Deserialize)]
struct Listing {
    #[serde(default)]
    tools: Vec<Object<Tool>>,
}

#[derive(Deserialize)]
struct Tool {
    name: String,
    annotations: Option<Object<Hints>>,
}

/// `ToolAnnotations` of the specification (since 2025-03-26): both are false where they are not given.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Hints {
    read_only_hint: bool,
    idempotent_hint: bool,
}

impl Annotations {
    /// Takes what the answers to `tools/list` in `message`, one or a batch, say; the latest word counts.
    pub fn learn(&self, message: &[u8]) {
        let answers: Vec<Answer> = json::objects(message).unwrap_or_default();
        let mut known = self.lock();
        for tool in answers
            .into_iter()
            .filter_map(|answer| answer.result)
            .flat_map(|Object(listing)| listing.tools)
        {
            let Object(tool) = tool;
            let Object(hints) = tool.annotations.unwrap_or_default();
            let is_safe = hints.read_only_hint || hints.idempotent_hint;
            if let Some(known) = known.get_mut(tool.name.as_str()) {
                *known = is_safe;
            } else if is_safe && known.len() < MAX_TOOLS && tool.name.len() <= MAX_NAME {
                known.insert(tool.name.into(), true);
            }
        }
    }

    /// Whether calling it twice does what calling it once does.
    pub fn is_safe(&self, tool: &str) -> bool {
        self.lock().get(tool).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, bool>> {
        self.tools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(tools: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{tools}],"nextCursor":"c"}}}}"#)
    }

    #[test]
    fn a_tool_is_safe_only_if_it_says_so() {
        let known = Annotations::default();
        known.learn(
            listing(
                r#"{"name":"look","annotations":{"readOnlyHint":true,"title":"x"}},
                   {"name":"set","annotations":{"readOnlyHint":false,"idempotentHint":true}},
                   {"name":"act","annotations":{"destructiveHint":false}},
                   {"name":"mute"}"#,
            )
            .as_bytes(),
        );
        let safe = |tool| known.is_safe(tool);
        assert_eq!(
            ["look", "set", "act", "mute", "unheard-of"].map(safe),
            [true, true, false, false, false]
        );
    }

    #[test]
    fn the_latest_word_counts_and_nonsense_is_none() {
        let known = Annotations::default();
        let look = r#"{"name":"look","annotations":{"readOnlyHint":true}}"#;
        known.learn(format!("[{}]", listing(look)).as_bytes());
        for nonsense in [
            "",
            "[7]",
            r#"{"result":{"tools":7}}"#,
            r#"{"error":{}}"#,
            r#"[[[[{"name":"act","annotations":{"readOnlyHint":true}}]]]]"#,
            r#"{"result":{"tools":[["act",{"readOnlyHint":true}]]}}"#,
            r#"{"result":{"tools":[{"name":"act","annotations":[true,true]}]}}"#,
        ] {
            known.learn(nonsense.as_bytes());
            assert!(known.is_safe("look"));
            assert!(!known.is_safe("act"), "{nonsense}");
        }
        known.learn(listing(r#"{"name":"look"}"#).as_bytes());
        assert!(!known.is_safe("look"));
    }

    #[test]
    fn tools_without_number_do_not_fill_the_memory() {
        let known = Annotations::default();
        for i in 0..2 * MAX_TOOLS {
            let tool = format!(r#"{{"name":"{i}","annotations":{{"readOnlyHint":true}}}}"#);
            known.learn(listing(&tool).as_bytes());
        }
        assert_eq!(known.lock().len(), MAX_TOOLS);
    }
}
