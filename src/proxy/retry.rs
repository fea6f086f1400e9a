//! Whether an attempt that came to nothing may be followed by another, and when.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use http_body_util::BodyExt;

use crate::client::{self, Failure, Kind};
use crate::config::{self, ToolsCall};
use crate::mcp;
use crate::resilience::backoff;
use crate::snapshot::Upstream;

/// Of an answer that is not passed on, this much is read to keep its connection.
const MAX_DRAINED: usize = 64 * 1024;
const DRAIN_PATIENCE: Duration = Duration::from_millis(100);

/// Why another attempt does no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Nothing of the request left.
    Unsent,
    /// The upstream said that it did nothing, and how long it wants to be left alone.
    Declined(Duration),
    /// It may have been acted upon, but it only reads.
    Reads,
}

impl Why {
    /// The label it is counted by.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unsent => "unsent",
            Self::Declined(_) => "declined",
            Self::Reads => "reads",
        }
    }

    /// What a failed exchange allows. A certificate does not become valid by asking again.
    pub fn of_failure(failure: &Failure, only_reads: impl FnOnce() -> bool) -> Option<Self> {
        match failure.kind {
            Kind::Tls => None,
            _ if failure.unsent => Some(Self::Unsent),
            _ => only_reads().then_some(Self::Reads),
        }
    }

    /// What an answer allows: 429 and 503 with Retry-After say that nothing was done (RFC 6585,
    /// section 4; RFC 9110, section 15.6.4); behind a gateway's own 5xx the request may have been
    /// acted upon.
    pub fn of_answer<B>(
        response: &Response<B>,
        now: impl FnOnce() -> SystemTime,
        only_reads: impl FnOnce() -> bool,
    ) -> Option<Self> {
        let declines = matches!(
            response.status(),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        );
        if declines && let Some(value) = response.headers().get(header::RETRY_AFTER) {
            let wait = backoff::retry_after(value.to_str().ok()?, now())?;
            return Some(Self::Declined(wait));
        }
        (is_outage(response.status()) && only_reads()).then_some(Self::Reads)
    }
}

/// A status by which a gateway says that nobody is behind it.
pub fn is_outage(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Whether a request only reads: by its JSON-RPC message, or by its method (RFC 9110, section 9.2.1).
pub fn only_reads(upstream: &Upstream, method: &Method, message: Option<&Bytes>) -> bool {
    let is_safe_tool = |tool: &str| trusts_annotations(upstream) && upstream.tools.is_safe(tool);
    match message {
        Some(message) => mcp::only_reads(message, is_safe_tool),
        None => method.is_safe(),
    }
}

/// Whether a tool's own word on what it does is taken.
pub fn trusts_annotations(upstream: &Upstream) -> bool {
    let retry = upstream.config.retry.as_ref();
    retry.is_some_and(|retry| retry.tools_call == ToolsCall::Annotated)
}

/// The attempts at one request.
pub struct Attempts<'a> {
    settings: Option<&'a config::Retry>,
    /// Those that may have reached the upstream.
    sent: u32,
    waits: u32,
}

impl<'a> Attempts<'a> {
    pub fn new(settings: Option<&'a config::Retry>) -> Self {
        Self {
            settings,
            sent: 0,
            waits: 0,
        }
    }

    /// How long to wait before the next attempt. `None`: this one's fate is the answer.
    ///
    /// Attempts that never left are bounded by the deadline alone: they cost the upstream nothing.
    pub fn wait(&mut self, why: Why, left: Duration) -> Option<Duration> {
        let settings = self.settings?;
        if why != Why::Unsent {
            self.sent += 1;
            if self.sent >= settings.attempts {
                return None;
            }
        }
        let asked = match why {
            Why::Declined(wait) => wait,
            Why::Unsent | Why::Reads => Duration::ZERO,
        };
        let jitter = backoff::full_jitter(settings.min_backoff, settings.max_backoff, self.waits);
        let wait = asked.saturating_add(jitter);
        self.waits += 1;
        (asked <= settings.max_retry_after && wait < left).then_some(wait)
    }
}

/// Reads the rest of a short answer, so that its connection can be used again.
pub async fn drain(mut body: client::Body) {
    let reading = async {
        let mut read = 0;
        while read < MAX_DRAINED
            && let Some(Ok(frame)) = body.frame().await
        {
            read += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    let _ = tokio::time::timeout(DRAIN_PATIENCE, reading).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: Option<&str>) -> Response<()> {
        let mut response = Response::builder().status(status);
        if let Some(value) = retry_after {
            response = response.header("retry-after", value);
        }
        response.body(()).unwrap()
    }

    fn why(status: u16, retry_after: Option<&str>, reads: bool) -> Option<Why> {
        Why::of_answer(
            &answer(status, retry_after),
            || SystemTime::UNIX_EPOCH,
            || reads,
        )
    }

    #[test]
    fn an_upstream_that_says_it_did_nothing_may_be_asked_again_whatever_it_was_asked() {
        let declined = Some(Why::Declined(Duration::from_secs(2)));
        for reads in [true, false] {
            assert_eq!(why(503, Some("2"), reads), declined);
            assert_eq!(why(429, Some("2"), reads), declined);
        }
    }

    #[test]
    fn what_may_have_been_done_is_asked_again_only_if_it_reads() {
        for status in [502, 503, 504] {
            assert_eq!(why(status, None, true), Some(Why::Reads));
            assert_eq!(why(status, None, false), None);
        }
        for status in [200, 400, 401, 404, 429, 500, 501] {
            assert_eq!(why(status, None, true), None, "{status}");
        }
        assert_eq!(why(502, Some("2"), false), None);
        assert_eq!(why(503, Some("later"), false), None);
    }

    fn attempts(settings: &config::Retry) -> Attempts<'_> {
        Attempts::new(Some(settings))
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn attempts_that_may_have_arrived_are_few_and_others_are_not_counted() {
        let settings = config::Retry::default();
        let mut reads = attempts(&settings);
        let granted = (0..100).take_while(|_| reads.wait(Why::Reads, LONG).is_some());
        assert_eq!(granted.count(), settings.attempts as usize - 1);
        let mut unsent = attempts(&settings);
        assert!((0..100).all(|_| unsent.wait(Why::Unsent, LONG).is_some()));
    }

    #[test]
    fn a_wait_is_as_long_as_the_upstream_asks_or_is_not_waited_at_all() {
        let settings = config::Retry::default();
        let asked = Duration::from_secs(2);
        let wait = attempts(&settings)
            .wait(Why::Declined(asked), LONG)
            .unwrap();
        assert!((asked..=asked + settings.min_backoff).contains(&wait));
        let too_long = Why::Declined(Duration::from_secs(6));
        assert_eq!(attempts(&settings).wait(too_long, LONG), None);
        assert_eq!(attempts(&settings).wait(Why::Declined(asked), asked), None);
    }
}
