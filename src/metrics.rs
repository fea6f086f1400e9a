//! Counters for Prometheus, one function per event. Each theme has its families, with their names
//! and help, and its functions; what they tell is in mcp-auth-proxy-operations(7).

mod cache;
mod clients;
mod credentials;
mod daemon;
mod failures;
mod family;
mod gauges;
mod health;
mod log;
mod process;
mod requests;
mod sessions;
mod telemetry;
mod tls;

pub use cache::CacheOutcome;
pub use credentials::CredentialMetrics;
pub use gauges::{CredentialGauges, Gauges, UpstreamGauges};
pub use requests::{RouteMetrics, class_of};
pub use tls::Handshake;

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;

pub struct Metrics {
    registry: Registry,
    process: Registry,
    requests: requests::Families,
    tls: tls::Families,
    credentials: credentials::Families,
    telemetry: telemetry::Families,
    failures: failures::Families,
    clients: clients::Families,
    health: health::Families,
    daemon: daemon::Families,
    sessions: sessions::Families,
    log: log::Families,
    cache: cache::Families,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("mcp_auth_proxy"),
            process: process::registry(),
            requests: requests::Families::default(),
            tls: tls::Families::default(),
            credentials: credentials::Families::default(),
            telemetry: telemetry::Families::default(),
            failures: failures::Families::default(),
            clients: clients::Families::default(),
            health: health::Families::default(),
            daemon: daemon::Families::default(),
            sessions: sessions::Families::default(),
            log: log::Families::default(),
            cache: cache::Families::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    /// In the order of the page, where some themes have two places.
    fn register(&mut self) {
        let registry = &mut self.registry;
        self.requests.register(registry);
        self.tls.register(registry);
        self.credentials.register_times(registry);
        self.telemetry.register(registry);
        self.failures.register(registry);
        self.clients.register_refused(registry);
        self.health.register(registry);
        self.daemon.register(registry);
        self.sessions.register(registry);
        self.clients.register_present(registry);
        self.log.register(registry);
        self.credentials.register_events(registry);
        self.cache.register(registry);
        daemon::register_build(registry);
    }

    pub fn upstream(&self, name: &str) -> Arc<UpstreamMetrics> {
        Arc::new(UpstreamMetrics {
            name: name.to_owned(),
            requests: self.requests.of(name),
            handshakes: self.tls.of(name),
            retries: self.failures.retries.clone(),
            health: self.health.of(name),
            cache: self.cache.of(name),
        })
    }

    /// Writes the page in OpenMetrics text; the gauges are taken at this moment.
    ///
    /// # Errors
    /// Only those of `out`.
    pub fn write(&self, out: &mut impl fmt::Write, now: &Gauges<'_>) -> fmt::Result {
        self.tls.set(now);
        self.credentials.set(now);
        self.clients.set(now);
        self.sessions.set(now);
        self.log.set(now);
        self.cache.set(now);
        encode_registry(out, &self.registry)?;
        encode_registry(out, &self.process)?;
        encode_eof(out)
    }
}

/// The families' members for one upstream, looked up once.
pub struct UpstreamMetrics {
    name: String,
    requests: requests::Requests,
    handshakes: tls::Handshakes,
    retries: family::Counters<2>,
    health: health::Health,
    cache: cache::Answers,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

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
