//! Why a request gets no answer from a server: one sentence, as a JSON-RPC error of our own.

use serde_json::json;

use super::message::Id;

/// JSON-RPC's code for errors that a server defines; ours is in `data.code`.
const SERVER_ERROR: i32 = -32000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// For programs; never changes.
    pub code: &'static str,
    /// What happened and what to do next.
    pub message: String,
    rpc_code: i32,
}

impl Problem {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            rpc_code: SERVER_ERROR,
        }
    }

    /// With one of JSON-RPC's own codes.
    pub fn of_json_rpc(rpc_code: i32, message: impl Into<String>) -> Self {
        Self {
            rpc_code,
            ..Self::new("bad_request", message)
        }
    }

    /// The answer to one request; `None` where its id is not known.
    pub fn answer(&self, id: Option<&str>) -> String {
        let error = json!({
            "code": self.rpc_code,
            "message": self.message,
            "data": { "code": self.code },
        });
        let id = id.unwrap_or("null");
        format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
    }

    /// The answer to what is left of a batch.
    pub fn answers(&self, ids: &[Id]) -> String {
        let answers: Vec<_> = ids.iter().map(|id| self.answer(Some(id))).collect();
        format!("[{}]", answers.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_id_as_the_client_wrote_it() {
        let problem = Problem::new("no_daemon", "start \"it\"");
        let answer = problem.answer(Some("9223372036854775808"));
        assert!(
            answer.starts_with(r#"{"jsonrpc":"2.0","id":9223372036854775808,"#),
            "{answer}"
        );
        let value: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(value["error"]["code"], -32000);
        assert_eq!(value["error"]["data"]["code"], "no_daemon");
    }
}
