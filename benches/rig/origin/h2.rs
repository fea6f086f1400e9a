//! HTTP/2, by hyper.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;

use super::answer::Asked;
use super::verify::Claim;
use super::{Gateway, h1};

/// What nginx allows on a connection unless it is told otherwise.
const STREAMS: u32 = 128;

pub async fn serve<S>(stream: S, gateway: Arc<Gateway>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request| {
        let gateway = Arc::clone(&gateway);
        async move { answer(request, &gateway).await }
    });
    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(io::Error::other)
}

async fn answer(
    request: Request<Incoming>,
    gateway: &Gateway,
) -> Result<Response<Either<Full<Bytes>, Events>>, hyper::Error> {
    let asked = Asked::at(request.uri().path());
    let (head, mut body) = request.into_parts();
    let mut claim = Claim::default();
    for (name, value) in &head.headers {
        claim.note(name.as_str(), value.as_bytes());
    }
    let admitted =
        asked == Asked::Counts || gateway.admits(head.method.as_str(), head.uri.path(), &claim);
    let mut kept = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data()
            && asked == Asked::Rpc
        {
            kept.extend_from_slice(&data);
        }
    }
    let (status, kind, body) = match (admitted, asked) {
        (false, _) => (
            401,
            "text/plain",
            Either::Left(Full::from("Invalid Signature")),
        ),
        (true, Asked::Events) => (200, "text/event-stream", Either::Right(Events::new())),
        (true, _) => {
            let (status, kind, body) = asked.answer(gateway, &kept);
            (status, kind, Either::Left(Full::new(body)))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(status).expect("one of ours");
    let kind = http::HeaderValue::from_static(kind);
    response.headers_mut().insert("content-type", kind);
    Ok(response)
}

/// As over HTTP/1.1: one event at once, then one a second.
struct Events {
    pause: Option<Pin<Box<Sleep>>>,
}

impl Events {
    fn new() -> Self {
        Self { pause: None }
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.pause {
            None => self.pause = Some(Box::pin(tokio::time::sleep(h1::first_pause()))),
            Some(pause) => {
                ready!(pause.as_mut().poll(cx));
                pause
                    .as_mut()
                    .reset(tokio::time::Instant::now() + h1::INTERVAL);
            }
        }
        Poll::Ready(Some(Ok(Frame::data(h1::event().into()))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
