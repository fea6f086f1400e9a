//! Getting back what a server forgot: a session that is gone, a listing that was never seen.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Response};
use serde_json::value::RawValue;
use slog::warn;

use super::answers;
use super::endpoint::OldEndpoint;
use super::events::{self, Events};
use super::message::{self, Incoming, Kind, Message};
use super::problem::Problem;
use super::relay::Relay;
use super::session::Sight;
use super::{body, head, old};
use crate::client::Body;
use crate::message::is_media_type;

/// Requests at a time that give a new session what the old one had.
const RESTORING: usize = 8;

/// How long a server may take for what the bridge asks of its own: everybody else waits for it.
const PATIENCE: Duration = Duration::from_secs(15);

/// Pages of a listing that are read for one call's sake.
const MAX_PAGES: usize = 20;

/// Opens the session again, once for all who found generation `lost` gone.
///
/// # Errors
/// Why it is not open; those who waited for the same attempt get the same.
pub async fn session(relay: &Arc<Relay>, lost: u64) -> Result<(), Problem> {
    let attempts = relay.session.attempts();
    let _turn = relay.session.reopening.lock().await;
    if let Some(outcome) = relay.session.outcome_since(lost, attempts) {
        return outcome;
    }
    let outcome = reopen(relay).await;
    let result = outcome.as_ref().map(|_| ()).map_err(Clone::clone);
    relay.session.reopened(outcome);
    if result.is_ok() {
        warn!(
            relay.log,
            "the server forgot the session; a new one is open"
        );
    }
    result
}

async fn reopen(relay: &Arc<Relay>) -> Result<Sight, Problem> {
    let before = relay.session.sight();
    let (Some(initialize), initialized) = relay.session.captured() else {
        return Err(lost("the client has not opened one itself"));
    };
    let mut sight = Sight::default();
    if before.old.is_some() {
        sight.old = Some(old::open(relay).await?);
    }
    let answer = in_time(replay(relay, initialize, &mut sight)).await?;
    if let Some((_, words)) = message::error_of(&answer) {
        return Err(lost(&format!("the server says: {words}")));
    }
    sight.version = answers::negotiated_version(&answer)
        .and_then(|version| HeaderValue::try_from(version).ok());
    if sight.version != before.version {
        // The client would go on in a language that the server no longer speaks.
        return Err(lost("the server now speaks another protocol version"));
    }
    if let Some(initialized) = initialized {
        let response = in_time(post(relay, initialized, &sight)).await?;
        body::discard(response.into_body()).await;
    }
    let wishes = relay.session.wishes().all();
    // On the old transport an answer is told from the next by its turn alone.
    let at_once = if sight.old.is_some() { 1 } else { RESTORING };
    let restoring = stream::iter(wishes).for_each_concurrent(at_once, |wish| {
        let sight = &sight;
        async move { restore(relay, wish, sight).await }
    });
    if tokio::time::timeout(PATIENCE, restoring).await.is_err() {
        warn!(
            relay.log,
            "the new session lacks subscriptions or the log level of the old: the server takes too long"
        );
    }
    Ok(sight)
}

async fn in_time<T>(asking: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let asked = tokio::time::timeout(PATIENCE, asking).await;
    asked.unwrap_or_else(|_| Err(lost("the server does not answer within 15 seconds")))
}

/// Asks the new session for what the client had asked of the old one. The client has had the answer.
async fn restore(relay: &Relay, wish: Bytes, sight: &Sight) {
    let asking = async {
        if let Some(old) = &sight.old {
            return ask_old(relay, old, wish, sight).await;
        }
        answer_in(post(relay, wish, sight).await?).await
    };
    let refused = match asking.await {
        Ok(answer) => message::error_of(&answer).map(|(_, words)| words),
        Err(problem) => Some(problem.message),
    };
    if let Some(words) = refused {
        warn!(
            relay.log,
            "the new session lacks a subscription or the log level of the old: {}", words
        );
    }
}

/// Sends the client's own `initialize` again and keeps the answer, which the client has had.
async fn replay(relay: &Relay, initialize: Bytes, sight: &mut Sight) -> Result<Bytes, Problem> {
    if let Some(old) = sight.old.clone() {
        return ask_old(relay, &old, initialize, sight).await;
    }
    let response = post(relay, initialize, sight).await?;
    sight.id = response.headers().get(head::SESSION_ID).cloned();
    answer_in(response).await
}

/// Asks a server of the 2024-11-05 transport, and waits for the answer on its stream.
async fn ask_old(
    relay: &Relay,
    endpoint: &OldEndpoint,
    request: Bytes,
    sight: &Sight,
) -> Result<Bytes, Problem> {
    let reply = endpoint.replies.expect();
    let response = post(relay, request, sight).await?;
    body::discard(response.into_body()).await;
    let reply = tokio::time::timeout(PATIENCE, reply).await;
    reply.ok().and_then(Result::ok).ok_or_else(old::no_endpoint)
}

/// Sends a message of the client's once more.
async fn post(relay: &Relay, bytes: Bytes, sight: &Sight) -> Result<Response<Body>, Problem> {
    let message = Message::parse(bytes).map_err(|unreadable| lost(unreadable.1))?;
    let headers = head::for_message(relay, &message, sight);
    let path = sight
        .old
        .as_ref()
        .map_or(&relay.link.endpoint, |old| &old.path);
    let (response, _) = relay
        .link
        .send(Method::POST, path, headers, message.bytes)
        .await?;
    if !response.status().is_success() {
        return Err(lost(&format!("the server answers {}", response.status())));
    }
    Ok(response)
}

async fn answer_in(response: Response<Body>) -> Result<Bytes, Problem> {
    if !is_media_type(response.headers().get(CONTENT_TYPE), "text/event-stream") {
        return body::collect(response.into_body()).await;
    }
    let mut events = Events::new(response.into_body());
    while let Some(mut event) = events.next().await {
        if let Some(message) = events::message(&mut event)
            && matches!(message::read(&message), Some(Incoming::Response(_)))
        {
            return Ok(message);
        }
    }
    Err(lost("the server's stream ended before its answer"))
}

fn lost(why: &str) -> Problem {
    Problem::new(
        "session_lost",
        format!(
            "the server forgot the session and a new one could not be opened: {why}; restart the MCP client"
        ),
    )
}

/// Learns which arguments of a tool are mirrored, for a call that was refused for want of them.
/// Whether it is worth another attempt.
pub async fn listing(relay: &Relay, message: &Message) -> bool {
    let Kind::Request(request) = &message.kind else {
        return false;
    };
    let (Some(name), "tools/call") = (&request.name, &*request.method) else {
        return false;
    };
    let arguments = message.arguments().unwrap_or("{}");
    let headers = || relay.catalog().headers(name, arguments);
    let before = headers();
    let mut cursor = None;
    for _ in 0..MAX_PAGES {
        cursor = match in_time(page(relay, message, cursor.as_deref())).await {
            Ok(next) => next,
            Err(_) => return false,
        };
        if cursor.is_none() || headers() != before {
            break;
        }
    }
    headers() != before
}

async fn page(
    relay: &Relay,
    message: &Message,
    cursor: Option<&str>,
) -> Result<Option<String>, Problem> {
    let meta = message
        .meta()
        .and_then(|meta| serde_json::from_str::<Box<RawValue>>(meta).ok());
    let request = serde_json::json!({
        "jsonrpc": "2.0",
        "id": "mcp-auth-proxy-listing",
        "method": "tools/list",
        "params": { "_meta": meta, "cursor": cursor },
    });
    let mut request = request;
    if cursor.is_none()
        && let Some(params) = request["params"].as_object_mut()
    {
        params.remove("cursor");
    }
    let response = post(relay, request.to_string().into(), &Sight::default()).await?;
    let answer = answer_in(response).await?;
    let learned = relay.catalog().learn(&answer);
    Ok(learned.next_cursor)
}
