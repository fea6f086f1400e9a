//! Whether an attempt that came to nothing may be followed by another, and when.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use http_body_util::BodyExt;

use crate::backoff;
use crate::client::{self, Failure, Kind};
use crate::config::{self, ToolsCall};
use crate::mcp;
use crate::snapshot::Upstream;

/// Of an answer that is not passed on, this much is read to keep its connection.
const MAX_DRAINED: usize = 64 * 1024;
const DRAIN_PATIENCE: Duration = Duration::from_millis(100);

/// The last attempt to connect is made this long before the time for them is over.
const LAST_MOMENT: Duration = Duration::from_millis(10);

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
    /// When the present attempt began.
    begun: Option<Instant>,
    /// When the first of those began that did not leave, one after the other.
    unsent_since: Option<Instant>,
    /// Another URL can be asked at once.
    pub has_alternative: bool,
}

impl<'a> Attempts<'a> {
    pub fn new(settings: Option<&'a config::Retry>) -> Self {
        Self {
            settings,
            sent: 0,
            waits: 0,
            begun: None,
            unsent_since: None,
            has_alternative: false,
        }
    }

    /// An attempt begins.
    pub fn begin(&mut self, now: Instant) {
        self.begun = Some(now);
    }

    /// How long the attempt that begins `now` may take, where that is less than what is left until
    /// `deadline`: only if another may follow it.
    pub fn limit(
        &self,
        now: Instant,
        deadline: Instant,
        may_repeat: impl FnOnce() -> bool,
    ) -> Option<Duration> {
        let settings = self.settings?;
        let is_last = self.sent + 1 >= settings.attempts;
        let limit = settings.attempt_timeout.filter(|_| !is_last)?;
        (limit < deadline.saturating_duration_since(now) && may_repeat()).then_some(limit)
    }

    /// How long to wait before the next attempt. `None`: this one's fate is the answer.
    ///
    /// Attempts that never left cost the upstream nothing, but whoever asked waits for them:
    /// they go on for `connect_patience`.
    pub fn wait(&mut self, why: Why, now: Instant, left: Duration) -> Option<Duration> {
        if self.has_alternative && why == Why::Unsent {
            return Some(Duration::ZERO);
        }
        let settings = self.settings?;
        let left = match why {
            Why::Unsent => left.min(self.patience(settings, now)?),
            Why::Declined(_) | Why::Reads => {
                self.unsent_since = None;
                self.sent += 1;
                if self.sent >= settings.attempts {
                    return None;
                }
                left
            }
        };
        if self.has_alternative {
            return Some(Duration::ZERO);
        }
        let asked = match why {
            Why::Declined(wait) => wait,
            Why::Unsent | Why::Reads => Duration::ZERO,
        };
        let jitter = backoff::full_jitter(settings.min_backoff, settings.max_backoff, self.waits);
        let wait = match why {
            // The dice do not end it early.
            Why::Unsent => jitter.min(left.saturating_sub(LAST_MOMENT)),
            Why::Declined(_) | Why::Reads => asked.saturating_add(jitter),
        };
        self.waits += 1;
        (asked <= settings.max_retry_after && wait < left).then_some(wait)
    }

    /// What is left of `connect_patience`; `None` once nothing is.
    fn patience(&mut self, settings: &config::Retry, now: Instant) -> Option<Duration> {
        let begun = self.begun.unwrap_or(now);
        let since = *self.unsent_since.get_or_insert(begun);
        let waited = now.saturating_duration_since(since);
        let left = settings.connect_patience.saturating_sub(waited);
        (left > LAST_MOMENT).then_some(left)
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
    fn attempts_that_may_have_arrived_are_few() {
        let settings = config::Retry::default();
        let (mut reads, now) = (attempts(&settings), Instant::now());
        let granted = (0..100).take_while(|_| reads.wait(Why::Reads, now, LONG).is_some());
        assert_eq!(granted.count(), settings.attempts as usize - 1);
    }

    /// How long refused connections are tried again, each attempt taking `each`.
    fn patience(attempts: &mut Attempts<'_>, start: Instant, each: Duration) -> (Duration, u32) {
        let (mut now, mut count) = (start, 0);
        loop {
            attempts.begin(now);
            now += each;
            count += 1;
            match attempts.wait(Why::Unsent, now, LONG) {
                Some(wait) => now += wait,
                None => return (now - start, count),
            }
        }
    }

    #[test]
    fn what_cannot_connect_is_told_so_after_a_second_and_some_attempts() {
        let settings = config::Retry::default();
        for _ in 0..100 {
            let (mut refused, start) = (attempts(&settings), Instant::now());
            let (took, count) = patience(&mut refused, start, Duration::from_micros(100));
            let expected = settings.connect_patience - LAST_MOMENT;
            assert!(
                (expected..=settings.connect_patience).contains(&took),
                "{took:?}"
            );
            assert!((3..40).contains(&count), "{count}");
        }
        // One that took longer than that is not followed by another.
        let mut silent = attempts(&settings);
        let (took, count) = patience(&mut silent, Instant::now(), Duration::from_secs(5));
        assert_eq!((took, count), (Duration::from_secs(5), 1));
    }

    #[test]
    fn the_patience_for_connections_begins_when_they_fail() {
        let settings = config::Retry::default();
        let (mut attempts, start) = (attempts(&settings), Instant::now());
        attempts.begin(start);
        assert!(attempts.wait(Why::Reads, start, LONG).is_some());
        let later = start + Duration::from_secs(60);
        let (took, _) = patience(&mut attempts, later, Duration::ZERO);
        assert!(took >= settings.connect_patience - LAST_MOMENT, "{took:?}");
    }

    #[test]
    fn another_url_is_asked_at_once() {
        let (mut off, now) = (Attempts::new(None), Instant::now());
        off.has_alternative = true;
        assert_eq!(off.wait(Why::Unsent, now, LONG), Some(Duration::ZERO));
        assert_eq!(off.wait(Why::Reads, now, LONG), None);
        let settings = config::Retry::default();
        let mut on = attempts(&settings);
        on.has_alternative = true;
        let declined = Why::Declined(Duration::from_secs(60));
        for why in [Why::Unsent, Why::Reads, declined] {
            assert_eq!(on.wait(why, now, LONG), Some(Duration::ZERO));
        }
    }

    #[test]
    fn an_attempt_is_cut_short_only_where_another_may_follow() {
        let (second, now) = (Duration::from_secs(1), Instant::now());
        let settings = config::Retry {
            attempts: 2,
            attempt_timeout: Some(second),
            ..config::Retry::default()
        };
        let mut cut = attempts(&settings);
        assert_eq!(cut.limit(now, now + LONG, || true), Some(second));
        assert_eq!(cut.limit(now, now + LONG, || false), None);
        assert_eq!(cut.limit(now, now + second, || true), None);
        assert!(cut.wait(Why::Reads, now, LONG).is_some());
        assert_eq!(cut.limit(now, now + LONG, || true), None);
        let off = config::Retry::default();
        assert_eq!(attempts(&off).limit(now, now + LONG, || true), None);
    }

    #[test]
    fn a_wait_is_as_long_as_the_upstream_asks_or_is_not_waited_at_all() {
        let (settings, now) = (config::Retry::default(), Instant::now());
        let asked = Duration::from_secs(2);
        let wait = attempts(&settings)
            .wait(Why::Declined(asked), now, LONG)
            .unwrap();
        assert!((asked..=asked + settings.min_backoff).contains(&wait));
        let too_long = Why::Declined(Duration::from_secs(6));
        assert_eq!(attempts(&settings).wait(too_long, now, LONG), None);
        let declined = Why::Declined(asked);
        assert_eq!(attempts(&settings).wait(declined, now, asked), None);
    }
}
