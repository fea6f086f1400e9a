//! One client connection: what its requests have in common, and whom they are answered by.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, OnceLock};
use std::task::{Context, Waker};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::Body;

use super::activity::Activity;
use super::holder::Holder;
use super::tls::Certified;
use crate::listen::{self, Owner, Peer};
use crate::message::Incoming;

/// What the requests on one connection have in common.
pub struct Connection {
    pub peer: Peer,
    /// The peer's address and port, for TCP.
    pub address: Option<Box<str>>,
    /// Key of the listener it came in by.
    pub listener: u64,
    /// `x-forwarded-for`, for TCP.
    pub forwarded_for: Option<HeaderValue>,
    /// Our own end, for TCP.
    local: Option<SocketAddr>,
    /// Who holds the other end, once somebody asked.
    owner: Holder,
    /// Once its handshake is over, if it speaks TLS.
    tls: OnceLock<Option<Certified>>,
    pub(super) activity: Activity,
    aborted: AtomicBool,
    /// Whether its stream is to be asked if the peer is there still.
    suspected: AtomicBool,
    left: AtomicBool,
    waker: OnceLock<Waker>,
}

/// Answers requests; one for the data listeners, one for the admin socket.
pub trait Handler: Send + Sync + 'static {
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Unpin
        + Send
        + 'static;

    fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: Arc<Connection>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

impl Connection {
    pub fn new(peer: Peer, listener: u64) -> Self {
        let forwarded_for = match &peer {
            Peer::Tcp(address) => address.ip().to_string().parse().ok(),
            Peer::Unix { .. } => None,
        };
        let address = match &peer {
            Peer::Tcp(address) => Some(address.to_string().into()),
            Peer::Unix { .. } => None,
        };
        Self {
            peer,
            address,
            listener,
            forwarded_for,
            local: None,
            owner: Holder::default(),
            tls: OnceLock::new(),
            activity: Activity::new(),
            aborted: AtomicBool::new(false),
            suspected: AtomicBool::new(false),
            left: AtomicBool::new(false),
            waker: OnceLock::new(),
        }
    }

    /// With what can be learned of the other end from `stream` at once.
    pub fn identify(mut self, stream: &listen::Stream, with_program: bool) -> Self {
        self.local = stream.local_addr();
        self.owner = Holder::new(stream.owner(&self.peer, with_program));
        self
    }

    /// Who holds the other end; looked up off the event loop where that takes time, once.
    pub async fn owner(&self) -> &Owner {
        static NOT_IN_TIME: LazyLock<Owner> =
            LazyLock::new(|| Owner::unknown("the user database did not answer in time"));
        let (Peer::Tcp(peer), Some(local)) = (self.peer, self.local) else {
            return self.owner.known().unwrap_or(&NOT_IN_TIME);
        };
        let found = self.owner.look_up(move || Owner::of_tcp(local, peer)).await;
        found.unwrap_or(&NOT_IN_TIME)
    }

    /// Who holds the other end, if somebody asked before.
    pub fn known_owner(&self) -> Option<&Owner> {
        self.owner.known()
    }

    pub fn is_tls(&self) -> bool {
        self.tls.get().is_some()
    }

    /// The certificate by which the client proved who it is.
    pub fn certified(&self) -> Option<&Certified> {
        self.tls.get()?.as_ref()
    }

    /// Its handshake is over.
    pub(super) fn secured(&self, certified: Option<Certified>) {
        let _ = self.tls.set(certified);
    }

    /// Whether it is to be closed before its first request; asked by its own task.
    pub(super) fn must_end(&self, cx: &Context<'_>) -> bool {
        self.keep_waker(cx);
        self.is_closing() || self.was_aborted()
    }

    /// A spawned task keeps one waker for life.
    pub(super) fn keep_waker(&self, cx: &Context<'_>) {
        self.waker.get_or_init(|| cx.waker().clone());
    }

    /// Whether the body of the current HTTP/1.1 request could end in two places.
    pub fn is_ambiguous(&self) -> bool {
        self.activity.is_ambiguous()
    }

    /// No further request is wanted here.
    pub fn is_closing(&self) -> bool {
        self.activity.is_closing()
    }

    /// It was ended by us, whatever it was doing.
    pub fn was_aborted(&self) -> bool {
        self.aborted.load(Relaxed)
    }

    pub(super) fn close(&self) {
        self.activity.close();
        self.wake();
    }

    pub(super) fn abort(&self) {
        self.aborted.store(true, Relaxed);
        self.wake();
    }

    /// Has it looked at whether the peer is there still: while a request's body waits for its
    /// upstream nothing is read, and its end would not be seen.
    pub fn suspect(&self) {
        self.suspected.store(true, Relaxed);
        self.wake();
    }

    pub(super) fn is_suspected(&self) -> bool {
        self.suspected.load(Relaxed) && self.suspected.swap(false, Relaxed)
    }

    /// The peer has closed its end.
    pub(super) fn leave(&self) {
        self.left.store(true, Relaxed);
    }

    pub(super) fn has_left(&self) -> bool {
        self.left.load(Relaxed)
    }

    /// Reads on for a while after the last answer: closing on a client that still
    /// sends would reset the connection, and the answer with it.
    pub fn linger(&self) {
        self.activity.linger();
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }
}
