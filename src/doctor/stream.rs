//! Streams of events, measured: whether something in between holds them back.

use std::time::{Duration, Instant};

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use serde_json::json;
use tokio::time::timeout;

use super::ask::{Answer, Peer, Trouble};
use super::era::{self, Session};
use super::{Code, Finding};
use crate::sse;

/// A server has something to say at once, or nothing for long.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a stream that need not say anything is listened to.
const LISTEN: Duration = Duration::from_secs(1);

/// 2026-07-28: a subscription is acknowledged at once by an event of a stream that goes on.
pub async fn modern(peer: &Peer<'_>, path: &PathAndQuery) -> Option<Finding> {
    let params = json!({"notifications": {"toolsListChanged": true}});
    let asked = Instant::now();
    let opening = era::modern(peer, path, "subscriptions/listen", params);
    let answer = match timeout(PATIENCE, opening).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(Trouble::Failed(_) | Trouble::NoCredential(_))) => return None,
        Ok(Err(Trouble::Late(_))) | Err(_) => return Some(held_back("the head of a stream")),
    };
    if !answer.is("text/event-stream") {
        return Some(none("it answers subscriptions/listen without a stream"));
    }
    if let Some(finding) = suspicious(&answer.headers) {
        return Some(finding);
    }
    Some(match first_event(answer, PATIENCE).await {
        Some(at) => arrived(at.duration_since(asked)),
        None => held_back("the acknowledgement of a subscription"),
    })
}

/// Before that: a stream that is the server's to use.
pub async fn legacy(peer: &Peer<'_>, path: &PathAndQuery, session: &Session) -> Option<Finding> {
    let headers = session.headers();
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    peer.post(path, &headers, &ready).await.ok()?;
    let asked = Instant::now();
    let answer = match peer.bare(Method::GET, path, &headers, PATIENCE).await {
        Ok(answer) => answer,
        Err(Trouble::Failed(_) | Trouble::NoCredential(_)) => return None,
        Err(Trouble::Late(_)) => return Some(held_back("the head of a stream")),
    };
    if !answer.status.is_success() || !answer.is("text/event-stream") {
        return Some(none(&format!("it answers GET with {}", answer.status)));
    }
    if let Some(finding) = suspicious(&answer.headers) {
        return Some(finding);
    }
    let head = answer.took;
    Some(match first_event(answer, LISTEN).await {
        Some(at) => arrived(at.duration_since(asked)),
        None => Finding::new(
            Code::StreamOk,
            format!(
                "a stream opens in {} ms; nothing was said in it within {LISTEN:?}",
                head.as_millis()
            ),
        ),
    })
}

/// When the first event or comment came.
async fn first_event(mut answer: Answer, patience: Duration) -> Option<Instant> {
    let listening = async {
        let mut splitter = sse::Splitter::default();
        while let Some(Ok(frame)) = answer.body.frame().await {
            if let Some(data) = frame.data_ref() {
                splitter.push(data);
            }
            if splitter.next_event().is_some() {
                return Some(Instant::now());
            }
        }
        None
    };
    timeout(patience, listening).await.ok().flatten()
}

/// A stream whose length is known, or that is compressed, was collected by somebody first.
fn suspicious(headers: &HeaderMap) -> Option<Finding> {
    let how = if headers.contains_key(CONTENT_LENGTH) {
        "comes with a Content-Length: it was collected whole before it was sent"
    } else if headers.contains_key(CONTENT_ENCODING) {
        "is compressed, though nobody asked for that: events wait for each other"
    } else {
        return None;
    };
    Some(buffered(format!("a stream of events {how}")))
}

fn arrived(after: Duration) -> Finding {
    let message = format!(
        "an event came after {} ms, and the stream goes on",
        after.as_millis()
    );
    Finding::new(Code::StreamOk, message)
}

fn held_back(what: &str) -> Finding {
    buffered(format!(
        "{what} did not come within {PATIENCE:?}: something in between holds it back"
    ))
}

fn buffered(message: String) -> Finding {
    Finding::new(Code::StreamBuffered, message)
        .next("switch buffering off in what stands before the server (nginx: proxy_buffering off, gzip off for text/event-stream)")
}

fn none(why: &str) -> Finding {
    let message = format!("the server has no stream for what it says of its own accord: {why}");
    Finding::new(Code::NoStream, message)
        .next("nothing, unless clients wait for notifications; sse_fallback = \"auto\" keeps old ones content")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_was_collected_first_is_known_by_its_head() {
        let with = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            suspicious(&headers).map(|finding| finding.code)
        };
        assert_eq!(with("content-length", "10"), Some(Code::StreamBuffered));
        assert_eq!(with("content-encoding", "gzip"), Some(Code::StreamBuffered));
        assert_eq!(with("x-accel-buffering", "no"), None);
    }
}
