//! The story of a request: guard, route, clean, sign, send, stream back.
//!
//! Policy comes from the [`Snapshot`] taken when the request began; what
//! outlives a reload is kept here. Every `Err` on the way becomes a response in
//! one place, [`Proxy::handle`].

mod access;
mod answer;
mod body;
mod broken;
pub mod cache;
mod error;
mod exchange;
mod failover;
pub(crate) mod head;
mod ids;
mod lens;
mod limit;
mod local;
mod location;
mod mirror;
mod patience;
mod policy;
mod reach;
mod recall;
mod recent;
mod requests;
mod respond;
mod retry;
mod send;
mod session;
mod sign;
mod sites;
mod source;
mod stream;
mod subject;
mod watches;
mod whole;

pub use answer::ERROR_HEADER;
pub use body::Body;
pub use error::{Code, Error};
pub use head::clean;
pub use local::readiness;
pub use reach::probe;
pub use recent::Recent;
pub use requests::{Finished, Requests};
pub use session::Sessions;
pub use stream::Boundary;
pub use watches::{Watch, Watches};

#[cfg(any(test, fuzzing))]
pub(crate) use policy::filter as filter_listing;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use slog::Logger;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::audit::Audit;
use crate::guard::{self, Policy};
use crate::log::Focused;
use crate::mcp::{self, Waiting};
use crate::message::{BodyError, Incoming, ReadAhead, RequestBody, Upload, read_ahead};
use crate::metrics::Metrics;
use crate::path;
use crate::scratch;
use crate::serve::{Connection, Handler};
use crate::snapshot::{Snapshot, Upstream};
use crate::telemetry::Tracing;

use self::cache::Cache;
use self::exchange::Exchange;
use self::lens::Lens;
use self::patience::Patience;
use self::recall::Recalled;
use self::session::Visit;
use self::source::Source;
use self::stream::Reopening;

/// How long the rest of a refused request may take to come in, to be answered by its id.
const REFUSED_BODY_PATIENCE: Duration = Duration::from_secs(2);

pub struct Proxy {
    snapshot: ArcSwap<Snapshot>,
    pub metrics: Metrics,
    pub log: Logger,
    pub audit: Audit,
    pub sessions: Sessions,
    pub cache: Arc<Cache>,
    /// Set at the start where traces are sent to a collector.
    pub tracing: OnceLock<Tracing>,
    /// The last answers of the proxy's own.
    pub recent: Recent,
    /// The last requests.
    pub requests: Requests,
    /// Whose requests are logged at `debug` for a while.
    pub watches: Watches,
    /// Cancelled when event streams shall end.
    pub draining: CancellationToken,
    replaced: watch::Sender<()>,
}

/// A request on its way in: what is left of it at each step.
struct Call<'a> {
    snapshot: &'a Arc<Snapshot>,
    connection: &'a Arc<Connection>,
    head: Parts,
    /// Whether whoever sent it waits for JSON-RPC.
    is_json_rpc: bool,
    /// Taken by the first step that reads it.
    body: Option<Incoming>,
    /// The whole JSON-RPC body, if it was read: whoever waits in it is owed an answer.
    message: Option<Bytes>,
    /// Whether anything came behind the head.
    has_body: bool,
    /// Which of its route's policies its peer is under.
    policy: Option<usize>,
    /// The name of the token or certificate by which the client proved who it is.
    client: Option<Arc<str>>,
    /// Where it goes, and by which credential, once that is known.
    upstream: Option<&'a Arc<Upstream>>,
}

impl Handler for Proxy {
    type Body = Body;

    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: Arc<Connection>,
    ) -> Response<Body> {
        let snapshot = self.snapshot();
        let (head, body) = request.into_parts();
        let mut exchange = Exchange::begin(&self, &snapshot, &head, &connection);
        let is_watched = exchange.is_watched;
        let mut call = Call {
            snapshot: &snapshot,
            connection: &connection,
            is_json_rpc: mcp::may_be_json_rpc(&head.method, &head.headers),
            head,
            body: Some(body),
            message: None,
            has_body: false,
            policy: None,
            client: None,
            upstream: None,
        };
        let forwarding = self.forward(&mut call, &mut exchange);
        let forwarded = if is_watched {
            Focused {
                on: true,
                future: Box::pin(forwarding),
            }
            .await
        } else {
            forwarding.await
        };
        let response = match forwarded {
            Ok(response) => exchange.answer(response),
            Err(error) => {
                let waiting = waiting_for(&mut call, &error).await;
                let response = answer::refusal(&error, &waiting, exchange.id());
                if call
                    .body
                    .is_none_or(|body| !http_body::Body::is_end_stream(&body))
                {
                    exchange.body_is_unread();
                }
                exchange.refuse(&error, response)
            }
        };
        Body::follow(response, exchange)
    }
}

impl Proxy {
    pub fn new(snapshot: Snapshot, metrics: Metrics, log: Logger) -> Self {
        Self {
            cache: Arc::new(Cache::new(snapshot.config.limits.cache)),
            snapshot: ArcSwap::from_pointee(snapshot),
            metrics,
            audit: Audit::new(log.clone()),
            log,
            sessions: Sessions::default(),
            tracing: OnceLock::new(),
            recent: Recent::default(),
            requests: Requests::default(),
            watches: Watches::default(),
            draining: CancellationToken::new(),
            replaced: watch::Sender::new(()),
        }
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Every request from now on sees `snapshot`.
    pub fn replace(&self, snapshot: Snapshot) {
        self.cache.set_capacity(snapshot.config.limits.cache);
        self.snapshot.store(Arc::new(snapshot));
        self.replaced.send_replace(());
    }

    /// Tells of every [`Proxy::replace`] from now on.
    pub fn replacements(&self) -> watch::Receiver<()> {
        self.replaced.subscribe()
    }

    async fn forward(
        self: &Arc<Self>,
        call: &mut Call<'_>,
        exchange: &mut Exchange,
    ) -> Result<Response<Source>, Error> {
        let entrance = call
            .snapshot
            .entrance(call.connection.listener)
            .ok_or_else(Error::listener_gone)?;
        let policy = entrance.listener.map_or(Policy::NONE, Policy::of);
        guard::admit(&call.head, policy, call.connection.is_ambiguous())?;
        if self.audit.is_on() {
            // Its record says who it was.
            call.connection.owner().await;
        }
        if !local::is_for_everybody(call.head.uri.path()) {
            if !self.audit.admits() {
                return Err(Error::unaudited());
            }
            if let Some(listener) = entrance.listener {
                let admitted = access::to_listener(call, listener).await;
                // Who is refused is in the record, too.
                exchange.client = call.client.clone();
                admitted?;
            }
        }
        if let Some(reply) = local::reply(call, &self.log).await {
            return reply;
        }
        let decoded = path::check(call.head.uri.path(), true)?;
        let found = entrance
            .router
            .find(&decoded)
            .ok_or_else(|| Error::no_route(&call.head))?;
        let route = &call.snapshot.config.routes[found];
        let upstream = &call.snapshot.upstreams[route.upstream];
        exchange.routed_to(upstream, &call.snapshot.route_metrics[found]);
        path::check(call.head.uri.path(), upstream.config.allow_encoded_slash)?;
        access::to_route(call, route).await?;
        call.policy = policy::of_peer(route, call)?;
        let first = access::upstream(call, route)?;
        let upstream = failover::begin(call, route, first, &self.log, exchange)?;
        exchange.signed_as(upstream);
        call.upstream = Some(upstream);
        let (headers, since) = (&call.head.headers, exchange.since());
        exchange.patience = Some(Patience::of(headers, route, &upstream.config, since)?);
        limit::by_head(call, route)?;
        let target = upstream
            .path_for(route, call.head.uri.path(), call.head.uri.query())
            .ok_or(path::Refused::NotAbsolute)?;

        let fallback = stream::Fallback::for_request(call, upstream);
        if fallback.is_always() {
            return Ok(stream::local(&self.draining).map(Source::events));
        }
        let covered = upstream.auth.as_ref().is_some_and(|it| it.covers_body());
        let body = self.read_body(call, covered, exchange).await?;
        if let Some(policy) = call.policy {
            self.judge(&route.policies[policy], call)?;
        }
        limit::by_tool(call, route)?;
        let lists_tools = mirror::agree(call, upstream)?;
        let ticket = match self.recall(call, upstream, &target, exchange).await {
            Recalled::Answer(known) => {
                let lens = Lens::of(call, found, lists_tools, None);
                return Ok(recall::answer(known, lens, exchange));
            }
            Recalled::Nothing(ticket) => ticket,
        };
        let mut lens = Lens::of(call, found, lists_tools, ticket);
        let right = stream::Right::of(call, found, upstream);
        let mut head = head::outgoing(call, upstream, target, exchange.id());
        if lens.as_ref().is_some_and(|lens| lens.wants_plain()) {
            head.headers
                .insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if let Some(own) = exchange.traceparent(call.message.as_deref()) {
            head.headers.insert(ids::TRACEPARENT, own);
        }
        let mut request = Request::from_parts(head, body);
        let mut visit = Visit::of(self, call, upstream, &mut request, exchange);
        let mut reopening =
            right.map(|right| Reopening::of(right, self, upstream, &mut request, visit.known()));
        let turn = limit::turn(upstream, exchange.patience(upstream)).await?;
        let message = call.message.as_ref();
        let sent = self.send(upstream, &mut request, message, exchange).await;
        scratch::keep(request.into_parts().0.headers);
        if let Some(known) = lens.as_mut().and_then(|lens| lens.stand_in(&sent)) {
            return Ok(recall::answer(known, lens, exchange));
        }
        let upstream = failover::current(first, exchange);
        let (response, sent) = visit.answered(self, upstream, sent?, exchange).await?;
        drop(turn);
        if let Some(lens) = &mut lens {
            lens.until = exchange.deadline;
        }
        // Opening its session again may have taken it elsewhere.
        let upstream = failover::current(first, exchange);
        if let Some(sites) = &exchange.sites {
            sites.note(&response);
            call.upstream = Some(upstream);
            if let Some(reopening) = &mut reopening {
                reopening.may_go_on_at(sites);
            }
        }
        exchange.answered_by_upstream(response.status(), &sent);
        if fallback.replaces(response.status()) {
            return Ok(stream::local(&self.draining).map(Source::events));
        }
        let mut response =
            respond::incoming(self, call, found, upstream, response, &sent, lens).await?;
        if let Some(reopening) = reopening
            && response.status() == StatusCode::OK
        {
            response.body_mut().recover(reopening);
        }
        Ok(visit.settle(response))
    }

    /// Reads what has to be understood or signed, and leaves the rest to be streamed.
    async fn read_body(
        &self,
        call: &mut Call<'_>,
        covered: bool,
        exchange: &mut Exchange,
    ) -> Result<RequestBody, Error> {
        let snapshot = call.snapshot;
        let limits = &snapshot.config.limits;
        let stall = snapshot.config.server.read_timeout;
        check_announced(&call.head, limits.max_body)?;
        let Some(mut body) = call.body.take() else {
            return Ok(RequestBody::empty());
        };
        if http_body::Body::is_end_stream(&body) {
            return Ok(RequestBody::empty());
        }
        call.has_body = true;
        if !call.is_json_rpc && !covered {
            let upload = Upload::new(Bytes::new(), body, limits.max_body, stall);
            exchange.uploads(upload.progress());
            return Ok(RequestBody::Stream(Box::new(upload)));
        }
        match read_ahead(&mut body, limits.replay_buffer, stall).await? {
            ReadAhead::Whole(bytes) if bytes.len() as u64 > limits.max_body => {
                Err(BodyError::TooLarge.into())
            }
            ReadAhead::Whole(bytes) => {
                exchange.received = bytes.len() as u64;
                if call.is_json_rpc {
                    exchange.carries(mcp::peek(&bytes));
                    call.message = Some(bytes.clone());
                }
                Ok(RequestBody::full(bytes))
            }
            ReadAhead::Part(_) if covered => Err(Error::too_large_to_sign(limits.replay_buffer)),
            ReadAhead::Part(_) if call.policy.is_some() => Err(Error::too_large_to_judge()),
            ReadAhead::Part(bytes) => {
                let upload = Upload::new(bytes, body, limits.max_body, stall);
                exchange.uploads(upload.progress());
                Ok(RequestBody::Stream(Box::new(upload)))
            }
        }
    }
}

/// Refuses an announced length over the limit before a byte of it is read.
fn check_announced(head: &Parts, max_body: u64) -> Result<(), Error> {
    let announced = head
        .headers
        .get(http::header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    match announced {
        Some(length) if length > max_body => Err(BodyError::TooLarge.into()),
        _ => Ok(()),
    }
}

/// Who is owed an answer to a request that is refused.
async fn waiting_for(call: &mut Call<'_>, error: &Error) -> Waiting {
    if !call.is_json_rpc {
        return Waiting::Nobody;
    }
    if call.message.is_none() && error.code.leaves_body_readable() {
        call.message = read_late(call).await;
    }
    call.message
        .as_deref()
        .map_or(Waiting::Unread, mcp::waiting)
}

/// The body of a request that was refused by its head, if it is short and comes soon.
async fn read_late(call: &mut Call<'_>) -> Option<Bytes> {
    let limit = call.snapshot.config.limits.replay_buffer;
    let body = call.body.as_mut()?;
    let reading = read_ahead(body, limit, REFUSED_BODY_PATIENCE);
    match tokio::time::timeout(REFUSED_BODY_PATIENCE, reading).await {
        Ok(Ok(ReadAhead::Whole(bytes))) => Some(bytes),
        _ => None,
    }
}
