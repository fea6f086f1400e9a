//! Sessions and event streams: those there are, and those opened again.

use prometheus_client::registry::Registry;

use super::Metrics;
use super::family::{Counters, Number, of_outcome};
use super::gauges::Gauges;

#[derive(Default)]
pub struct Families {
    session_recoveries: Counters<2>,
    stream_recoveries: Counters<2>,
    sessions: Number,
    event_streams: Number,
}

impl Families {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "session_recoveries",
            "Sessions that an upstream forgot, by upstream and outcome of opening them again",
            self.session_recoveries.clone(),
        );
        registry.register(
            "stream_recoveries",
            "Event streams that an upstream ended, by upstream and outcome of opening them again",
            self.stream_recoveries.clone(),
        );
        registry.register(
            "sessions_known",
            "Sessions that could be opened again",
            self.sessions.clone(),
        );
        registry.register(
            "event_streams_open",
            "Event streams being served",
            self.event_streams.clone(),
        );
    }

    pub fn set(&self, now: &Gauges<'_>) {
        self.sessions.set(now.sessions as i64);
        self.event_streams.set(now.event_streams as i64);
    }
}

impl Metrics {
    pub fn session_recovery(&self, upstream: &str, outcome: &'static str) {
        let labels = of_outcome(upstream, outcome);
        let family = &self.sessions.session_recoveries;
        family.get_or_create(&labels).inc();
    }

    pub fn stream_recovery(&self, upstream: &str, outcome: &'static str) {
        let labels = of_outcome(upstream, outcome);
        let family = &self.sessions.stream_recoveries;
        family.get_or_create(&labels).inc();
    }
}
