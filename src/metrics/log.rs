//! Lines of the log and records of the audit that do not get through.

use prometheus_client::registry::Registry;

use super::family::Number;
use super::gauges::Gauges;

#[derive(Default)]
pub struct Families {
    dropped: Number,
    audit_lost: Number,
    audit_failing: Number,
}

impl Families {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "log_lines_dropped",
            "Log lines lost because nobody read them in time",
            self.dropped.clone(),
        );
        registry.register(
            "audit_records_lost",
            "Audit records lost because their stream took none for too long",
            self.audit_lost.clone(),
        );
        registry.register(
            "audit_failing",
            "1 while audit records cannot be written and wait",
            self.audit_failing.clone(),
        );
    }

    pub fn set(&self, now: &Gauges<'_>) {
        self.dropped.set(now.log_dropped as i64);
        self.audit_lost.set(now.audit_lost as i64);
        self.audit_failing.set(now.audit_failing.into());
    }
}
