//! The event stream that answers a POST: read to the answer, resumed where it is cut.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use tokio::time::Instant;

use super::answers::Call;
use super::events::{self, Events};
use super::head;
use super::problem::Problem;
use super::relay::Relay;
use super::session::Sight;
use crate::backoff::Backoff;
use crate::client::Body;
use crate::message::is_media_type;

/// After the answer a server ends its stream; one that does not is left.
const LINGER: Duration = Duration::from_millis(500);

/// A stream that lived this long was no failure, though it had nothing to say.
const LONG_ENOUGH: Duration = Duration::from_secs(30);

/// Attempts to resume that fail in a row.
const MAX_FAILURES: u32 = 5;

pub struct Followed<'a> {
    pub relay: &'a Relay,
    pub call: &'a Call,
    pub sight: &'a Sight,
    /// Since 2026-07-28 no stream is.
    pub is_resumable: bool,
}

/// Where a stream stands: what it takes to go on elsewhere.
pub struct Place {
    pub last_id: Option<String>,
    pub backoff: Backoff,
    opened: Instant,
    /// Something came on the present stream.
    has_news: bool,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            last_id: None,
            backoff: Backoff::default(),
            opened: Instant::now(),
            has_news: false,
        }
    }
}

impl Place {
    /// A stream is open.
    pub fn opened(&mut self) {
        self.opened = Instant::now();
        self.has_news = false;
    }

    /// The pause after a stream's end. One that ends at once and says nothing is a failure, or
    /// a server that accepts every attempt would be asked for ever.
    pub fn ended(&mut self) -> Duration {
        if self.has_news || self.opened.elapsed() > LONG_ENOUGH {
            self.backoff.reset();
            self.backoff.pause()
        } else {
            self.backoff.next(fastrand::f64())
        }
    }

    pub fn note(&mut self, event: &mut sse_stream::Sse) {
        self.has_news = true;
        // An empty id takes the last one back (WHATWG HTML, section 9.2.6).
        if let Some(id) = event.id.take() {
            self.last_id = (!id.is_empty()).then_some(id);
        }
        if let Some(retry) = event.retry {
            self.backoff.ask(retry);
        }
    }
}

/// Passes on every message until all of the call's requests are answered.
///
/// # Errors
/// When the stream ends before, and cannot be resumed.
pub async fn to_the_answer(followed: &Followed<'_>, body: Body) -> Result<(), Problem> {
    let mut place = Place::default();
    let mut events = Events::new(body);
    while !read(followed, &mut events, &mut place).await {
        drop(events);
        events = resume(followed, &mut place).await?;
    }
    Ok(())
}

/// Reads a stream to its end; whether everything has been answered.
async fn read(followed: &Followed<'_>, events: &mut Events, place: &mut Place) -> bool {
    let Followed { relay, call, .. } = followed;
    loop {
        let answered = relay.answers.left(call).is_empty();
        let next = if answered {
            tokio::time::timeout(LINGER, events.next())
                .await
                .ok()
                .flatten()
        } else {
            events.next().await
        };
        let Some(mut event) = next else {
            return answered;
        };
        place.note(&mut event);
        if let Some(message) = events::message(&mut event) {
            relay.pass(message, Some(call), false).await;
        }
    }
}

/// Opens the stream again after the last event that came.
async fn resume(followed: &Followed<'_>, place: &mut Place) -> Result<Events, Problem> {
    let Followed { relay, sight, .. } = followed;
    let cut = || {
        Problem::new(
            "answer_cut",
            "the server's stream ended before the answer; the request may or may not have been carried out",
        )
    };
    let last_id = place
        .last_id
        .clone()
        .filter(|_| followed.is_resumable)
        .ok_or_else(cut)?;
    let mut pause = place.ended();
    while place.backoff.failures() < MAX_FAILURES {
        tokio::time::sleep(pause).await;
        let headers = head::for_stream(relay, sight, Some(&last_id));
        let path = &relay.link.endpoint;
        let sent = relay
            .link
            .send(Method::GET, path, headers, bytes::Bytes::new())
            .await;
        if let Ok((response, _)) = sent {
            let is_stream =
                is_media_type(response.headers().get(CONTENT_TYPE), "text/event-stream");
            match response.status() {
                StatusCode::OK if is_stream => {
                    place.opened();
                    return Ok(Events::new(response.into_body()));
                }
                status if status.is_server_error() => {}
                _ => return Err(cut()),
            }
        }
        pause = place.backoff.next(fastrand::f64());
    }
    Err(cut())
}
