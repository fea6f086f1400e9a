//! What is looked at in an answer on its way to the client: its JSON-RPC messages, one at a time.
//!
//! Most answers are not looked at and pass byte for byte. Where something needs
//! to be seen, a JSON body is collected up to a limit, and an event stream is
//! passed on event by event.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{Method, Response, StatusCode};

use super::Call;
use super::cache::{Known, Ticket};
use super::error::Error;
use super::policy::filter;
use super::retry;
use crate::auth::Added;
use crate::client;
use crate::config::Policy;
use crate::mcp::cacheable::Change;
use crate::mcp::{mirror, strict};
use crate::resilience::annotations::Annotations;
use crate::snapshot::{Partitions, Snapshot, Upstream};
use crate::sse::{self, Splitter};

/// Everything that wants to see, or change, what passes.
pub struct Lens {
    /// Listings are filtered by this policy: route and index.
    filter: Option<(Arc<Snapshot>, usize, usize)>,
    /// Whose tools are listed: the headers of later calls are checked by it.
    learner: Option<Arc<Upstream>>,
    /// What tools say of themselves is noted here.
    learns: Option<Arc<Annotations>>,
    /// Waits for the answer to a request, to keep it.
    keep: Option<Ticket>,
    /// What the upstream says has changed is void here.
    watch: Option<Partitions>,
    /// Whether the upstream is asked not to compress.
    wants_plain: bool,
    /// Messages larger than this are not looked at.
    pub(super) limit: usize,
    /// A whole answer is not waited for beyond this: it could begin to be passed on instead.
    pub until: Option<tokio::time::Instant>,
}

impl Lens {
    /// `None`: nothing needs to be seen.
    pub fn of(
        call: &Call<'_>,
        route: usize,
        lists_tools: bool,
        keep: Option<Ticket>,
    ) -> Option<Box<Self>> {
        let config = &call.snapshot.config.routes[route];
        let policies = &config.policies;
        let filter = call
            .policy
            .filter(|&index| !policies[index].dry_run)
            .map(|index| (Arc::clone(call.snapshot), route, index));
        let upstream = call.upstream?;
        let watching = Watching::of(call, upstream);
        let learner = lists_tools.then(|| Arc::clone(upstream));
        let learns = (retry::trusts_annotations(upstream) && self::lists_tools(call))
            .then(|| Arc::clone(&upstream.tools));
        let lens = Self {
            wants_plain: filter.is_some()
                || learner.is_some()
                || learns.is_some()
                || keep.is_some()
                || watching == Watching::Closely,
            watch: (watching != Watching::No || keep.is_some()).then(|| upstream.cache.clone()),
            filter,
            learner,
            learns,
            keep,
            limit: call.snapshot.config.limits.replay_buffer,
            until: None,
        };
        (lens.wants_whole() || lens.watch.is_some()).then(|| Box::new(lens))
    }

    /// Whether an answer that is no stream is looked at, too.
    pub fn wants_whole(&self) -> bool {
        self.filter.is_some()
            || self.learner.is_some()
            || self.learns.is_some()
            || self.keep.is_some()
    }

    pub fn wants_plain(&self) -> bool {
        self.wants_plain
    }

    /// What may be said instead of what came of sending. Nothing is kept unless that is a 200.
    pub fn stand_in(
        &mut self,
        sent: &Result<(Response<client::Body>, Added), Error>,
    ) -> Option<Known> {
        let is_good = matches!(sent, Ok((response, _)) if response.status() == StatusCode::OK);
        let mut ticket = self.keep.take_if(|_| !is_good)?;
        ticket.give_up();
        is_outage(sent)
            .then(|| ticket.stand_in(Instant::now()))
            .flatten()
    }

    /// There is an answer, and nothing of it can be kept.
    pub fn sees_nothing(&mut self) {
        if let Some(mut ticket) = self.keep.take() {
            ticket.pass(Instant::now());
        }
    }

    pub fn learn(&self, message: &[u8]) {
        if let Some(upstream) = &self.learner {
            upstream
                .catalog
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .learn(message);
        }
        if let Some(tools) = &self.learns {
            tools.learn(message);
        }
    }

    /// The message as the peer may see it, if that is another.
    pub fn filtered(&self, message: &[u8]) -> Option<Vec<u8>> {
        let (snapshot, route, index) = self.filter.as_ref()?;
        let policy: &Policy = &snapshot.config.routes[*route].policies[*index];
        filter(policy, message)
    }

    /// Whether a message that cannot be looked at must not pass.
    pub fn must_see_all(&self) -> bool {
        self.filter.is_some()
    }

    /// One message or batch; the one to pass on in its place, if it is another.
    pub(super) fn look(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        if let Some(partitions) = &self.watch {
            for change in Change::read(message) {
                partitions.void(&change);
            }
        }
        if let Some(ticket) = &mut self.keep
            && ticket.saw(message, Instant::now())
        {
            self.keep = None;
        }
        self.learn(message);
        self.filtered(message)
    }
}

/// Whether an answer may tell of changes to what is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watching {
    No,
    /// If it can be read as it comes.
    Casually,
    /// It is there for telling of changes.
    Closely,
}

impl Watching {
    fn of(call: &Call<'_>, upstream: &Upstream) -> Self {
        let policy = &upstream.config.cache;
        if !policy.enabled || call.snapshot.config.limits.cache == 0 {
            return Self::No;
        }
        let is_used = upstream.cache.are_used();
        let listens = call.head.headers.get(mirror::METHOD);
        // A stream may have been there before there was anything to void.
        if listens.is_some_and(|method| method == "subscriptions/listen")
            || call.head.method == Method::GET && (policy.ttl.is_some() || is_used)
        {
            Self::Closely
        } else if is_used {
            Self::Casually
        } else {
            Self::No
        }
    }
}

/// Whether an answer that was kept may stand in for this one (RFC 5861, section 4).
///
/// A refusal of our credential is none of these: what it once opened is closed now.
fn is_outage(sent: &Result<(Response<client::Body>, Added), Error>) -> bool {
    match sent {
        Ok((response, _)) => matches!(
            response.status(),
            StatusCode::INTERNAL_SERVER_ERROR
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        ),
        Err(error) => error.code.is_outage(),
    }
}

fn lists_tools(call: &Call<'_>) -> bool {
    let messages = call.message.as_deref().map(strict::read);
    messages.is_some_and(|messages| {
        messages.is_ok_and(|messages| {
            let mut methods = messages.iter().map(|message| message.method.as_deref());
            methods.any(|method| method == Some("tools/list"))
        })
    })
}

/// Looks at the events of a stream as they pass.
pub struct Reader {
    lens: Box<Lens>,
    splitter: Splitter,
    /// The event at hand is too large to be looked at and passes as it comes.
    is_passing: bool,
}

/// An event that must be seen is too large for that.
#[derive(Debug)]
pub struct TooLarge;

impl Reader {
    pub fn new(lens: Box<Lens>) -> Self {
        Self {
            lens,
            splitter: Splitter::default(),
            is_passing: false,
        }
    }

    /// What can be passed on now; empty if an event is not complete.
    ///
    /// # Errors
    /// [`TooLarge`]: the stream must end here.
    pub fn pass(&mut self, data: &[u8]) -> Result<Bytes, TooLarge> {
        self.splitter.push(data);
        let mut out = BytesMut::new();
        while let Some(event) = self.splitter.next_event() {
            let changed = (!std::mem::take(&mut self.is_passing))
                .then(|| self.look(&event))
                .flatten();
            out.extend_from_slice(changed.as_deref().unwrap_or(&event));
        }
        if self.is_passing || self.splitter.pending() > self.lens.limit {
            if self.lens.must_see_all() {
                return Err(TooLarge);
            }
            self.is_passing = true;
            out.extend_from_slice(&self.splitter.take_pending());
        }
        Ok(out.freeze())
    }

    /// What is left at the stream's end. Clients drop an incomplete event, and so does a policy.
    pub fn finish(mut self) -> Option<Bytes> {
        self.lens.sees_nothing();
        let rest = self.splitter.take_pending();
        (!rest.is_empty() && !self.lens.must_see_all()).then_some(rest)
    }

    /// The event to pass on instead, if it is another.
    fn look(&mut self, event: &[u8]) -> Option<Vec<u8>> {
        let message = sse::message(event)?;
        let changed = self.lens.look(&message)?;
        Some(sse::with_message(event, &changed))
    }
}
