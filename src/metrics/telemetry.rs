//! What is sent to the collector.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::Metrics;
use super::family::Counters;

#[derive(Default)]
pub struct Families {
    exports: Counters<2>,
}

impl Families {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "telemetry_exports",
            "Batches sent to the collector by signal (traces, metrics) and outcome (success, failure)",
            self.exports.clone(),
        );
    }
}

impl Metrics {
    /// Batches that reached the collector, or did not.
    pub fn export(&self, signal: &'static str, outcome: &'static str) -> Counter {
        let labels = [
            ("signal", signal.to_owned()),
            ("outcome", outcome.to_owned()),
        ];
        self.telemetry.exports.get_or_create(&labels).clone()
    }
}
