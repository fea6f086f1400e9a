//! HTTP/1.1 towards an upstream: a connection driven by whoever uses it.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use hyper::client::conn::http1;

use super::body::Body;
use super::dial::Io;
use super::error::{Error, Failure};
use super::pool::Pool;
use crate::message::{Progress, RequestBody};

/// Largest response head, and most of a response body that waits for a slow client.
const MAX_BUFFER: usize = 64 * 1024;

pub struct Connection {
    sender: http1::SendRequest<RequestBody>,
    driver: Driver,
    pub reused: bool,
}

type Driver = http1::Connection<Io, RequestBody>;

impl Connection {
    /// Drives the connection once: a closed one, or one with unasked-for bytes, shows here.
    pub async fn is_alive(&mut self) -> bool {
        std::future::poll_fn(|cx| Poll::Ready(self.settle(cx))).await
    }

    fn settle(&mut self, cx: &mut Context<'_>) -> bool {
        Pin::new(&mut self.driver).poll(cx).is_pending() && self.sender.is_ready()
    }
}

pub async fn handshake(io: Io) -> Result<Connection, Error> {
    let (sender, driver) = http1::Builder::new()
        .max_buf_size(MAX_BUFFER)
        .handshake(io)
        .await?;
    Ok(Connection {
        sender,
        driver,
        reused: false,
    })
}

/// One request and the head of its response; the connection goes on inside the body.
pub async fn exchange(
    mut connection: Box<Connection>,
    request: Request<RequestBody>,
    pool: &Arc<Pool>,
) -> Result<Response<Body>, Box<Failure>> {
    let upload = request.body().progress();
    let mut sending = pin!(connection.sender.try_send_request(request));
    let mut open = true;
    let result = std::future::poll_fn(|cx| {
        if open {
            open = Pin::new(&mut connection.driver).poll(cx).is_pending();
        }
        // A finished driver has resolved the request one way or the other.
        sending.as_mut().poll(cx)
    })
    .await;
    let response = result.map_err(|mut error| {
        let unsent = error.take_message();
        Box::new(Failure::of_exchange(error.error(), unsent))
    })?;
    Ok(response.map(|body| {
        if open {
            attach(body, connection, pool, upload)
        } else {
            Body::Detached(body)
        }
    }))
}

fn attach(
    body: Incoming,
    connection: Box<Connection>,
    pool: &Arc<Pool>,
    upload: Option<Progress>,
) -> Body {
    if upload.is_some_and(|upload| !upload.is_done()) {
        // The upstream answers while it still reads: both directions must move by
        // themselves, or a client that waits for neither would stop both.
        let Connection { sender, driver, .. } = *connection;
        tokio::spawn(async move {
            let _sender = sender;
            let _ = driver.await;
        });
        return Body::Detached(body);
    }
    let mut bound = Bound {
        body,
        connection: Some(connection),
        pool: Arc::clone(pool),
    };
    if bound.body.is_end_stream() {
        bound.release(&mut Context::from_waker(Waker::noop()));
    }
    Body::H1(Box::new(bound))
}

/// A response body and the connection it comes from, polled together.
///
/// Dropped at its end, the connection goes back to the pool; dropped before, it
/// is closed, which is how HTTP/1.1 tells an upstream that nobody listens.
pub struct Bound {
    body: Incoming,
    connection: Option<Box<Connection>>,
    pool: Arc<Pool>,
}

impl Bound {
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_pending()
            && let Some(connection) = &mut self.connection
        {
            if Pin::new(&mut connection.driver).poll(cx).is_ready() {
                self.connection = None;
            }
            polled = Pin::new(&mut self.body).poll_frame(cx);
        }
        match &polled {
            Poll::Ready(None) => self.release(cx),
            Poll::Ready(Some(Ok(_))) if self.body.is_end_stream() => self.release(cx),
            Poll::Ready(Some(Err(_))) => self.connection = None,
            _ => {}
        }
        polled
    }

    pub fn incoming(&self) -> &Incoming {
        &self.body
    }

    /// Gives the connection back if it can take another request.
    fn release(&mut self, cx: &mut Context<'_>) {
        if let Some(mut connection) = self.connection.take()
            && connection.settle(cx)
        {
            self.pool.put_h1(connection);
        }
    }
}
