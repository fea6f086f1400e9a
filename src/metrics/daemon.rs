//! The daemon itself: its version and its configuration.

use std::time::SystemTime;

use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::Metrics;
use super::family::{Counters, Timestamp, since_epoch};

#[derive(Default)]
pub struct Families {
    reloads: Counters<1>,
    last_reload: Timestamp,
}

impl Families {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "reloads",
            "Configuration loads by outcome",
            self.reloads.clone(),
        );
        registry.register_with_unit(
            "last_reload_success_timestamp",
            "When the configuration in force was loaded",
            Unit::Seconds,
            self.last_reload.clone(),
        );
    }
}

pub fn register_build(registry: &mut Registry) {
    registry.register(
        "build",
        "The version that runs",
        Info::new([("version", env!("CARGO_PKG_VERSION"))]),
    );
}

impl Metrics {
    pub fn reloaded(&self, succeeded: bool, at: SystemTime) {
        let outcome = if succeeded { "success" } else { "failure" };
        let labels = [("outcome", outcome.to_owned())];
        self.daemon.reloads.get_or_create(&labels).inc();
        if succeeded {
            self.daemon.last_reload.set(since_epoch(at));
        }
    }
}
