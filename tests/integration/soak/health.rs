//! What the daemon takes of the system, through the hour and at its end.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::Stage;
use crate::common::{Daemon, admin};

const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// The time is looked at in so many parts, of which the first is for warming up. Long enough each that what
/// rises and falls does not count: streams keep the clients and pools of configurations before alive.
const PARTS: usize = 6;
const WARM: usize = 1;
/// A shorter soak is over before it is warm, and says nothing of growth.
const WARMING_UP: Duration = Duration::from_secs(10 * 60);
/// By how much memory may grow after that.
const GROWTH: f64 = 1.05;
/// Idle connections to upstreams are closed before that, and threads end.
const PATIENCE: Duration = Duration::from_secs(150);
/// Gauges that are 0 when nothing goes on.
const GAUGES: [&str; 5] = [
    "mcp_auth_proxy_connections_open",
    "mcp_auth_proxy_requests_in_flight",
    "mcp_auth_proxy_event_streams_open",
    "mcp_auth_proxy_sessions_known",
    "mcp_auth_proxy_log_lines_dropped",
];

pub struct Health {
    pid: u32,
    admin: std::path::PathBuf,
    before: Holdings,
    samples: Mutex<Vec<Sample>>,
    after: Mutex<Option<Holdings>>,
}

/// What the kernel counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Holdings {
    descriptors: usize,
    threads: usize,
}

struct Sample {
    /// Of the whole time, from 0 to 1.
    at: f64,
    anonymous_kib: u64,
    holdings: Holdings,
}

impl Health {
    /// Of a daemon that has served nobody yet.
    pub fn of(daemon: &Daemon) -> Self {
        Self {
            pid: daemon.pid(),
            admin: daemon.admin_socket(),
            before: holdings(daemon.pid()),
            samples: Mutex::default(),
            after: Mutex::default(),
        }
    }

    pub async fn watch(self: Arc<Self>, stage: Arc<Stage>) {
        let began = Instant::now();
        let mut said = Duration::ZERO;
        while !stage.is_over() {
            tokio::time::sleep(SAMPLE_EVERY).await;
            let sample = Sample {
                at: began.elapsed().as_secs_f64() / stage.length.as_secs_f64(),
                anonymous_kib: status(self.pid, "RssAnon"),
                holdings: holdings(self.pid),
            };
            if began.elapsed() >= said {
                said += Duration::from_secs(60);
                self.say(&stage, began.elapsed(), &sample);
            }
            self.samples.lock().unwrap().push(sample);
        }
    }

    fn say(&self, stage: &Stage, elapsed: Duration, sample: &Sample) {
        let share = |pid: &str| 100.0 * processor_seconds(pid) / elapsed.as_secs_f64().max(1.0);
        println!(
            "{:>5} s: {} calls, {} lists, {} events, {} uploads, {} left; {} KiB anonymous, {} descriptors, \
             {} threads; daemon {:.1} % of a core, this {:.1} %; {} problems",
            elapsed.as_secs(),
            stage.ledger.tally("call answered"),
            stage.ledger.tally("list answered"),
            stage.ledger.tally("event"),
            stage.ledger.tally("upload answered"),
            stage.ledger.tally("left in the middle"),
            sample.anonymous_kib,
            sample.holdings.descriptors,
            sample.holdings.threads,
            share(&self.pid.to_string()),
            share("self"),
            stage.ledger.problems().len(),
        );
    }

    /// Waits until the daemon is back where it was, and looks at its memory over the time.
    pub async fn settle(&self, stage: &Stage, daemon: &Daemon) {
        let deadline = Instant::now() + PATIENCE;
        let (mut held, mut gauges);
        loop {
            held = holdings(self.pid);
            gauges = self.gauges();
            let is_back = held.descriptors <= self.before.descriptors
                && held.threads <= self.before.threads
                && gauges.iter().all(|(_, value)| *value == 0.0);
            if is_back || Instant::now() > deadline {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        *self.after.lock().unwrap() = Some(held);
        if held.descriptors > self.before.descriptors || held.threads > self.before.threads {
            stage
                .ledger
                .problem(format!("it had {:?} and has {held:?}", self.before));
        }
        for (gauge, value) in gauges.into_iter().filter(|(_, value)| *value != 0.0) {
            stage
                .ledger
                .problem(format!("{gauge} is {value} at the end"));
        }
        let failed = daemon.metric("mcp_auth_proxy_reloads_total{outcome=\"failure\"}");
        if failed != 0.0 {
            stage.ledger.problem(format!("{failed} reloads failed"));
        }
        if stage.length < WARMING_UP * PARTS as u32 {
            return println!("growth of memory is not judged within less than an hour");
        }
        let parts = self.parts();
        let Some(first) = parts.get(WARM) else { return };
        for (number, part) in parts.iter().enumerate().skip(WARM) {
            if *part as f64 > *first as f64 * GROWTH {
                stage.ledger.problem(format!(
                    "memory grew from {first} KiB to {part} KiB in part {number}"
                ));
            }
        }
    }

    fn gauges(&self) -> Vec<(&'static str, f64)> {
        let (_, page) =
            admin::ask(&self.admin, "GET", "/metrics").expect("the admin socket answers");
        let value = |name: &str| {
            page.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
                .unwrap_or_else(|| panic!("no {name} on the page"))
        };
        GAUGES.iter().map(|name| (*name, value(name))).collect()
    }

    /// The median of each part of the time, in KiB.
    fn parts(&self) -> Vec<u64> {
        let samples = self.samples.lock().unwrap();
        let part = |number: usize| {
            let mut values: Vec<_> = samples
                .iter()
                .filter(|sample| ((sample.at * PARTS as f64) as usize).min(PARTS - 1) == number)
                .map(|sample| sample.anonymous_kib)
                .collect();
            values.sort_unstable();
            values.get(values.len() / 2).copied()
        };
        (0..PARTS).map_while(part).collect()
    }

    pub fn table(&self) -> String {
        let samples = self.samples.lock().unwrap();
        let most = samples
            .iter()
            .map(|sample| sample.holdings.descriptors)
            .max();
        let peak = samples.iter().map(|sample| sample.anonymous_kib).max();
        drop(samples);
        format!(
            "before {:?}, most descriptors {}, after {:?}\nanonymous memory, median of each sixth, in KiB: {:?}, \
             highest sample {}\n",
            self.before,
            most.unwrap_or_default(),
            self.after.lock().unwrap(),
            self.parts(),
            peak.unwrap_or_default(),
        )
    }
}

fn holdings(pid: u32) -> Holdings {
    let count =
        |what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
    Holdings {
        // Root alone may look at these; everybody else sees none.
        descriptors: count("fd"),
        threads: count("task"),
    }
}

fn status(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|value| value.split_whitespace().next()?.parse().ok())
        .unwrap()
}

/// User and system time so far.
fn processor_seconds(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = behind_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<f64>().unwrap())
        .sum();
    ticks / 100.0
}
