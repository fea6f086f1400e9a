//! Counters for Prometheus, one function per event.

mod calls;
mod process;
mod routes;

pub use routes::RouteMetrics;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds in seconds, from a cache hit to a slow tool.
const BUCKETS: [f64; 16] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
    15.0, 60.0,
];

/// Of statuses, by their hundreds; 0 for those that never came.
const CLASSES: usize = 6;

type Labels<const N: usize> = [(&'static str, String); N];

pub struct Metrics {
    registry: Registry,
    /// Under names of its own, without our prefix.
    process: Registry,
    requests: Family<Labels<2>, Counter>,
    calls: calls::Families,
    routes: routes::Routes,
    durations: Family<Labels<1>, Histogram>,
    first_bytes: Family<Labels<1>, Histogram>,
    received: Family<Labels<1>, Counter>,
    sent: Family<Labels<1>, Counter>,
    handshakes: Family<Labels<2>, Counter>,
    certificates: Family<Labels<1>, Gauge<f64, AtomicU64>>,
    credentials: Family<Labels<2>, Gauge<f64, AtomicU64>>,
    credential_expiries: Family<Labels<2>, Gauge<f64, AtomicU64>>,
    exports: Family<Labels<2>, Counter>,
    errors: Family<Labels<1>, Counter>,
    retries: Family<Labels<2>, Counter>,
    refusing: Family<Labels<1>, Gauge<i64, AtomicI64>>,
    url_down: Family<Labels<2>, Gauge<i64, AtomicI64>>,
    clock_skew: Family<Labels<1>, Gauge<i64, AtomicI64>>,
    connections_refused: Counter,
    reloads: Family<Labels<1>, Counter>,
    session_recoveries: Family<Labels<2>, Counter>,
    stream_recoveries: Family<Labels<2>, Counter>,
    sessions: Gauge<i64, AtomicI64>,
    event_streams: Gauge<i64, AtomicI64>,
    last_reload: Gauge<f64, AtomicU64>,
    in_flight: Gauge<i64, AtomicI64>,
    connections: Gauge<i64, AtomicI64>,
    log_dropped: Gauge<i64, AtomicI64>,
    cache: Family<Labels<2>, Counter>,
    cache_bytes: Gauge<i64, AtomicI64>,
    cache_entries: Gauge<i64, AtomicI64>,
    credential_fetches: Family<Labels<2>, Counter>,
    credential_previous: Family<Labels<1>, Counter>,
    audit_lost: Gauge<i64, AtomicI64>,
    audit_failing: Gauge<i64, AtomicI64>,
}

/// The families' members for one credential, looked up once.
pub struct CredentialMetrics {
    fetched: Counter,
    not_fetched: Counter,
    previous: Counter,
}

impl CredentialMetrics {
    /// A token was asked for, or a program run again.
    pub fn fetched(&self, succeeded: bool) {
        let counter = if succeeded {
            &self.fetched
        } else {
            &self.not_fetched
        };
        counter.inc();
    }

    /// A request was accepted with the previous key.
    pub fn previous_used(&self) {
        self.previous.inc();
    }
}

/// How a TLS handshake with an upstream went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    Full,
    Resumed,
    Failed,
}

impl Handshake {
    const ALL: [Self; 3] = [Self::Full, Self::Resumed, Self::Failed];

    fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::Failed => "failed",
        }
    }
}

/// The families' members for one upstream, looked up once.
pub struct UpstreamMetrics {
    by_status_class: [Counter; CLASSES],
    duration: Histogram,
    first_byte: Histogram,
    received: Counter,
    sent: Counter,
    handshakes: [Counter; Handshake::ALL.len()],
    calls: calls::Calls,
    name: String,
    retries: Family<Labels<2>, Counter>,
    refusing: Gauge<i64, AtomicI64>,
    /// Without a member where there is one URL.
    url_down: Family<Labels<2>, Gauge<i64, AtomicI64>>,
    /// Without a member until the upstream has told the time.
    clock_skew: Family<Labels<1>, Gauge<i64, AtomicI64>>,
    cache: [Counter; Self::CACHE_OUTCOMES.len()],
}

impl UpstreamMetrics {
    /// In the order of the proxy's own enumeration of them.
    pub const CACHE_OUTCOMES: [&str; 4] = ["hit", "miss", "collapsed", "stale"];

    /// A request for a cacheable result is answered.
    pub fn cache_answered(&self, outcome: usize) {
        self.cache[outcome].inc();
    }

    /// Whether requests are refused because the upstream keeps failing.
    pub fn refusing(&self, is_refusing: bool) {
        self.refusing.set(is_refusing.into());
    }

    /// Whether requests do not go to one of its several URLs, as that fails.
    pub fn url_down(&self, url: &str, is_down: bool) {
        let gauge = self.url_down.get_or_create(&self.url_labels(url));
        gauge.set(is_down.into());
    }

    /// One of its URLs has left the configuration.
    pub fn forget_url(&self, url: &str) {
        self.url_down.remove(&self.url_labels(url));
    }

    fn url_labels(&self, url: &str) -> Labels<2> {
        [("upstream", self.name.clone()), ("url", url.to_owned())]
    }

    /// By how many seconds the upstream's clock is ahead of ours.
    pub fn clock_skew(&self, seconds: i64) {
        let labels = [("upstream", self.name.clone())];
        self.clock_skew.get_or_create(&labels).set(seconds);
    }

    /// Another attempt was made, and why, or was not: `over_budget`.
    pub fn retry(&self, outcome: &'static str) {
        let labels = [
            ("upstream", self.name.clone()),
            ("outcome", outcome.to_owned()),
        ];
        self.retries.get_or_create(&labels).inc();
    }

    pub fn handshake(&self, outcome: Handshake) {
        self.handshakes[outcome as usize].inc();
    }

    /// The answer's head is on its way, `after` the request's.
    pub fn answering(&self, after: Duration) {
        self.first_byte.observe(after.as_secs_f64());
    }

    /// Bytes of the request's body and of the answer's.
    pub fn moved(&self, received: u64, sent: u64) {
        self.received.inc_by(received);
        self.sent.inc_by(sent);
    }

    /// `method` and `name` are the JSON-RPC message's, if it was one.
    pub fn finished(
        &self,
        status: u16,
        duration: Duration,
        method: Option<&str>,
        name: Option<&str>,
    ) {
        let class = class_of(status);
        self.by_status_class[class].inc();
        self.duration.observe(duration.as_secs_f64());
        if let Some(method) = method {
            self.calls.count(method, name, class);
        }
    }
}

/// The hundreds of a status, 0 where there was none.
pub fn class_of(status: u16) -> usize {
    usize::from(status / 100).min(5)
}

fn since_epoch(at: SystemTime) -> f64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

fn status_class(class: usize) -> String {
    match class {
        0 => "none".to_owned(),
        class => format!("{class}xx"),
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("mcp_auth_proxy");
        let histogram: fn() -> Histogram = || Histogram::new(BUCKETS);
        let metrics = Self {
            requests: Family::default(),
            calls: calls::Families::default(),
            routes: routes::Routes::default(),
            durations: Family::new_with_constructor(histogram),
            first_bytes: Family::new_with_constructor(histogram),
            received: Family::default(),
            sent: Family::default(),
            handshakes: Family::default(),
            certificates: Family::default(),
            credentials: Family::default(),
            credential_expiries: Family::default(),
            exports: Family::default(),
            errors: Family::default(),
            retries: Family::default(),
            refusing: Family::default(),
            url_down: Family::default(),
            clock_skew: Family::default(),
            connections_refused: Counter::default(),
            reloads: Family::default(),
            session_recoveries: Family::default(),
            stream_recoveries: Family::default(),
            sessions: Gauge::default(),
            event_streams: Gauge::default(),
            last_reload: Gauge::default(),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            log_dropped: Gauge::default(),
            audit_lost: Gauge::default(),
            audit_failing: Gauge::default(),
            credential_fetches: Family::default(),
            credential_previous: Family::default(),
            cache: Family::default(),
            cache_bytes: Gauge::default(),
            cache_entries: Gauge::default(),
            registry: Registry::default(),
            process: Registry::default(),
        };
        registry.register(
            "requests",
            "Requests by upstream and class of the status sent to the client",
            metrics.requests.clone(),
        );
        metrics.calls.register(&mut registry);
        metrics.routes.register(&mut registry);
        registry.register_with_unit(
            "request_duration",
            "From a request's head to the end of its response",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register_with_unit(
            "time_to_first_byte",
            "From a request's head to the head of its response",
            Unit::Seconds,
            metrics.first_bytes.clone(),
        );
        registry.register_with_unit(
            "received",
            "Request bodies from clients, by upstream",
            Unit::Bytes,
            metrics.received.clone(),
        );
        registry.register_with_unit(
            "sent",
            "Response bodies to clients, by upstream",
            Unit::Bytes,
            metrics.sent.clone(),
        );
        registry.register(
            "upstream_tls_handshakes",
            "TLS handshakes by upstream and outcome",
            metrics.handshakes.clone(),
        );
        registry.register_with_unit(
            "upstream_certificate_expiry_timestamp",
            "When the certificate ends that the upstream showed last",
            Unit::Seconds,
            metrics.certificates.clone(),
        );
        registry.register_with_unit(
            "credential_since_timestamp",
            "Since when the upstream's present credential is in use",
            Unit::Seconds,
            metrics.credentials.clone(),
        );
        registry.register_with_unit(
            "credential_expiry_timestamp",
            "When the token ends that the upstream's credential was given",
            Unit::Seconds,
            metrics.credential_expiries.clone(),
        );
        registry.register(
            "telemetry_exports",
            "Batches sent to the collector by signal (traces, metrics) and outcome (success, failure)",
            metrics.exports.clone(),
        );
        registry.register(
            "errors",
            "Answers of the proxy's own, by code",
            metrics.errors.clone(),
        );
        registry.register(
            "retries",
            "Attempts after the first, by upstream and what made them safe",
            metrics.retries.clone(),
        );
        registry.register(
            "connections_refused",
            "Client connections over a limit",
            metrics.connections_refused.clone(),
        );
        registry.register(
            "upstream_refusing",
            "1 while requests are refused because the upstream keeps failing",
            metrics.refusing.clone(),
        );
        registry.register(
            "upstream_url_down",
            "1 while requests go to another of the upstream's URLs, as this one fails",
            metrics.url_down.clone(),
        );
        registry.register_with_unit(
            "clock_skew",
            "By how much the upstream's clock is ahead of ours",
            Unit::Seconds,
            metrics.clock_skew.clone(),
        );
        registry.register(
            "reloads",
            "Configuration loads by outcome",
            metrics.reloads.clone(),
        );
        registry.register_with_unit(
            "last_reload_success_timestamp",
            "When the configuration in force was loaded",
            Unit::Seconds,
            metrics.last_reload.clone(),
        );
        registry.register(
            "session_recoveries",
            "Sessions that an upstream forgot, by upstream and outcome of opening them again",
            metrics.session_recoveries.clone(),
        );
        registry.register(
            "stream_recoveries",
            "Event streams that an upstream ended, by upstream and outcome of opening them again",
            metrics.stream_recoveries.clone(),
        );
        registry.register(
            "sessions_known",
            "Sessions that could be opened again",
            metrics.sessions.clone(),
        );
        registry.register(
            "event_streams_open",
            "Event streams being served",
            metrics.event_streams.clone(),
        );
        registry.register(
            "requests_in_flight",
            "Requests being served",
            metrics.in_flight.clone(),
        );
        registry.register(
            "connections_open",
            "Client connections",
            metrics.connections.clone(),
        );
        registry.register(
            "log_lines_dropped",
            "Log lines lost because nobody read them in time",
            metrics.log_dropped.clone(),
        );
        registry.register(
            "audit_records_lost",
            "Audit records lost because their stream took none for too long",
            metrics.audit_lost.clone(),
        );
        registry.register(
            "audit_failing",
            "1 while audit records cannot be written and wait",
            metrics.audit_failing.clone(),
        );
        registry.register(
            "credential_fetches",
            "Tokens fetched and programs run again, by credential and outcome",
            metrics.credential_fetches.clone(),
        );
        registry.register(
            "credential_previous",
            "Requests that the upstream took with the credential's previous key",
            metrics.credential_previous.clone(),
        );
        registry.register(
            "cache_requests",
            "Requests whose results may be kept, by upstream and where the answer came from",
            metrics.cache.clone(),
        );
        registry.register_with_unit(
            "cache_size",
            "What cached results take",
            Unit::Bytes,
            metrics.cache_bytes.clone(),
        );
        registry.register(
            "cache_entries",
            "Cached results",
            metrics.cache_entries.clone(),
        );
        registry.register(
            "build",
            "The version that runs",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        let mut process = Registry::default();
        process.register_collector(Box::new(process::Process {
            started_at: SystemTime::now(),
        }));
        Self {
            registry,
            process,
            ..metrics
        }
    }
}

impl Metrics {
    pub fn upstream(&self, name: &str) -> Arc<UpstreamMetrics> {
        let count = |class: usize| {
            let labels = [
                ("upstream", name.to_owned()),
                ("status", status_class(class)),
            ];
            self.requests.get_or_create(&labels).clone()
        };
        Arc::new(UpstreamMetrics {
            by_status_class: std::array::from_fn(count),
            duration: self.durations.get_or_create(&of(name)).clone(),
            first_byte: self.first_bytes.get_or_create(&of(name)).clone(),
            received: self.received.get_or_create(&of(name)).clone(),
            sent: self.sent.get_or_create(&of(name)).clone(),
            handshakes: Handshake::ALL.map(|outcome| {
                let labels = [
                    ("upstream", name.to_owned()),
                    ("outcome", outcome.as_str().to_owned()),
                ];
                self.handshakes.get_or_create(&labels).clone()
            }),
            calls: self.calls.of(name),
            name: name.to_owned(),
            retries: self.retries.clone(),
            url_down: self.url_down.clone(),
            clock_skew: self.clock_skew.clone(),
            refusing: self.refusing.get_or_create(&of(name)).clone(),
            cache: UpstreamMetrics::CACHE_OUTCOMES.map(|outcome| {
                let labels = [
                    ("upstream", name.to_owned()),
                    ("outcome", outcome.to_owned()),
                ];
                self.cache.get_or_create(&labels).clone()
            }),
        })
    }

    pub fn route(&self, path: &str, upstream: &str) -> Arc<RouteMetrics> {
        self.routes.of(path, upstream)
    }

    /// Batches that reached the collector, or did not.
    pub fn export(&self, signal: &'static str, outcome: &'static str) -> Counter {
        let labels = [
            ("signal", signal.to_owned()),
            ("outcome", outcome.to_owned()),
        ];
        self.exports.get_or_create(&labels).clone()
    }

    /// A client's connection was over a limit.
    pub fn connection_refused(&self) {
        self.connections_refused.inc();
    }

    pub fn credential(&self, name: &str) -> Arc<CredentialMetrics> {
        let fetches = |outcome: &str| {
            let labels = [
                ("credential", name.to_owned()),
                ("outcome", outcome.to_owned()),
            ];
            self.credential_fetches.get_or_create(&labels).clone()
        };
        let labels = [("credential", name.to_owned())];
        Arc::new(CredentialMetrics {
            fetched: fetches("success"),
            not_fetched: fetches("failure"),
            previous: self.credential_previous.get_or_create(&labels).clone(),
        })
    }

    pub fn proxy_error(&self, code: &'static str) {
        self.errors
            .get_or_create(&[("code", code.to_owned())])
            .inc();
    }

    pub fn session_recovery(&self, upstream: &str, outcome: &'static str) {
        count(&self.session_recoveries, upstream, outcome);
    }

    pub fn stream_recovery(&self, upstream: &str, outcome: &'static str) {
        count(&self.stream_recoveries, upstream, outcome);
    }

    pub fn reloaded(&self, succeeded: bool, at: SystemTime) {
        let outcome = if succeeded { "success" } else { "failure" };
        self.reloads
            .get_or_create(&[("outcome", outcome.to_owned())])
            .inc();
        if succeeded {
            self.last_reload.set(since_epoch(at));
        }
    }

    /// Writes the page in OpenMetrics text; the gauges are taken at this moment.
    ///
    /// # Errors
    /// Only those of `out`.
    pub fn write(&self, out: &mut impl fmt::Write, now: &Gauges<'_>) -> fmt::Result {
        self.in_flight.set(now.in_flight as i64);
        self.connections.set(now.connections as i64);
        self.sessions.set(now.sessions as i64);
        self.event_streams.set(now.event_streams as i64);
        self.log_dropped.set(now.log_dropped as i64);
        self.audit_lost.set(now.audit_lost as i64);
        self.audit_failing.set(now.audit_failing.into());
        self.cache_bytes.set(now.cache_bytes as i64);
        self.cache_entries.set(now.cache_entries as i64);
        self.set_upstreams(&now.upstreams);
        encode_registry(out, &self.registry)?;
        encode_registry(out, &self.process)?;
        encode_eof(out)
    }
}

impl Metrics {
    /// Those that a reload took away are forgotten: nobody shall be woken for their certificates.
    fn set_upstreams(&self, upstreams: &[UpstreamGauges<'_>]) {
        self.certificates.clear();
        self.credentials.clear();
        self.credential_expiries.clear();
        for upstream in upstreams {
            if let Some(at) = upstream.certificate_expiry {
                let gauge = self.certificates.get_or_create(&of(upstream.name));
                gauge.set(since_epoch(at));
            }
            if let Some(credential) = &upstream.credential {
                let labels = [
                    ("upstream", upstream.name.to_owned()),
                    ("credential", credential.name.to_owned()),
                ];
                let gauge = self.credentials.get_or_create(&labels);
                gauge.set(since_epoch(credential.since));
                if let Some(at) = credential.expiry {
                    let gauge = self.credential_expiries.get_or_create(&labels);
                    gauge.set(since_epoch(at));
                }
            }
        }
    }
}

fn of(upstream: &str) -> Labels<1> {
    [("upstream", upstream.to_owned())]
}

fn count(family: &Family<Labels<2>, Counter>, upstream: &str, outcome: &str) {
    let labels = [
        ("upstream", upstream.to_owned()),
        ("outcome", outcome.to_owned()),
    ];
    family.get_or_create(&labels).inc();
}

/// What is counted elsewhere and read when somebody asks.
pub struct Gauges<'a> {
    pub in_flight: usize,
    pub connections: usize,
    pub sessions: usize,
    pub event_streams: usize,
    pub log_dropped: u64,
    pub audit_lost: u64,
    pub audit_failing: bool,
    pub cache_bytes: u64,
    pub cache_entries: usize,
    pub upstreams: Vec<UpstreamGauges<'a>>,
}

pub struct UpstreamGauges<'a> {
    pub name: &'a str,
    /// Of the certificate that it showed last.
    pub certificate_expiry: Option<SystemTime>,
    pub credential: Option<CredentialGauges<'a>>,
}

pub struct CredentialGauges<'a> {
    pub name: &'a str,
    /// Since when it is in use.
    pub since: SystemTime,
    /// When its token ends, if it is one that was given and does.
    pub expiry: Option<SystemTime>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_what_happened() {
        let metrics = Metrics::default();
        metrics
            .upstream("acme")
            .finished(200, Duration::from_millis(3), None, None);
        metrics.proxy_error("no_route");
        metrics.reloaded(false, SystemTime::now());
        let mut page = String::new();
        let gauges = Gauges {
            in_flight: 2,
            connections: 5,
            sessions: 0,
            event_streams: 0,
            log_dropped: 0,
            audit_lost: 0,
            audit_failing: false,
            cache_bytes: 0,
            cache_entries: 0,
            upstreams: Vec::new(),
        };
        metrics.write(&mut page, &gauges).unwrap();
        for line in [
            r#"mcp_auth_proxy_requests_total{upstream="acme",status="2xx"} 1"#,
            r#"mcp_auth_proxy_errors_total{code="no_route"} 1"#,
            r#"mcp_auth_proxy_reloads_total{outcome="failure"} 1"#,
            "mcp_auth_proxy_requests_in_flight 2",
        ] {
            assert!(page.contains(line), "{line} is not in:\n{page}");
        }
    }
}
