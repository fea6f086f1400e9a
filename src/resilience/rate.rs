//! Rate limits: the generic cell rate algorithm (ITU-T I.371), one cell for each key.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::RateLimit;

/// More keys than this share one cell: memory does not grow with what clients call themselves.
const MAX_KEYS: usize = 16 * 1024;
const SHARED: u64 = u64::MAX;

pub struct Rate {
    settings: RateLimit,
    start: Instant,
    /// When a cell is empty again, in nanoseconds since the start.
    empty_at: Mutex<HashMap<u64, u64>>,
}

impl Rate {
    pub fn new(settings: RateLimit, now: Instant) -> Self {
        Self {
            settings,
            start: now,
            empty_at: Mutex::default(),
        }
    }

    pub fn settings(&self) -> &RateLimit {
        &self.settings
    }

    /// Counts one more under `key`.
    ///
    /// # Errors
    /// It is too many; how long until one more is not. Nothing was counted then.
    pub fn take(&self, key: u64, now: Instant) -> Result<(), Duration> {
        let now = nanoseconds(now.saturating_duration_since(self.start));
        let interval = nanoseconds(self.settings.per) / u64::from(self.settings.requests);
        let tolerance = interval.saturating_mul(u64::from(self.settings.burst.saturating_sub(1)));
        let mut cells = self.empty_at.lock().unwrap_or_else(PoisonError::into_inner);
        if cells.len() >= MAX_KEYS && !cells.contains_key(&key) {
            cells.retain(|_, empty_at| *empty_at > now);
        }
        let key = if cells.len() < MAX_KEYS || cells.contains_key(&key) {
            key
        } else {
            SHARED
        };
        let empty_at = cells.entry(key).or_insert(now);
        let fill = empty_at.saturating_sub(now);
        if fill > tolerance {
            return Err(Duration::from_nanos(fill - tolerance));
        }
        *empty_at = now.saturating_add(fill).saturating_add(interval);
        Ok(())
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(requests: u32, per: u64, burst: u32) -> (Rate, Instant) {
        let settings = RateLimit {
            requests,
            per: Duration::from_secs(per),
            burst,
            by: Default::default(),
        };
        let now = Instant::now();
        (Rate::new(settings, now), now)
    }

    fn taken(rate: &Rate, key: u64, now: Instant) -> usize {
        (0..1000)
            .take_while(|_| rate.take(key, now).is_ok())
            .count()
    }

    #[test]
    fn a_burst_beyond_all_time_lets_everything_pass() {
        let (rate, now) = rate(1, 24 * 60 * 60, 1_000_000);
        assert_eq!(taken(&rate, 1, now), 1000);
    }

    #[test]
    fn a_burst_passes_and_then_one_at_a_time() {
        let (rate, start) = rate(10, 1, 5);
        assert_eq!(taken(&rate, 1, start), 5);
        assert_eq!(rate.take(1, start), Err(Duration::from_millis(100)));
        let later = start + Duration::from_millis(250);
        assert_eq!(taken(&rate, 1, later), 2);
        assert_eq!(rate.take(1, later), Err(Duration::from_millis(50)));
        assert_eq!(taken(&rate, 1, start + Duration::from_secs(60)), 5);
    }

    #[test]
    fn no_second_passes_more_than_the_rate_and_the_burst() {
        let (rate, start) = rate(200, 1, 20);
        let passed = |from: u64, to: u64| {
            (from..to)
                .map(|ms| taken(&rate, 1, start + Duration::from_millis(ms)))
                .sum::<usize>()
        };
        assert_eq!(passed(0, 1000), 20 + 199);
        assert_eq!(passed(1000, 2000), 200);
    }

    #[test]
    fn slow_rates_are_rates_too() {
        let (rate, start) = rate(2, 60, 1);
        assert_eq!(taken(&rate, 1, start), 1);
        assert_eq!(rate.take(1, start), Err(Duration::from_secs(30)));
    }

    #[test]
    fn each_key_counts_for_itself_until_there_are_too_many() {
        let (rate, now) = rate(1, 1, 1);
        for key in 0..MAX_KEYS as u64 {
            assert_eq!(rate.take(key, now), Ok(()));
        }
        assert_eq!(rate.take(MAX_KEYS as u64, now), Ok(()));
        assert!(rate.take(MAX_KEYS as u64 + 1, now).is_err(), "not shared");
        let later = now + Duration::from_secs(2);
        assert_eq!(rate.take(MAX_KEYS as u64 + 1, later), Ok(()));
        assert_eq!(rate.empty_at.lock().unwrap().len(), 1);
    }
}
