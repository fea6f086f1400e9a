//! Times of many requests, and what is told of them.

use serde_json::{Value, json};

/// Nanoseconds, one for each.
#[derive(Default)]
pub struct Times(Vec<u64>);

impl Times {
    pub fn add(&mut self, nanoseconds: u64) {
        self.0.push(nanoseconds);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// In microseconds; nothing of nothing.
    pub fn told(&mut self) -> Value {
        self.0.sort_unstable();
        if self.0.is_empty() {
            return Value::Null;
        }
        json!({
            "p50": self.at(0.5),
            "p90": self.at(0.9),
            "p99": self.at(0.99),
            "max": self.at(1.0),
        })
    }

    /// The smallest time that `share` of all do not exceed.
    fn at(&self, share: f64) -> f64 {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0[rank.clamp(1, self.0.len()) - 1] as f64 / 1000.0
    }
}

/// What went wrong, counted, with the first of it in words.
#[derive(Default)]
pub struct Faults {
    count: u64,
    first: Option<String>,
}

impl Faults {
    pub fn add(&mut self, fault: impl std::fmt::Display) {
        self.count += 1;
        self.first.get_or_insert_with(|| fault.to_string());
    }

    pub fn told(&self) -> Value {
        json!({ "count": self.count, "first": self.first })
    }
}
