//! Credentials: since when and until when they are used, and how they are had.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::{Registry, Unit};

use super::Metrics;
use super::family::{Counters, Timestamps, since_epoch};
use super::gauges::Gauges;

#[derive(Default)]
pub struct Families {
    since: Timestamps<2>,
    expiries: Timestamps<2>,
    fetches: Counters<2>,
    previous: Counters<1>,
}

impl Families {
    pub fn register_times(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "credential_since_timestamp",
            "Since when the upstream's present credential is in use",
            Unit::Seconds,
            self.since.clone(),
        );
        registry.register_with_unit(
            "credential_expiry_timestamp",
            "When the token ends that the upstream's credential was given",
            Unit::Seconds,
            self.expiries.clone(),
        );
    }

    pub fn register_events(&self, registry: &mut Registry) {
        registry.register(
            "credential_fetches",
            "Tokens fetched and programs run again, by credential and outcome",
            self.fetches.clone(),
        );
        registry.register(
            "credential_previous",
            "Requests that the upstream took with the credential's previous key",
            self.previous.clone(),
        );
    }

    /// Those that a reload took away are forgotten: nobody shall be woken for their tokens.
    pub fn set(&self, now: &Gauges<'_>) {
        self.since.clear();
        self.expiries.clear();
        for upstream in &now.upstreams {
            let Some(credential) = &upstream.credential else {
                continue;
            };
            let labels = [
                ("upstream", upstream.name.to_owned()),
                ("credential", credential.name.to_owned()),
            ];
            let gauge = self.since.get_or_create(&labels);
            gauge.set(since_epoch(credential.since));
            if let Some(at) = credential.expiry {
                let gauge = self.expiries.get_or_create(&labels);
                gauge.set(since_epoch(at));
            }
        }
    }
}

impl Metrics {
    pub fn credential(&self, name: &str) -> Arc<CredentialMetrics> {
        let families = &self.credentials;
        let fetches = |outcome: &str| {
            let labels = [
                ("credential", name.to_owned()),
                ("outcome", outcome.to_owned()),
            ];
            families.fetches.get_or_create(&labels).clone()
        };
        let labels = [("credential", name.to_owned())];
        Arc::new(CredentialMetrics {
            fetched: fetches("success"),
            not_fetched: fetches("failure"),
            previous: families.previous.get_or_create(&labels).clone(),
        })
    }
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
