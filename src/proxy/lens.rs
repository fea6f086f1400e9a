//! What is looked at in an answer on its way to the client: its JSON-RPC messages, one at a time.
//!
//! Most answers are not looked at and pass byte for byte. Where something needs
//! to be seen, a JSON body is collected up to a limit, and an event stream is
//! passed on event by event.

use std::sync::{Arc, PoisonError};

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use http_body_util::BodyExt;

use super::Call;
use super::error::Error;
use super::policy::filter;
use super::source::Source;
use crate::client;
use crate::config::Policy;
use crate::message::is_media_type;
use crate::snapshot::{Snapshot, Upstream};
use crate::sse::{self, Splitter};

/// Everything that wants to see, or change, what passes.
pub struct Lens {
    /// Listings are filtered by this policy: route and index.
    filter: Option<(Arc<Snapshot>, usize, usize)>,
    /// Whose tools are listed: the headers of later calls are checked by it.
    learner: Option<Arc<Upstream>>,
    /// Messages larger than this are not looked at.
    limit: usize,
}

impl Lens {
    /// `None`: nothing needs to be seen.
    pub fn of(call: &Call<'_>, route: usize, lists_tools: bool) -> Option<Box<Self>> {
        let config = &call.snapshot.config.routes[route];
        let policies = &config.policies;
        let filter = call
            .policy
            .filter(|&index| !policies[index].dry_run)
            .map(|index| (Arc::clone(call.snapshot), route, index));
        let learner = lists_tools.then(|| Arc::clone(&call.snapshot.upstreams[config.upstream]));
        (filter.is_some() || learner.is_some()).then(|| {
            Box::new(Self {
                filter,
                learner,
                limit: call.snapshot.config.limits.replay_buffer,
            })
        })
    }

    /// Whether a message that cannot be looked at must not pass.
    fn must_see_all(&self) -> bool {
        self.filter.is_some()
    }

    /// One message or batch; the one to pass on in its place, if it is another.
    fn look(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        if let Some(upstream) = &self.learner {
            upstream
                .catalog
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .learn(message);
        }
        let (snapshot, route, index) = self.filter.as_ref()?;
        let policy: &Policy = &snapshot.config.routes[*route].policies[*index];
        filter(policy, message)
    }

    /// Looks at a whole answer of JSON.
    ///
    /// # Errors
    /// It must be seen and cannot: it is too large, encoded, or does not come in time.
    pub async fn whole(
        mut self: Box<Self>,
        upstream: &Upstream,
        headers: &mut HeaderMap,
        body: client::Body,
    ) -> Result<Source, Error> {
        if is_encoded(headers) {
            return self.unseen(upstream, "is compressed", Source::Upstream(body));
        }
        let announced = http_body::Body::size_hint(&body).lower();
        if announced > self.limit as u64 {
            return self.unseen(
                upstream,
                "is larger than limits.replay_buffer",
                Source::Upstream(body),
            );
        }
        match self.collect(upstream, body).await? {
            Collected::Whole(bytes) => {
                let bytes = self.look(&bytes).map_or(bytes, Bytes::from);
                if headers.contains_key(header::CONTENT_LENGTH) {
                    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
                }
                Ok(Source::text(bytes))
            }
            Collected::Part(source) => {
                self.unseen(upstream, "is larger than limits.replay_buffer", source)
            }
        }
    }

    fn unseen(&self, upstream: &Upstream, why: &str, source: Source) -> Result<Source, Error> {
        if self.must_see_all() {
            return Err(Error::unfiltered(upstream, why));
        }
        Ok(source)
    }

    async fn collect(
        &self,
        upstream: &Upstream,
        mut body: client::Body,
    ) -> Result<Collected, Error> {
        let mut bytes = BytesMut::new();
        loop {
            let next = tokio::time::timeout(upstream.config.request_timeout, body.frame());
            let frame = match next.await {
                Err(_) => return Err(Error::timeout(upstream, None)),
                Ok(None) => return Ok(Collected::Whole(bytes.freeze())),
                Ok(Some(Err(error))) => return Err(Error::cut(upstream, &error)),
                Ok(Some(Ok(frame))) => frame,
            };
            bytes.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new()));
            if bytes.len() > self.limit {
                return Ok(Collected::Part(Source::Rest(Some(bytes.freeze()), body)));
            }
        }
    }
}

enum Collected {
    Whole(Bytes),
    /// More than may be kept: what came, and the rest.
    Part(Source),
}

/// Whether an answer's messages can be found at all.
pub fn is_json(headers: &HeaderMap) -> bool {
    is_media_type(headers.get(header::CONTENT_TYPE), "application/json")
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|encoding| encoding != "identity")
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
