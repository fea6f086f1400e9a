//! TLS with upstreams: how handshakes went, and when certificates end.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::{Registry, Unit};

use super::UpstreamMetrics;
use super::family::{Counters, Timestamps, of, of_outcome, since_epoch};
use super::gauges::Gauges;

#[derive(Default)]
pub struct Families {
    handshakes: Counters<2>,
    certificates: Timestamps<1>,
}

impl Families {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "upstream_tls_handshakes",
            "TLS handshakes by upstream and outcome",
            self.handshakes.clone(),
        );
        registry.register_with_unit(
            "upstream_certificate_expiry_timestamp",
            "When the certificate ends that the upstream showed last",
            Unit::Seconds,
            self.certificates.clone(),
        );
    }

    pub fn of(&self, upstream: &str) -> Handshakes {
        Handshake::ALL.map(|outcome| {
            let labels = of_outcome(upstream, outcome.as_str());
            self.handshakes.get_or_create(&labels).clone()
        })
    }

    /// Those that a reload took away are forgotten: nobody shall be woken for their certificates.
    pub fn set(&self, now: &Gauges<'_>) {
        self.certificates.clear();
        for upstream in &now.upstreams {
            if let Some(at) = upstream.certificate_expiry {
                let gauge = self.certificates.get_or_create(&of(upstream.name));
                gauge.set(since_epoch(at));
            }
        }
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

/// One upstream's, as in [`Handshake::ALL`].
pub type Handshakes = [Counter; Handshake::ALL.len()];

impl UpstreamMetrics {
    pub fn handshake(&self, outcome: Handshake) {
        self.handshakes[outcome as usize].inc();
    }
}
