//! What an agent says to an MCP server, step by step; each step is checked.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::agent::{Agent, Events};
use super::mcp::version::{LEGACY, MODERN};
use super::server::Server;
use super::story::Story;
use super::talk::{Talk, expect, status};
use super::tool::STEP;

const COUNT_TO: u64 = 3;

/// MCP 2025-11-25: a session is opened, used and ended.
pub async fn legacy(agent: &Agent, server: &Server, story: &Story) -> Result<(), String> {
    let mut talk = Talk::new(agent, server, story, false);
    initialize(&mut talk).await?;
    initialized(&mut talk).await?;
    list(&mut talk).await?;
    count(&mut talk).await?;
    stream_until_deleted(&mut talk).await
}

/// MCP 2026-07-28: every request stands alone and says in headers what it asks for.
pub async fn modern(agent: &Agent, server: &Server, story: &Story) -> Result<(), String> {
    let mut talk = Talk::new(agent, server, story, true);
    discover(&mut talk).await?;
    list(&mut talk).await?;
    count(&mut talk).await
}

async fn initialize(talk: &mut Talk<'_>) -> Result<(), String> {
    talk.story.step("initialize: open a session");
    let params = json!({
        "protocolVersion": LEGACY, "capabilities": {},
        "clientInfo": {"name": "demo-agent", "version": env!("CARGO_PKG_VERSION")},
    });
    let answer = talk.request("initialize", params).await?;
    let session = answer.headers().get("mcp-session-id");
    let session = session.and_then(|id| id.to_str().ok().map(str::to_owned));
    let result = talk.result(answer).await?;
    expect(
        "the protocol version",
        &result["protocolVersion"],
        &json!(LEGACY),
    )?;
    let session = session.ok_or("the answer names no session")?;
    let start = session.get(..8).unwrap_or(&session);
    let words = format!("MCP {LEGACY}, session {start}...");
    talk.tell("answer", words);
    talk.session = Some(session);
    Ok(())
}

async fn initialized(talk: &mut Talk<'_>) -> Result<(), String> {
    talk.story
        .step("notifications/initialized: the agent is ready");
    let message = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let answer = talk.post(&message).await?;
    status(&answer, StatusCode::ACCEPTED)?;
    talk.tell("answer", "202, nothing to say");
    Ok(())
}

async fn discover(talk: &mut Talk<'_>) -> Result<(), String> {
    talk.story.step("server/discover: who are you?");
    let answer = talk.request("server/discover", json!({})).await?;
    let result = talk.result(answer).await?;
    expect(
        "the versions",
        &result["supportedVersions"],
        &json!([MODERN]),
    )?;
    talk.tell("answer", format!("MCP {MODERN}, no session needed"));
    Ok(())
}

pub async fn list(talk: &mut Talk<'_>) -> Result<(), String> {
    talk.story.step("tools/list: what can you do?");
    let answer = talk.request("tools/list", json!({})).await?;
    let result = talk.result(answer).await?;
    let tools: Vec<_> = result["tools"].as_array().into_iter().flatten().collect();
    let names: Vec<_> = tools
        .iter()
        .filter_map(|tool| tool["name"].as_str())
        .collect();
    expect("the tools", &json!(names), &json!(["echo", "count"]))?;
    talk.tell("answer", format!("the tools {}", names.join(" and ")));
    Ok(())
}

/// Progress must come while the tool runs: a proxy that holds events back fails here.
async fn count(talk: &mut Talk<'_>) -> Result<(), String> {
    talk.story
        .step("tools/call count: count to 3, and say how far you are");
    let token = format!("progress-{}", fastrand::u32(..));
    let params = json!({
        "name": "count", "arguments": {"to": COUNT_TO}, "_meta": {"progressToken": token},
    });
    let answer = talk.request("tools/call", params).await?;
    status(&answer, StatusCode::OK)?;
    let mut events = Events::of(answer)?;
    let mut first = None;
    for number in 1..=COUNT_TO {
        let event = due(&mut events).await?;
        let progress = &event["params"];
        expect("the token", &progress["progressToken"], &json!(token))?;
        expect("the progress", &progress["progress"], &json!(number))?;
        talk.tell("event", format!("progress {number} of {COUNT_TO}"));
        first.get_or_insert_with(Instant::now);
    }
    let event = due(&mut events).await?;
    let text = &event["result"]["content"][0]["text"];
    expect("the result", text, &json!(format!("counted to {COUNT_TO}")))?;
    talk.tell("event", format!("the result: {text}"));
    let ahead = first.map_or(Duration::ZERO, |at| at.elapsed());
    if ahead < STEP {
        return Err(format!(
            "the first event came only {ahead:?} before the result"
        ));
    }
    Ok(())
}

async fn stream_until_deleted(talk: &mut Talk<'_>) -> Result<(), String> {
    talk.story
        .step("GET: listen to what the server says of its own accord");
    let answer = talk.bare(Method::GET).await?;
    status(&answer, StatusCode::OK)?;
    let mut events = Events::of(answer)?;
    let event = due(&mut events).await?;
    let method = &event["method"];
    expect("the event", method, &json!("notifications/message"))?;
    talk.tell("event", &event["params"]["data"]);

    talk.story.step("DELETE: end the session");
    let answer = talk.bare(Method::DELETE).await?;
    status(&answer, StatusCode::NO_CONTENT)?;
    talk.tell("answer", "204, the session is over");
    match events.next().await? {
        None => talk.tell("stream", "ended by the server, as it should be"),
        Some(event) => return Err(format!("the stream goes on after its session: {event}")),
    }
    Ok(())
}

async fn due(events: &mut Events) -> Result<Value, String> {
    let event = events.next().await?;
    event.ok_or_else(|| "the stream ended early".to_owned())
}
