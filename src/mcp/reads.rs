//! Which JSON-RPC messages may be sent twice without anything happening twice.

use super::strict::{self, Message};

/// Requests that only read, by every revision of the specification that has them.
///
/// Left out on purpose: `initialize` makes a session, `logging/setLevel`, `resources/subscribe` and
/// its opposite change one, `tasks/cancel` and `tasks/update` change a task, and
/// `subscriptions/listen` is a stream whose client opens it again.
const READS: [&str; 12] = [
    "completion/complete",
    "ping",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/templates/list",
    "server/discover",
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tools/list",
];

/// Whether every message in `body`, one or a batch, only reads.
///
/// `is_safe_tool` says it of a tool that is called. What could be understood in two ways may do
/// anything.
pub fn only_reads(body: &[u8], is_safe_tool: impl Fn(&str) -> bool) -> bool {
    let reads = |message: &Message<'_>| match message.method.as_deref() {
        Some("tools/call") => message.name.as_deref().is_some_and(&is_safe_tool),
        Some(method) => READS.contains(&method),
        None => false,
    };
    strict::read(body).is_ok_and(|messages| !messages.is_empty() && messages.iter().all(reads))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(body: &str) -> bool {
        only_reads(body.as_bytes(), |tool| tool == "look")
    }

    #[test]
    fn lists_and_looks_only_read() {
        assert!(READS.is_sorted());
        for method in READS {
            let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"}}"#);
            assert!(reads(&body), "{method}");
        }
    }

    #[test]
    fn whatever_may_act_or_is_not_understood_does_not() {
        for body in [
            r#"{"id":1,"method":"initialize"}"#,
            r#"{"id":1,"method":"logging/setLevel"}"#,
            r#"{"id":1,"method":"tools/call","params":{"name":"act"}}"#,
            r#"{"id":1,"method":"tools/call","params":["look"]}"#,
            r#"{"id":1,"method":"tools/call"}"#,
            r#"{"id":1,"method":"tools/call","method":"ping"}"#,
            r#"{"id":1,"method":"ping","Method":"tools/call"}"#,
            r#"{"method":"notifications/initialized"}"#,
            r#"{"id":1,"result":{}}"#,
            "[]",
            "",
            "ping",
        ] {
            assert!(!reads(body), "{body}");
        }
    }

    #[test]
    fn a_tool_that_only_looks_may_be_called_again() {
        assert!(reads(
            r#"{"id":1,"method":"tools/call","params":{"name":"look"}}"#
        ));
    }

    #[test]
    fn a_batch_is_as_safe_as_its_least_safe_member() {
        assert!(reads(
            r#" [{"id":1,"method":"ping"},{"id":2,"method":"tools/list"}]"#
        ));
        assert!(!reads(
            r#"[{"id":1,"method":"ping"},{"id":2,"method":"tools/call","params":{"name":"act"}}]"#
        ));
        assert!(!reads(
            r#"[{"id":1,"method":"ping"},{"method":"notifications/x"}]"#
        ));
    }
}
