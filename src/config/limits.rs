//! `[limits]`: sizes, connections and rates; and what an upstream takes at a time.

use std::time::Duration;

use super::decode::{Field, Section};
use super::{By, Concurrency, Limits, RateLimit};

const MIB: u64 = 1024 * 1024;

/// The most that can be asked of a count.
const MANY: u32 = 1_000_000;

pub fn decode_limits(root: &mut Section<'_>) -> Limits {
    let mut limits = Limits {
        max_body: 64 * MIB,
        replay_buffer: MIB as usize,
        cache: 16 * MIB as usize,
        max_connections: None,
        max_connections_per_peer: None,
        rate: Vec::new(),
    };
    let Some(mut s) = root.field("limits").and_then(|field| field.section()) else {
        return limits;
    };
    if let Some(field) = s.field("max_body") {
        match field.size() {
            Some(0) => field.problem("no request could have a body; write a size above zero"),
            Some(size) => limits.max_body = size,
            None => {}
        }
    }
    let replay = s.field("replay_buffer").and_then(|field| field.size());
    if let Some(size) = replay {
        limits.replay_buffer = usize::try_from(size).unwrap_or(usize::MAX);
    }
    if let Some(size) = s.field("cache").and_then(|field| field.size()) {
        limits.cache = usize::try_from(size).unwrap_or(usize::MAX);
    }
    for (key, into) in [
        ("max_connections", &mut limits.max_connections),
        (
            "max_connections_per_peer",
            &mut limits.max_connections_per_peer,
        ),
    ] {
        let field = s.field(key).filter(|field| !field.is("auto"));
        let number = field.and_then(|field| field.number(1, MANY));
        *into = number.map(|number| number as usize);
    }
    if let Some(field) = s.field("rate") {
        limits.rate = field.listed().iter().filter_map(decode_rate).collect();
    }
    s.finish();
    limits
}

fn decode_rate(field: &Field<'_>) -> Option<RateLimit> {
    let mut s = field.section()?;
    let requests = s.required(
        "requests",
        "write how many may pass, such as requests = 100",
    );
    let requests = requests.and_then(|field| field.number(1, MANY));
    let per = s.field("per").and_then(|field| field.duration());
    let burst = s.field("burst").and_then(|field| field.number(1, MANY));
    let by = s.field("by").map(|field| decode_by(&field));
    s.finish();
    let requests = requests?;
    Some(RateLimit {
        requests,
        per: per.unwrap_or(Duration::from_secs(1)),
        burst: burst.unwrap_or(requests),
        by: by.unwrap_or_default(),
    })
}

fn decode_by(field: &Field<'_>) -> By {
    let mut by = By::default();
    for item in field.listed() {
        let words = ["route", "credential", "peer", "tool"];
        match item.choice(&words.map(|word| (word, word))) {
            Some("route") => by.route = true,
            Some("credential") => by.credential = true,
            Some("peer") => by.peer = true,
            Some("tool") => by.tool = true,
            _ => {}
        }
    }
    by
}

/// `concurrency` of an upstream.
pub fn decode_concurrency(field: &Field<'_>) -> Option<Concurrency> {
    let mut s = field.section()?;
    let advice = "write how many requests it takes at a time";
    let requests = s.required("requests", advice);
    let requests = requests.and_then(|field| field.number(1, MANY));
    let queue = s.field("queue").and_then(|field| field.number(0, MANY));
    let wait = s.field("wait").and_then(|field| field.duration());
    s.finish();
    Some(Concurrency {
        requests: requests? as usize,
        queue: queue.unwrap_or(64) as usize,
        wait: wait.unwrap_or(Duration::from_secs(1)),
    })
}
