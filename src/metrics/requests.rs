//! Requests by upstream, by what they ask for in MCP, and by route.

mod calls;
mod routes;

pub use routes::RouteMetrics;

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::family::{Counters, Labels, of};
use super::{Metrics, UpstreamMetrics};

/// Upper bounds in seconds, from a cache hit to a slow tool.
const BUCKETS: [f64; 16] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
    15.0, 60.0,
];

/// Of statuses, by their hundreds; 0 for those that never came.
const CLASSES: usize = 6;

pub struct Families {
    requests: Counters<2>,
    calls: calls::Families,
    routes: routes::Routes,
    durations: Family<Labels<1>, Histogram>,
    first_bytes: Family<Labels<1>, Histogram>,
    received: Counters<1>,
    sent: Counters<1>,
}

impl Default for Families {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(BUCKETS);
        Self {
            requests: Family::default(),
            calls: calls::Families::default(),
            routes: routes::Routes::default(),
            durations: Family::new_with_constructor(histogram),
            first_bytes: Family::new_with_constructor(histogram),
            received: Family::default(),
            sent: Family::default(),
        }
    }
}

impl Families {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "requests",
            "Requests by upstream and class of the status sent to the client",
            self.requests.clone(),
        );
        self.calls.register(registry);
        self.routes.register(registry);
        registry.register_with_unit(
            "request_duration",
            "From a request's head to the end of its response",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register_with_unit(
            "time_to_first_byte",
            "From a request's head to the head of its response",
            Unit::Seconds,
            self.first_bytes.clone(),
        );
        registry.register_with_unit(
            "received",
            "Request bodies from clients, by upstream",
            Unit::Bytes,
            self.received.clone(),
        );
        registry.register_with_unit(
            "sent",
            "Response bodies to clients, by upstream",
            Unit::Bytes,
            self.sent.clone(),
        );
    }

    pub fn of(&self, upstream: &str) -> Requests {
        let count = |class: usize| {
            let labels = [
                ("upstream", upstream.to_owned()),
                ("status", status_class(class)),
            ];
            self.requests.get_or_create(&labels).clone()
        };
        Requests {
            by_status_class: std::array::from_fn(count),
            calls: self.calls.of(upstream),
            duration: self.durations.get_or_create(&of(upstream)).clone(),
            first_byte: self.first_bytes.get_or_create(&of(upstream)).clone(),
            received: self.received.get_or_create(&of(upstream)).clone(),
            sent: self.sent.get_or_create(&of(upstream)).clone(),
        }
    }
}

/// One upstream's.
pub struct Requests {
    by_status_class: [Counter; CLASSES],
    calls: calls::Calls,
    duration: Histogram,
    first_byte: Histogram,
    received: Counter,
    sent: Counter,
}

impl UpstreamMetrics {
    /// The answer's head is on its way, `after` the request's.
    pub fn answering(&self, after: Duration) {
        self.requests.first_byte.observe(after.as_secs_f64());
    }

    /// Bytes of the request's body and of the answer's.
    pub fn moved(&self, received: u64, sent: u64) {
        self.requests.received.inc_by(received);
        self.requests.sent.inc_by(sent);
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
        self.requests.by_status_class[class].inc();
        self.requests.duration.observe(duration.as_secs_f64());
        if let Some(method) = method {
            self.requests.calls.count(method, name, class);
        }
    }
}

impl Metrics {
    pub fn route(&self, path: &str, upstream: &str) -> Arc<RouteMetrics> {
        self.requests.routes.of(path, upstream)
    }
}

/// The hundreds of a status, 0 where there was none.
pub fn class_of(status: u16) -> usize {
    usize::from(status / 100).min(5)
}

fn status_class(class: usize) -> String {
    match class {
        0 => "none".to_owned(),
        class => format!("{class}xx"),
    }
}
