//! Failures: those that clients are told of, and those that another attempt may spare them.

use prometheus_client::registry::Registry;

use super::family::{Counters, of_outcome};
use super::{Metrics, UpstreamMetrics};

#[derive(Default)]
pub struct Families {
    errors: Counters<1>,
    pub retries: Counters<2>,
}

impl Families {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "errors",
            "Answers of the proxy's own, by code",
            self.errors.clone(),
        );
        registry.register(
            "retries",
            "Attempts after the first, by upstream and what made them safe",
            self.retries.clone(),
        );
    }
}

impl Metrics {
    pub fn proxy_error(&self, code: &'static str) {
        let labels = [("code", code.to_owned())];
        self.failures.errors.get_or_create(&labels).inc();
    }
}

impl UpstreamMetrics {
    /// Another attempt was made, and why, or was not: `over_budget`.
    pub fn retry(&self, outcome: &'static str) {
        let labels = of_outcome(&self.name, outcome);
        self.retries.get_or_create(&labels).inc();
    }
}
