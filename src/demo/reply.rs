//! The demo server's answers: words, JSON, or a stream of events.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::Value;

pub type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

pub fn text(status: StatusCode, words: &'static str) -> Reply {
    reply(
        status,
        "text/plain; charset=utf-8",
        Full::from(words).boxed_unsync(),
    )
}

/// Ends with a newline, for whoever reads it on a terminal.
pub fn json(status: StatusCode, body: &Value) -> Reply {
    let body = Full::from(format!("{body}\n")).boxed_unsync();
    reply(status, "application/json", body)
}

pub fn event(message: &Value) -> Bytes {
    format!("event: message\ndata: {message}\n\n").into()
}

pub fn events(events: impl Stream<Item = Bytes> + Send + 'static) -> Reply {
    let frames = events.map(|event| Ok::<_, Infallible>(Frame::data(event)));
    let body = StreamBody::new(frames).boxed_unsync();
    reply(StatusCode::OK, "text/event-stream", body)
}

fn reply(status: StatusCode, kind: &'static str, body: UnsyncBoxBody<Bytes, Infallible>) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    reply.headers_mut().insert(header::CONTENT_TYPE, kind);
    reply
}
