//! What the process takes of its host, read when somebody asks, under the names that every
//! Prometheus client library gives it.
//!
//! What the host does not tell (a sandbox without `/proc`, another system) is left out.

use std::fmt;
use std::fs;
use std::time::{Duration, SystemTime};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::unistd::{SysconfVar, sysconf};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::family::since_epoch;

/// Under names of its own, without our prefix.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Process {
        started_at: SystemTime::now(),
    }));
    registry
}

#[derive(Debug)]
struct Process {
    started_at: SystemTime,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut put = |name: &str, help: &str, unit: Option<&Unit>, value: &dyn Value| {
            value.put(encoder.encode_descriptor(name, help, unit, value.kind())?)
        };
        if let Some(used) = cpu_time() {
            let used = ConstCounter::new(used.as_secs_f64());
            put(
                "process_cpu",
                "Processor time, user and system",
                Some(&Unit::Seconds),
                &used,
            )?;
        }
        if let Some(bytes) = resident_bytes() {
            let bytes = ConstGauge::new(bytes);
            put(
                "process_resident_memory",
                "Memory in use",
                Some(&Unit::Bytes),
                &bytes,
            )?;
        }
        if let Some(count) = open_descriptors() {
            put(
                "process_open_fds",
                "Open descriptors",
                None,
                &ConstGauge::new(count),
            )?;
        }
        if let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
            let limit = ConstGauge::new(i64::try_from(limit).unwrap_or(i64::MAX));
            put("process_max_fds", "Descriptors allowed", None, &limit)?;
        }
        let start = ConstGauge::new(since_epoch(self.started_at));
        put(
            "process_start_time",
            "When the process began",
            Some(&Unit::Seconds),
            &start,
        )
    }
}

/// What a metric of any number type has in common.
trait Value {
    fn kind(&self) -> prometheus_client::metrics::MetricType;
    fn put(&self, encoder: prometheus_client::encoding::MetricEncoder<'_>) -> fmt::Result;
}

impl<T: EncodeMetric> Value for T {
    fn kind(&self) -> prometheus_client::metrics::MetricType {
        self.metric_type()
    }

    fn put(&self, encoder: prometheus_client::encoding::MetricEncoder<'_>) -> fmt::Result {
        self.encode(encoder)
    }
}

fn cpu_time() -> Option<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let spent = usage.user_time() + usage.system_time();
    let micros = u64::try_from(spent.tv_usec()).ok()?;
    Some(Duration::from_secs(u64::try_from(spent.tv_sec()).ok()?) + Duration::from_micros(micros))
}

/// The second number of proc(5) `statm`, which counts pages.
fn resident_bytes() -> Option<i64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: i64 = statm.split(' ').nth(1)?.parse().ok()?;
    pages.checked_mul(sysconf(SysconfVar::PAGE_SIZE).ok()??)
}

fn open_descriptors() -> Option<i64> {
    // One of them is this look itself.
    let count = fs::read_dir("/dev/fd").ok()?.count().saturating_sub(1);
    i64::try_from(count).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;

    #[test]
    fn this_very_process_has_memory_descriptors_and_a_beginning() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process {
            started_at: SystemTime::UNIX_EPOCH + Duration::from_secs(7),
        }));
        let mut page = String::new();
        encode(&mut page, &registry).unwrap();
        let value = |name: &str| -> f64 {
            let line = page
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {name} in:\n{page}"))
                .parse()
                .unwrap()
        };
        assert_eq!(value("process_start_time_seconds"), 7.0);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_cpu_seconds_total") >= 0.0);
        if cfg!(target_os = "linux") {
            assert!(value("process_resident_memory_bytes") > 100_000.0);
        }
    }
}
