//! Servers of the 2024-11-05 transport: one stream for all that they say, and a second address for messages.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::CONTENT_TYPE;
use tokio_util::sync::CancellationToken;

use super::answers::Call;
use super::endpoint::{self, OldEndpoint};
use super::events::{self, Events};
use super::head;
use super::problem::Problem;
use super::relay::Relay;
use super::session::Sight;
use crate::message::is_media_type;

/// Such a server says at once where it takes messages.
const PATIENCE: Duration = Duration::from_secs(3);

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
        let path = named
            .and_then(|data| endpoint::resolve(&relay.link.endpoint, &relay.link.authority, &data));
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

pub fn no_endpoint() -> Problem {
    Problem::new(
        "no_endpoint",
        "the server names no endpoint of the 2024-11-05 transport",
    )
}
