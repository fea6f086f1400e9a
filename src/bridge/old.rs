//! Servers of the 2024-11-05 transport: one stream for all that they say, and a second address for messages.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{Method, Uri};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::answers::Call;
use super::events::{self, Events};
use super::message::{self, Incoming};
use super::problem::Problem;
use super::relay::Relay;
use super::session::{OldEndpoint, Sight};
use super::{body, head, recover};
use crate::message::is_media_type;

/// Such a server says at once where it takes messages.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where the answer to a replayed `initialize` is caught, before it reaches the client a second time.
#[derive(Default)]
pub struct Replies(Mutex<Option<oneshot::Sender<Bytes>>>);

impl Replies {
    fn expect(&self) -> oneshot::Receiver<Bytes> {
        let (sender, receiver) = oneshot::channel();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    /// Gives the message back if nobody waits for it here.
    fn catch(&self, message: Bytes) -> Option<Bytes> {
        let mut expected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if expected.is_none() || !matches!(message::read(&message), Some(Incoming::Response(_))) {
            return Some(message);
        }
        expected
            .take()
            .and_then(|sender| sender.send(message).err())
    }
}

/// Opens the server's stream and learns where it takes messages.
///
/// # Errors
/// When it is no such server.
pub async fn open(relay: &Arc<Relay>) -> Result<OldEndpoint, Problem> {
    let opening = async {
        let headers = head::for_stream(relay, &Sight::default(), None);
        let path = &relay.link.endpoint;
        let (response, _) = relay
            .link
            .send(Method::GET, path, headers, Bytes::new())
            .await?;
        if !is_media_type(response.headers().get(CONTENT_TYPE), "text/event-stream") {
            return Err(no_endpoint());
        }
        let mut events = Events::new(response.into_body());
        let event = events.next().await.ok_or_else(no_endpoint)?;
        let named = event
            .data
            .filter(|_| event.event.as_deref() == Some("endpoint"));
        let path =
            named.and_then(|data| resolve(&relay.link.endpoint, &relay.link.authority, &data));
        Ok((path.ok_or_else(no_endpoint)?, events))
    };
    let opened = tokio::time::timeout(PATIENCE, opening).await;
    let (path, events) = opened.unwrap_or_else(|_| Err(no_endpoint()))?;
    let endpoint = OldEndpoint {
        path,
        lost: CancellationToken::new(),
        replies: Arc::default(),
    };
    tokio::spawn(read(Arc::clone(relay), events, endpoint.clone()));
    Ok(endpoint)
}

async fn read(relay: Arc<Relay>, mut events: Events, endpoint: OldEndpoint) {
    let _lost = endpoint.lost.clone().drop_guard();
    loop {
        let next = tokio::select! {
            next = events.next() => next,
            () = relay.stopping.cancelled() => return,
        };
        let Some(mut event) = next else { return };
        let message = events::message(&mut event);
        if let Some(message) = message.and_then(|message| endpoint.replies.catch(message)) {
            relay.pass(message, None, false).await;
        }
    }
}

/// The answer comes on the stream, or never if that is lost.
///
/// # Errors
/// When it is.
pub async fn await_answer(
    relay: &Relay,
    call: &Call,
    endpoint: &OldEndpoint,
) -> Result<(), Problem> {
    while !relay.answers.left(call).is_empty() {
        tokio::select! {
            () = call.settled.notified() => {}
            () = endpoint.lost.cancelled() => {
                return Err(Problem::new(
                    "answer_cut",
                    "the server's stream ended before the answer; the request may or may not have been carried out",
                ));
            }
        }
    }
    Ok(())
}

/// Sends a request of the bridge's own and waits for the answer.
///
/// # Errors
/// When there is none.
pub async fn ask(
    relay: &Relay,
    endpoint: &OldEndpoint,
    request: Bytes,
    sight: &Sight,
) -> Result<Bytes, Problem> {
    let reply = endpoint.replies.expect();
    let response = recover::post(relay, request, sight).await?;
    body::discard(response.into_body()).await;
    let reply = tokio::time::timeout(PATIENCE * 5, reply).await;
    reply.ok().and_then(Result::ok).ok_or_else(no_endpoint)
}

fn no_endpoint() -> Problem {
    Problem::new(
        "no_endpoint",
        "the server names no endpoint of the 2024-11-05 transport",
    )
}

/// The path that an `endpoint` event names, seen from where the stream was opened.
///
/// `None` for another origin: messages must not be led around whoever signs them.
fn resolve(stream: &PathAndQuery, authority: &str, named: &str) -> Option<PathAndQuery> {
    let named = named.trim();
    if named.starts_with("http://") || named.starts_with("https://") {
        let uri: Uri = named.parse().ok()?;
        let is_own = uri.authority()?.as_str().eq_ignore_ascii_case(authority);
        return uri.path_and_query().filter(|_| is_own).cloned();
    }
    if named.starts_with("//") || named.is_empty() {
        return None;
    }
    if named.starts_with('/') {
        return named.parse().ok();
    }
    let folder = stream
        .path()
        .rsplit_once('/')
        .map_or("", |(folder, _)| folder);
    format!("{folder}/{named}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(named: &str) -> Option<String> {
        let stream = PathAndQuery::from_static("/old/sse");
        resolve(&stream, "localhost", named).map(|path| path.to_string())
    }

    #[test]
    fn endpoints_are_found_from_the_streams_own_address() {
        assert_eq!(resolved("/messages?s=1").as_deref(), Some("/messages?s=1"));
        assert_eq!(resolved("messages").as_deref(), Some("/old/messages"));
        assert_eq!(resolved("http://LOCALHOST/m").as_deref(), Some("/m"));
    }

    #[test]
    fn endpoints_elsewhere_are_refused() {
        assert_eq!(resolved("https://evil.example/m"), None);
        assert_eq!(resolved("//evil.example/m"), None);
        assert_eq!(resolved(""), None);
    }
}
