//! HTTP/1.1 towards a client: one request after the other, each answered before the next is read.
//!
//! Our own, as towards the upstream, because it is the hot path: the connection's task reads
//! heads, runs the handler and writes its answers; between requests, and behind a silent stream,
//! a connection holds no buffer.

pub(crate) mod line;
pub(crate) mod request;
mod response;

use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::task::Poll;

use http::{Request, Response, StatusCode};

use self::line::Line;
use self::request::{Head, Refused};
use self::response::{Asked, Outgoing};
use super::connection::Handler;
use super::stream::{self, Stream};
use super::tracked::RequestGuard;
use crate::message::is_media_type;

/// Why a connection ended otherwise than between two requests.
#[derive(Debug)]
pub enum Broken {
    /// The client went in the middle of something.
    Left,
    Io(io::Error),
    /// What came is no request; the client was told.
    Refused(Refused),
    /// The handler's body broke off.
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// The handler's body had another length than its head.
    Length,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Left => f.write_str("the client closed it in the middle of something"),
            Self::Io(error) => write!(f, "{error}"),
            Self::Refused(Refused::Malformed(fault)) => f.write_str(fault),
            Self::Refused(Refused::TooLarge) => {
                f.write_str("its head is larger than 64 KiB or 100 lines")
            }
            Self::Body(error) => write!(f, "its answer broke off: {error}"),
            Self::Length => f.write_str("its answer had another length than announced"),
        }
    }
}

/// Serves a connection until either side ends it.
///
/// # Errors
/// See [`Broken`].
pub async fn serve<H: Handler>(line: Arc<Line>, handler: Arc<H>) -> Result<(), Broken> {
    let served = requests(&line, &handler).await;
    let Some(mut stream) = line.take_stream() else {
        return served.map(|_| ());
    };
    let lingers = match &served {
        Ok(lingers) => *lingers,
        Err(Broken::Refused(refused)) => {
            refuse(&mut stream, *refused).await;
            true
        }
        // The client must not take what it got for all there is: no orderly end.
        Err(_) => return served.map(|_| ()),
    };
    stream::end(stream, lingers).await;
    served.map(|_| ())
}

/// Serves its requests; says whether the client may still be sending at the end.
async fn requests<H: Handler>(line: &Arc<Line>, handler: &Arc<H>) -> Result<bool, Broken> {
    while let Some(head) = poll_fn(|cx| line.poll_head(cx)).await? {
        if !exchange(line, handler, head).await? {
            return Ok(line.connection.activity.is_lingering() || line.has_unread());
        }
    }
    Ok(false)
}

/// One request and its answer; says whether another may follow.
async fn exchange<H: Handler>(
    line: &Arc<Line>,
    handler: &Arc<H>,
    head: Head,
) -> Result<bool, Broken> {
    let connection = &line.connection;
    let mut guard = RequestGuard::new(connection);
    let asked = Asked::of(&head.request, head.persists);
    connection.activity.set_ambiguous(head.is_ambiguous);
    let body = line.body(head.body, head.expects);
    let request = head.request.map(|()| body);
    let response = handle(line, handler, request).await?;
    if is_media_type(
        response.headers().get(http::header::CONTENT_TYPE),
        "text/event-stream",
    ) {
        guard.is_event_stream();
    }
    let may_persist = !connection.is_closing() && line.may_go_on();
    let mut outgoing = Outgoing::new(response, &asked, may_persist);
    poll_fn(|cx| {
        if let Poll::Ready(sent) = outgoing.poll(line, cx) {
            return Poll::Ready(sent);
        }
        line.poll_left(cx).map(|()| Err(Broken::Left))
    })
    .await?;
    Ok(outgoing.persists() && line.finish_body())
}

/// The handler's answer, unless the client leaves before it.
async fn handle<H: Handler>(
    line: &Arc<Line>,
    handler: &Arc<H>,
    request: Request<crate::message::Incoming>,
) -> Result<Response<H::Body>, Broken> {
    // In a place of its own that is given back before the answer: a stream's lasts for hours.
    let connection = Arc::clone(&line.connection);
    let mut handling = Box::pin(Arc::clone(handler).handle(request, connection));
    poll_fn(|cx| {
        if let Poll::Ready(response) = handling.as_mut().poll(cx) {
            return Poll::Ready(Ok(response));
        }
        line.poll_left(cx).map(|()| Err(Broken::Left))
    })
    .await
}

async fn refuse(stream: &mut Stream, refused: Refused) {
    use tokio::io::AsyncWriteExt as _;
    let status = match refused {
        Refused::Malformed(_) => StatusCode::BAD_REQUEST,
        Refused::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    };
    let answer = response::refusal(status);
    // Whoever does not take so little, or is gone, does not want to know.
    let _ = tokio::time::timeout(stream::LINGER, stream.write_all(&answer)).await;
}
