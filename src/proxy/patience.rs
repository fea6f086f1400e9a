//! How long a request may take until its answer begins: its route's time, shortened by its client.

use std::time::Duration;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use tokio::time::Instant;

use super::error::{Code, Error};
use crate::config;
use crate::snapshot::Upstream;

/// The most time a client gives its request, such as `5s` or `250ms`.
pub const HEADER: HeaderName = HeaderName::from_static("x-mcp-auth-proxy-timeout");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The upstream's or the route's own.
    pub limit: Duration,
    /// When the client gives up, if that comes before the limit would.
    given_up: Option<(Instant, Duration)>,
}

impl Patience {
    pub fn of_upstream(upstream: &config::Upstream) -> Self {
        Self {
            limit: upstream.request_timeout,
            given_up: None,
        }
    }

    /// # Errors
    /// The client's header is no time: to ignore it would be to wait longer than it does.
    pub fn of(
        headers: &HeaderMap,
        route: &config::Route,
        upstream: &config::Upstream,
        now: Instant,
    ) -> Result<Self, Error> {
        let limit = route.request_timeout.unwrap_or(upstream.request_timeout);
        let mut values = headers.get_all(HEADER).iter();
        let asked = match (values.next(), values.next()) {
            (None, _) => None,
            (Some(value), None) => Some(duration(value).ok_or_else(no_time)?),
            (Some(_), Some(_)) => return Err(no_time()),
        };
        let given_up = asked
            .filter(|asked| *asked < limit)
            .map(|asked| (now + asked, asked));
        Ok(Self { limit, given_up })
    }

    /// When a wait that begins now has to end.
    pub fn deadline(&self, now: Instant) -> Instant {
        self.sooner(now + self.limit)
    }

    /// The client's own deadline, if it comes first.
    pub fn sooner(&self, deadline: Instant) -> Instant {
        self.given_up
            .map_or(deadline, |(until, _)| until.min(deadline))
    }

    /// What the client gave, once that is over. The clock is read only if it gave something.
    pub fn given_up(&self, now: impl FnOnce() -> Instant) -> Option<Duration> {
        self.given_up
            .filter(|(until, _)| *until <= now())
            .map(|(_, asked)| asked)
    }
}

/// The client would not wait any longer.
pub fn given_up(upstream: &Upstream, asked: Duration) -> Error {
    let name = &upstream.config.name;
    let asked = humantime::format_duration(asked);
    Error::new(
        Code::UpstreamTimeout,
        format!(
            "upstream {name} did not answer within {asked}, the time that the request's {HEADER} gave it"
        ),
    )
}

fn duration(value: &HeaderValue) -> Option<Duration> {
    let duration = humantime::parse_duration(value.to_str().ok()?.trim()).ok()?;
    (!duration.is_zero()).then_some(duration)
}

fn no_time() -> Error {
    Error::new(
        Code::BadRequest,
        format!("the header {HEADER} is no time; write one number and unit, such as 250ms or 5s"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Route, Target, TargetPath};

    const SECOND: Duration = Duration::from_secs(1);

    fn patience(of_route: Option<Duration>, asked: &[&'static str]) -> Result<Patience, Error> {
        let target = Target {
            scheme: http::uri::Scheme::HTTPS,
            authority: http::uri::Authority::from_static("a"),
            unix: None,
            path: TargetPath::Base(String::new()),
        };
        let upstream = config::Upstream::unsigned("acme", target);
        let route = Route {
            path: String::new(),
            strip_prefix: false,
            upstream: 0,
            request_timeout: of_route,
            access: crate::config::Access::default(),
            credentials: Vec::new(),
            policies: Vec::new(),
        };
        let mut headers = HeaderMap::new();
        for value in asked {
            headers.append(HEADER, HeaderValue::from_static(value));
        }
        Patience::of(&headers, &route, &upstream, Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_shortens_its_time_and_never_lengthens_it() {
        for (route, asked, expected) in [
            (None, &[][..], 15_000),
            (None, &["250ms"], 250),
            (None, &["1m"], 15_000),
            (Some(2 * SECOND), &["1m"], 2_000),
            (Some(60 * SECOND), &[], 60_000),
            (Some(60 * SECOND), &["20s"], 20_000),
        ] {
            let now = Instant::now();
            let deadline = patience(route, asked).unwrap().deadline(now);
            let expected = Duration::from_millis(expected);
            assert_eq!(deadline - now, expected, "{route:?} {asked:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clients_time_runs_from_its_request_on() {
        let patience = patience(None, &["5s"]).unwrap();
        tokio::time::advance(3 * SECOND).await;
        let now = Instant::now();
        assert_eq!(patience.deadline(now) - now, 2 * SECOND);
        assert_eq!(patience.given_up(|| now), None);
        assert_eq!(patience.given_up(|| now + 2 * SECOND), Some(5 * SECOND));
    }

    #[tokio::test]
    async fn what_is_no_time_is_refused() {
        for asked in [
            &["5"][..],
            &["soon"],
            &["0s"],
            &[""],
            &["-1s"],
            &["1s", "2s"],
        ] {
            let refused = patience(None, asked).unwrap_err();
            assert_eq!(refused.code, Code::BadRequest, "{asked:?}");
        }
    }
}
