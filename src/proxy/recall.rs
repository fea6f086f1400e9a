//! The cache's place on a request's way: before anything is signed, and again when its upstream fails.

use http::header::{AUTHORIZATION, COOKIE};
use http::uri::PathAndQuery;
use http::{Response, StatusCode};
use tokio::time::Instant;

use super::cache::{self, Asked, Found, Known, Outcome, Question, Ticket};
use super::exchange::Exchange;
use super::lens::Lens;
use super::source::Source;
use super::{Call, Proxy, answer};
use crate::mcp::cacheable::Kind;
use crate::snapshot::Upstream;

/// Whoever waits for another's answer has as much time again to ask for itself.
const PART_FOR_WAITING: u32 = 2;

/// What is known of a request's answer before it is sent.
pub enum Recalled {
    Answer(Known),
    /// `None`: there is nothing to keep of its answer either.
    Nothing(Option<Ticket>),
}

impl Proxy {
    pub(super) async fn recall(
        &self,
        call: &Call<'_>,
        upstream: &Upstream,
        target: &PathAndQuery,
        exchange: &mut Exchange,
    ) -> Recalled {
        let Some(asked) = asked(call, upstream, target, exchange.mcp_method()) else {
            return Recalled::Nothing(None);
        };
        let begun = Instant::now();
        let patience = exchange.patience(upstream).deadline(begun) - begun;
        let found = self.cache.find(asked, patience / PART_FOR_WAITING).await;
        exchange.waited = begun.elapsed();
        match found {
            Found::Answer(known) => Recalled::Answer(known),
            Found::Miss(ticket) => {
                exchange.cache = Some(Outcome::Miss);
                Recalled::Nothing(Some(ticket))
            }
        }
    }
}

/// `None` for what is never kept.
fn asked(
    call: &Call<'_>,
    upstream: &Upstream,
    target: &PathAndQuery,
    method: Option<&str>,
) -> Option<Asked> {
    Kind::of(method?)?;
    let policy = upstream.config.cache;
    let headers = &call.head.headers;
    // Whose result it is then depends on more than on our credential.
    let brings_credential = upstream.config.forward_authorization
        && [AUTHORIZATION, COOKIE]
            .iter()
            .any(|name| headers.contains_key(name));
    let is_off = !policy.enabled || call.snapshot.config.limits.cache == 0;
    if is_off || brings_credential || !cache::accepts_json(headers) {
        return None;
    }
    let body = call.message.as_ref()?;
    let question = Question::read(&call.head, target, body, policy.across_sessions)?;
    (question.is_stateless || policy.ttl.is_some()).then(|| Asked {
        question,
        partitions: upstream.cache.clone(),
        policy,
    })
}

/// An answer from the cache, as its peer may see it.
pub fn answer(known: Known, lens: Option<Box<Lens>>, exchange: &mut Exchange) -> Response<Source> {
    let Known {
        body,
        outcome,
        is_foreign,
    } = known;
    exchange.cache = Some(outcome);
    if let Some(lens) = lens.as_ref().filter(|_| is_foreign) {
        lens.learn(&body);
    }
    let filtered = lens.and_then(|lens| lens.filtered(&body));
    let body = filtered.unwrap_or(body);
    answer::of_type(StatusCode::OK, "application/json", body)
}
