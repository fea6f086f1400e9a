//! Whether upstreams can be used, and by which of their URLs and clocks.

use prometheus_client::registry::{Registry, Unit};

use super::UpstreamMetrics;
use super::family::{Labels, Number, Numbers, of};

#[derive(Default)]
pub struct Families {
    refusing: Numbers<1>,
    url_down: Numbers<2>,
    clock_skew: Numbers<1>,
}

impl Families {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "upstream_refusing",
            "1 while requests are refused because the upstream keeps failing",
            self.refusing.clone(),
        );
        registry.register(
            "upstream_url_down",
            "1 while requests go to another of the upstream's URLs, as this one fails",
            self.url_down.clone(),
        );
        registry.register_with_unit(
            "clock_skew",
            "By how much the upstream's clock is ahead of ours",
            Unit::Seconds,
            self.clock_skew.clone(),
        );
    }

    pub fn of(&self, upstream: &str) -> Health {
        Health {
            refusing: self.refusing.get_or_create(&of(upstream)).clone(),
            url_down: self.url_down.clone(),
            clock_skew: self.clock_skew.clone(),
        }
    }
}

/// One upstream's.
pub struct Health {
    refusing: Number,
    /// Without a member where there is one URL.
    url_down: Numbers<2>,
    /// Without a member until the upstream has told the time.
    clock_skew: Numbers<1>,
}

impl UpstreamMetrics {
    /// Whether requests are refused because the upstream keeps failing.
    pub fn refusing(&self, is_refusing: bool) {
        self.health.refusing.set(is_refusing.into());
    }

    /// Whether requests do not go to one of its several URLs, as that fails.
    pub fn url_down(&self, url: &str, is_down: bool) {
        let labels = self.url_labels(url);
        let gauge = self.health.url_down.get_or_create(&labels);
        gauge.set(is_down.into());
    }

    /// One of its URLs has left the configuration.
    pub fn forget_url(&self, url: &str) {
        self.health.url_down.remove(&self.url_labels(url));
    }

    fn url_labels(&self, url: &str) -> Labels<2> {
        [("upstream", self.name.clone()), ("url", url.to_owned())]
    }

    /// By how many seconds the upstream's clock is ahead of ours.
    pub fn clock_skew(&self, seconds: i64) {
        let labels = of(&self.name);
        self.health.clock_skew.get_or_create(&labels).set(seconds);
    }
}
