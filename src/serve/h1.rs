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
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;

use self::line::Line;
use self::request::{Head, Refused};
use self::response::{Asked, Outgoing};
use super::connection::Handler;
use super::stream::{self, Stream};
use super::tracked::RequestGuard;
use crate::message::{Incoming, is_media_type};

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
    let mut handling =
        Handling::by(|request| Arc::clone(handler).handle(request, Arc::clone(&line.connection)));
    while let Some(head) = poll_fn(|cx| line.poll_head(cx)).await? {
        if !exchange(line, &mut handling, head).await? {
            return Ok(line.connection.activity.is_lingering() || line.has_unread());
        }
    }
    Ok(false)
}

/// One request and its answer; says whether another may follow.
async fn exchange<M, F, B>(
    line: &Arc<Line>,
    handling: &mut Handling<M, F>,
    head: Head,
) -> Result<bool, Broken>
where
    M: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Unpin,
{
    let connection = &line.connection;
    let mut guard = RequestGuard::new(connection);
    let asked = Asked::of(&head.request, head.persists);
    connection.activity.set_ambiguous(head.is_ambiguous);
    let body = line.body(head.body, head.expects);
    handling.begin(head.request.map(|()| body));
    let response = poll_fn(|cx| {
        if let Poll::Ready(response) = handling.poll(cx) {
            return Poll::Ready(Ok(response));
        }
        line.poll_left(cx).map(|()| Err(Broken::Left))
    })
    .await?;
    let kind = response.headers().get(http::header::CONTENT_TYPE);
    let is_event_stream = is_media_type(kind, "text/event-stream");
    handling.end(is_event_stream);
    if is_event_stream {
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

/// The handler at work on one request after the other, in one place: it is large, and would
/// have to be wiped after each.
struct Handling<M, F> {
    make: M,
    place: Option<Pin<Box<Option<F>>>>,
}

impl<M: Fn(Request<Incoming>) -> F, F: Future> Handling<M, F> {
    fn by(make: M) -> Self {
        Self { make, place: None }
    }

    fn begin(&mut self, request: Request<Incoming>) {
        let place = self.place.get_or_insert_with(|| Box::pin(None));
        place.set(Some((self.make)(request)));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<F::Output> {
        let place = self.place.as_mut();
        match place.and_then(|place| place.as_mut().as_pin_mut()) {
            Some(handling) => handling.poll(cx),
            None => Poll::Pending,
        }
    }

    /// The answer is there. `gives_up_place`: it may last for hours.
    fn end(&mut self, gives_up_place: bool) {
        if let Some(place) = &mut self.place {
            place.set(None);
        }
        if gives_up_place {
            self.place = None;
        }
    }
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
