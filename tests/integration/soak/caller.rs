//! Agents that call tools and ask for lists, and check every answer.

use std::time::Instant;

use serde_json::{Value, json};

use super::Stage;
use super::agent::{Door, any_path, broke, refused, text};
use super::ledger::Fate;
use crate::common::{Answer, Ask, Client};

/// Requests on one connection.
const TURNS: usize = 40;

pub async fn calls(stage: &Stage, door: &Door) {
    while !stage.is_over() {
        let mut client = door.enter().await;
        for _ in 0..fastrand::usize(1..TURNS) {
            if stage.is_over() || !call(stage, &mut client).await {
                break;
            }
            stage.pause(1.0).await;
        }
    }
}

/// A call's message; `events` asks for so many of progress before the result.
pub fn message(id: u64, text: &str, delay: u64, events: Option<u64>) -> String {
    let mut arguments = json!({ "text": text, "delay": delay });
    if let Some(events) = events {
        arguments["events"] = events.into();
    }
    let params = json!({ "name": "work", "arguments": arguments });
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }).to_string()
}

/// Whether the connection may be used again.
async fn call(stage: &Stage, client: &mut Client) -> bool {
    let id = stage.ledger.open();
    let (path, text) = (any_path(), text(id));
    let events = fastrand::bool().then(|| fastrand::u64(0..4));
    let body = message(id, &text, fastrand::u64(0..100), events);
    let began = Instant::now();
    let answer = match client.try_ask(Ask::post(&format!("{path}mcp"), body)).await {
        Ok(answer) => answer,
        Err(error) => {
            broke(stage, "call", path, began, &format!("{error:?}"));
            return false;
        }
    };
    if answer.code().is_some() {
        let fate = refused(stage, "call", path, began, &answer);
        if answer.json()["id"] != id {
            stage
                .ledger
                .problem(format!("an error for another than {id}: {}", answer.text()));
        }
        stage.ledger.close(id, fate);
        return true;
    }
    let right = match events {
        None => is_result(answer.text(), id, &text),
        Some(events) => is_stream(&answer, events, id, &text),
    };
    if right {
        stage.ledger.count("call answered");
        stage.ledger.close(id, Fate::Answered);
    } else {
        stage
            .ledger
            .problem(format!("call {id}: a wrong answer: {answer:?}"));
    }
    true
}

pub fn is_result(answer: &str, id: u64, text: &str) -> bool {
    serde_json::from_str::<Value>(answer)
        .is_ok_and(|answer| answer["id"] == id && answer["result"]["text"] == text)
}

fn is_stream(answer: &Answer, steps: u64, id: u64, text: &str) -> bool {
    let data: Vec<_> = answer
        .text()
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .collect();
    let Some((result, progress)) = data.split_last() else {
        return false;
    };
    let expected: Vec<_> = (0..steps)
        .map(|step| format!("{{\"step\":{step}}}"))
        .collect();
    progress == expected && is_result(result, id, text)
}

/// Lists only read, so they may be done twice; their answers must be right all the same.
pub async fn lists(stage: &Stage, door: &Door) {
    let mut id = 0;
    while !stage.is_over() {
        let mut client = door.enter().await;
        for _ in 0..fastrand::usize(1..TURNS) {
            id += 1;
            if stage.is_over() || !list(stage, &mut client, id).await {
                break;
            }
            stage.pause(1.0).await;
        }
    }
}

async fn list(stage: &Stage, client: &mut Client, id: u64) -> bool {
    let (path, cursor) = (any_path(), text(id));
    let params = json!({ "cursor": cursor });
    let body = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/list", "params": params });
    let began = Instant::now();
    let ask = Ask::post(&format!("{path}mcp"), body.to_string());
    match client.try_ask(ask).await {
        Err(error) => {
            broke(stage, "list", path, began, &format!("{error:?}"));
            return false;
        }
        Ok(answer) if answer.code().is_some() => {
            refused(stage, "list", path, began, &answer);
        }
        Ok(answer) if is_result(answer.text(), id, &cursor) => stage.ledger.count("list answered"),
        Ok(answer) => stage
            .ledger
            .problem(format!("list {id}: a wrong answer: {answer:?}")),
    }
    true
}
