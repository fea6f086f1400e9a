//! What families are made of.

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::SystemTime;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

pub type Labels<const N: usize> = [(&'static str, String); N];

pub type Counters<const N: usize> = Family<Labels<N>, Counter>;

pub type Numbers<const N: usize> = Family<Labels<N>, Number>;

pub type Timestamps<const N: usize> = Family<Labels<N>, Timestamp>;

pub type Number = Gauge<i64, AtomicI64>;

/// Seconds since 1970.
pub type Timestamp = Gauge<f64, AtomicU64>;

pub fn of(upstream: &str) -> Labels<1> {
    [("upstream", upstream.to_owned())]
}

pub fn of_outcome(upstream: &str, outcome: &str) -> Labels<2> {
    [
        ("upstream", upstream.to_owned()),
        ("outcome", outcome.to_owned()),
    ]
}

pub fn since_epoch(at: SystemTime) -> f64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}
