//! The stream of the server's own messages (GET, up to 2025-11-25), held open as long as there is a session.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use slog::debug;

use super::events::{self, Events};
use super::follow::Place;
use super::refusal::Refusal;
use super::relay::Relay;
use super::session::Sight;
use super::{head, recover};
use crate::message::is_media_type;

/// How a stream came to its end.
enum End {
    /// The server has none: not to be asked again in this session.
    NotOffered,
    SessionGone,
    /// It was there, and is to be opened again.
    Ended,
    Failed,
}

/// Holds it open from now on, however often it is asked for.
pub fn start(relay: &Arc<Relay>) {
    if !relay.is_listening.swap(true, Ordering::AcqRel) {
        tokio::spawn(hold(Arc::clone(relay)));
    }
}

async fn hold(relay: Arc<Relay>) {
    let mut place = Place::default();
    let mut generation = 0;
    loop {
        let sight = relay.session.sight();
        if sight.generation != generation {
            generation = sight.generation;
            place = Place::default();
        }
        let pause = tokio::select! {
            () = relay.stopping.cancelled() => return,
            () = relay.session.changed(generation) => continue,
            pause = once(&relay, &sight, &mut place) => pause,
        };
        tokio::select! {
            () = relay.stopping.cancelled() => return,
            () = relay.session.changed(generation) => {}
            () = wait(pause) => {}
        }
    }
}

async fn wait(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

/// One stream from its opening to its end; the pause before the next, if there is to be one.
async fn once(relay: &Arc<Relay>, sight: &Sight, place: &mut Place) -> Option<Duration> {
    if sight.old.is_some() {
        return None;
    }
    match listen(relay, sight, place).await {
        End::NotOffered => None,
        End::Ended => Some(place.ended().mul_f64(1.0 + fastrand::f64() / 4.0)),
        End::Failed => Some(place.backoff.next(fastrand::f64())),
        End::SessionGone => match recover::session(relay, sight.generation).await {
            Ok(()) => Some(Duration::ZERO),
            Err(problem) => {
                debug!(
                    relay.log,
                    "the session could not be opened again: {}", problem.message
                );
                Some(place.backoff.next(fastrand::f64()))
            }
        },
    }
}

async fn listen(relay: &Relay, sight: &Sight, place: &mut Place) -> End {
    let headers = head::for_stream(relay, sight, place.last_id.as_deref());
    let path = &relay.link.endpoint;
    let Ok(answered) = relay
        .link
        .send(Method::GET, path, headers, Bytes::new())
        .await
    else {
        return End::Failed;
    };
    let response = &answered.0;
    let is_stream = is_media_type(response.headers().get(CONTENT_TYPE), "text/event-stream");
    if response.status() != StatusCode::OK || !is_stream {
        return refused(sight, response.status(), Refusal::read(answered).await);
    }
    place.opened();
    let mut events = Events::new(answered.0.into_body());
    while let Some(mut event) = events.next().await {
        place.note(&mut event);
        if let Some(message) = events::message(&mut event) {
            relay.pass(message, None, false).await;
        }
    }
    End::Ended
}

fn refused(sight: &Sight, status: StatusCode, refusal: Refusal) -> End {
    match status {
        _ if sight.id.is_some() && refusal.says_session_is_gone() => End::SessionGone,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => End::Failed,
        StatusCode::NOT_IMPLEMENTED => End::NotOffered,
        status if status.is_server_error() => End::Failed,
        // 405 says so plainly; what other refusals mean for a GET they will mean again.
        _ => End::NotOffered,
    }
}
