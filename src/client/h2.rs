//! HTTP/2 towards an upstream: one connection, many streams, a task of its own.

mod turn;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use self::turn::Turns;
use super::error::{Error, Failure};
use super::io::Io;
use crate::message::RequestBody;

/// More streams than this go to a further connection, whatever the upstream allows:
/// one connection's window and one TCP stream are shared by all of them.
const MAX_STREAMS: usize = 100;

/// Streams until the upstream has said how many it allows: what is above would be refused, and
/// the others wait no longer than its first answer.
const UNTIL_TOLD: usize = 1;

/// What an upstream may send ahead of a slow client: per stream and in all.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;

/// While streams are open, a silent upstream is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);

type Driver = http2::Connection<TokioIo<Turns>, RequestBody, TokioExecutor>;

pub struct Connection {
    sender: http2::SendRequest<RequestBody>,
    usage: Arc<Usage>,
    born: Instant,
}

struct Usage {
    open: AtomicUsize,
    /// What the upstream allows at a time, up to [`MAX_STREAMS`].
    limit: AtomicUsize,
    last: Mutex<Instant>,
}

/// The right to one stream; given back when dropped.
pub struct Stream {
    sender: http2::SendRequest<RequestBody>,
    slot: Slot,
    pub reused: bool,
}

/// The body of a response. Its stream is open until it is dropped.
pub struct Body {
    pub incoming: Incoming,
    _slot: Slot,
}

struct Slot(Arc<Usage>);

impl Drop for Slot {
    fn drop(&mut self) {
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Connection {
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub fn idle_for(&self, now: Instant, limit: Duration) -> bool {
        let last = *self
            .usage
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.is_unused() && now.duration_since(last) > limit
    }

    pub fn is_older_than(&self, age: Duration, now: Instant) -> bool {
        now.duration_since(self.born) > age
    }

    pub fn is_unused(&self) -> bool {
        self.usage.open.load(Ordering::Acquire) == 0
    }

    pub fn open(&self) -> Option<Stream> {
        let limit = self.usage.limit.load(Ordering::Acquire);
        (self.sender.is_ready() && self.usage.open.load(Ordering::Acquire) < limit)
            .then(|| self.stream(true))
    }

    pub fn open_first(&self) -> Stream {
        self.stream(false)
    }

    fn stream(&self, reused: bool) -> Stream {
        self.usage.open.fetch_add(1, Ordering::AcqRel);
        Stream {
            sender: self.sender.clone(),
            slot: Slot(Arc::clone(&self.usage)),
            reused,
        }
    }
}

pub async fn handshake(io: Io) -> Result<Connection, Error> {
    let (sender, driver) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(UNTIL_TOLD)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .handshake(TokioIo::new(Turns::of(io)))
        .await?;
    let usage = Arc::new(Usage {
        open: AtomicUsize::new(0),
        limit: AtomicUsize::new(MAX_STREAMS),
        last: Mutex::new(Instant::now()),
    });
    tokio::spawn(drive(driver, Arc::clone(&usage)));
    Ok(Connection {
        sender,
        usage,
        born: Instant::now(),
    })
}

/// Runs the connection and notes how many streams its peer allows.
async fn drive(mut driver: Driver, usage: Arc<Usage>) {
    std::future::poll_fn(|cx| {
        // Its end shows in every stream it carried, and in `is_closed`.
        let polled = Pin::new(&mut driver).poll(cx).map(drop);
        let allowed = driver.current_max_send_streams();
        // Until then requests queue up here rather than each dial a connection of their own.
        if allowed != UNTIL_TOLD {
            usage
                .limit
                .store(allowed.min(MAX_STREAMS), Ordering::Release);
        }
        polled
    })
    .await;
}

pub async fn exchange(
    mut stream: Stream,
    request: &mut Request<RequestBody>,
) -> Result<Response<Body>, Box<Failure>> {
    match stream.sender.try_send_request(to_send(request)).await {
        Ok(response) => {
            let Stream { slot, .. } = stream;
            Ok(response.map(|incoming| Body {
                incoming,
                _slot: slot,
            }))
        }
        Err(mut error) => {
            let unsent = error.take_message();
            let failure = Failure::of_exchange(error.error(), unsent.is_some());
            if let Some(unsent) = unsent {
                *request.body_mut() = unsent.into_body();
            }
            Err(Box::new(failure))
        }
    }
}

/// hyper wants a request for itself.
fn to_send(request: &mut Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(request.body_mut().take());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}
