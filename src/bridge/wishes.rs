//! What the client has asked of its session for good: a log level, subscriptions. A new session is asked for the same.

use bytes::Bytes;

use super::message::{Kind, Message};

/// Subscriptions beyond these bounds are not remembered; the client keeps them in the session that has them.
const MAX_SUBSCRIPTIONS: usize = 1024;
const MAX_LENGTH: usize = 4096;

#[derive(Default)]
pub struct Wishes {
    level: Option<Bytes>,
    subscriptions: Vec<(Box<str>, Bytes)>,
}

impl Wishes {
    /// Takes note of a request that outlives its answer. One that the server refuses it will refuse again.
    pub fn note(&mut self, message: &Message) {
        let Kind::Request(request) = &message.kind else {
            return;
        };
        let fits = message.bytes.len() <= MAX_LENGTH;
        match &*request.method {
            "logging/setLevel" if fits => self.level = Some(message.bytes.clone()),
            "resources/subscribe" | "resources/unsubscribe" => {
                let Some(uri) = message.uri() else { return };
                self.subscriptions.retain(|(known, _)| *known != uri);
                let is_wanted = &*request.method == "resources/subscribe";
                if is_wanted && fits && self.subscriptions.len() < MAX_SUBSCRIPTIONS {
                    self.subscriptions.push((uri, message.bytes.clone()));
                }
            }
            _ => {}
        }
    }

    /// The client's own requests, the last of each kind.
    pub fn all(&self) -> Vec<Bytes> {
        let subscriptions = self.subscriptions.iter().map(|(_, bytes)| bytes);
        self.level.iter().chain(subscriptions).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(messages: &[(&str, &str)]) -> Vec<String> {
        let mut wishes = Wishes::default();
        for (id, (method, params)) in messages.iter().enumerate() {
            let text =
                format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
            wishes.note(&Message::parse(text.into()).unwrap());
        }
        let ids = wishes.all().into_iter().map(|bytes| {
            let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            value["id"].to_string()
        });
        ids.collect()
    }

    #[test]
    fn the_last_level_and_what_is_still_subscribed_to_are_kept() {
        let kept = noted(&[
            ("resources/subscribe", r#"{"uri":"a"}"#),
            ("logging/setLevel", r#"{"level":"info"}"#),
            ("resources/subscribe", r#"{"uri":"b"}"#),
            ("logging/setLevel", r#"{"level":"debug"}"#),
            ("resources/unsubscribe", r#"{"uri":"a"}"#),
            ("resources/subscribe", r#"{"uri":"b"}"#),
            ("tools/list", "{}"),
        ]);
        assert_eq!(kept, ["3", "5"]);
    }

    #[test]
    fn no_client_makes_them_grow_without_end() {
        let many: Vec<_> = (0..MAX_SUBSCRIPTIONS + 9)
            .map(|number| format!(r#"{{"uri":"{number}"}}"#))
            .collect();
        let many: Vec<_> = many
            .iter()
            .map(|params| ("resources/subscribe", &**params))
            .collect();
        assert_eq!(noted(&many).len(), MAX_SUBSCRIPTIONS);
        let long = format!(r#"{{"uri":"{}"}}"#, "x".repeat(MAX_LENGTH));
        assert!(noted(&[("resources/subscribe", &long)]).is_empty());
    }
}
