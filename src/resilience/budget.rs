//! How many retries an upstream may get: a share of the recent requests, so that an outage is not multiplied.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// "Recent" is this many seconds.
const WINDOW: u64 = 10;

/// Allowed in each window whatever the share: few requests shall not mean no retries.
const FLOOR: u64 = 10 * WINDOW;

pub struct Budget {
    percent: u64,
    start: Instant,
    requests: Recent,
    retries: Recent,
}

impl Budget {
    pub fn new(percent: u32, now: Instant) -> Self {
        Self {
            percent: percent.into(),
            start: now,
            requests: Recent::default(),
            retries: Recent::default(),
        }
    }

    /// A request came, which may or may not be retried later.
    pub fn request(&self, now: Instant) {
        self.requests.add(self.second(now));
    }

    /// Whether another attempt is within the budget; it is taken from it then.
    pub fn retry(&self, now: Instant) -> bool {
        let second = self.second(now);
        let allowed = self.requests.sum(second) * self.percent / 100 + FLOOR;
        let is_allowed = self.retries.sum(second) < allowed;
        if is_allowed {
            self.retries.add(second);
        }
        is_allowed
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs()
    }
}

/// Events of the last seconds, counted without a lock: each slot holds its second and its count.
#[derive(Default)]
struct Recent([AtomicU64; WINDOW as usize]);

const COUNT_BITS: u32 = 32;

impl Recent {
    fn add(&self, second: u64) {
        let slot = &self.0[(second % WINDOW) as usize];
        let seen = slot.load(Relaxed);
        if seen >> COUNT_BITS == second {
            slot.fetch_add(1, Relaxed);
        } else if slot
            .compare_exchange(seen, second << COUNT_BITS | 1, Relaxed, Relaxed)
            .is_err()
        {
            // Another thread was first to begin this second.
            slot.fetch_add(1, Relaxed);
        }
    }

    fn sum(&self, second: u64) -> u64 {
        let oldest = (second + 1).saturating_sub(WINDOW);
        self.0
            .iter()
            .map(|slot| slot.load(Relaxed))
            .filter(|slot| (oldest..=second).contains(&(slot >> COUNT_BITS)))
            .map(|slot| slot & u64::from(u32::MAX))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn granted(budget: &Budget, now: Instant) -> usize {
        (0..10_000).take_while(|_| budget.retry(now)).count()
    }

    #[test]
    fn retries_are_a_share_of_the_recent_requests_and_a_few_more() {
        let start = Instant::now();
        let budget = Budget::new(20, start);
        for second in 0..10 {
            for _ in 0..1000 {
                budget.request(start + Duration::from_secs(second));
            }
        }
        let now = start + Duration::from_secs(9);
        assert_eq!(granted(&budget, now), 2000 + 100);
        assert_eq!(granted(&budget, now), 0);
    }

    #[test]
    fn what_is_long_past_counts_neither_for_nor_against() {
        let start = Instant::now();
        let budget = Budget::new(50, start);
        for _ in 0..1000 {
            budget.request(start);
        }
        assert_eq!(granted(&budget, start), 500 + 100);
        assert_eq!(granted(&budget, start + Duration::from_secs(9)), 0);
        assert_eq!(granted(&budget, start + Duration::from_secs(10)), 100);
        assert_eq!(granted(&budget, start + Duration::from_secs(3600)), 100);
    }

    #[test]
    fn a_share_of_nothing_leaves_the_few() {
        let start = Instant::now();
        let budget = Budget::new(0, start);
        for _ in 0..1000 {
            budget.request(start);
        }
        assert_eq!(granted(&budget, start), 100);
    }
}
