//! Clients' connections and the requests on them.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::Metrics;
use super::family::Number;
use super::gauges::Gauges;

#[derive(Default)]
pub struct Families {
    refused: Counter,
    in_flight: Number,
    connections: Number,
}

impl Families {
    pub fn register_refused(&self, registry: &mut Registry) {
        registry.register(
            "connections_refused",
            "Client connections over a limit",
            self.refused.clone(),
        );
    }

    pub fn register_present(&self, registry: &mut Registry) {
        registry.register(
            "requests_in_flight",
            "Requests being served",
            self.in_flight.clone(),
        );
        registry.register(
            "connections_open",
            "Client connections",
            self.connections.clone(),
        );
    }

    pub fn set(&self, now: &Gauges<'_>) {
        self.in_flight.set(now.in_flight as i64);
        self.connections.set(now.connections as i64);
    }
}

impl Metrics {
    /// A client's connection was over a limit.
    pub fn connection_refused(&self) {
        self.clients.refused.inc();
    }
}
