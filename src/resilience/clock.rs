//! How far an upstream's clock is from ours, as the `Date` of its answers tells (RFC 9110, section 6.6.1).

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use http::header::{AGE, DATE};

/// Clocks this far apart, in seconds, are worth a warning: a fifth of the 300 s that a signature is good for.
const ALARMING: u64 = 60;
/// Clocks that were apart and are closer than this again agree.
const AGREEING: u64 = 50;
/// Below this, in seconds, the header's granularity and the answer's way count for as much as the clocks do.
const TRIFLING: u64 = 5;
/// More than this, in seconds, is not corrected for: no upstream may have us sign for another day.
const MAX_CORRECTION: u64 = 12 * 60 * 60;

const UNKNOWN: i64 = i64::MIN;

/// An upstream's clock as seen from here. Takes ours from its caller.
#[derive(Debug)]
pub struct Clock {
    /// The second of ours in which a `Date` was last read: one a second is enough.
    looked_at: AtomicU64,
    /// Seconds by which the upstream's is ahead.
    skew: AtomicI64,
    is_apart: AtomicBool,
}

/// What an answer told of its upstream's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Seconds by which it is ahead of ours.
    pub skew: i64,
    pub change: Option<Change>,
}

/// What is worth telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The upstream's clock is this many seconds ahead of ours, or behind it if negative.
    Apart(i64),
    Together,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            looked_at: AtomicU64::new(0),
            skew: AtomicI64::new(UNKNOWN),
            is_apart: AtomicBool::new(false),
        }
    }
}

impl Clock {
    /// Reads an answer's `Date`, unless one was read in this second already.
    pub fn observe(&self, headers: &HeaderMap, now: SystemTime) -> Option<Reading> {
        let second = now.duration_since(UNIX_EPOCH).ok()?.as_secs();
        if self.looked_at.load(Ordering::Relaxed) == second {
            return None;
        }
        let skew = skew(headers, second)?;
        self.looked_at.store(second, Ordering::Relaxed);
        self.skew.store(skew, Ordering::Relaxed);
        let change = self.change(skew);
        Some(Reading { skew, change })
    }

    fn change(&self, skew: i64) -> Option<Change> {
        let distance = skew.unsigned_abs();
        let was_apart = self.is_apart.load(Ordering::Relaxed);
        let is_apart = distance >= if was_apart { AGREEING } else { ALARMING };
        // Of several that see the change at once, one tells of it.
        if is_apart == was_apart || self.is_apart.swap(is_apart, Ordering::Relaxed) == is_apart {
            return None;
        }
        Some(if is_apart {
            Change::Apart(skew)
        } else {
            Change::Together
        })
    }

    /// Seconds by which the upstream's clock is ahead of ours, once it has told.
    pub fn skew(&self) -> Option<i64> {
        Some(self.skew.load(Ordering::Relaxed)).filter(|skew| *skew != UNKNOWN)
    }

    /// Whether the upstream's clock and ours are too far apart to be left alone.
    pub fn is_apart(&self) -> bool {
        self.is_apart.load(Ordering::Relaxed)
    }

    /// The time at the upstream, as far as it may correct ours.
    pub fn at_upstream(&self, now: SystemTime) -> SystemTime {
        let skew = self.skew().unwrap_or(0);
        let distance = skew.unsigned_abs();
        if !(TRIFLING..=MAX_CORRECTION).contains(&distance) {
            return now;
        }
        let distance = Duration::from_secs(distance);
        let corrected = if skew > 0 {
            now.checked_add(distance)
        } else {
            now.checked_sub(distance)
        };
        corrected.unwrap_or(now)
    }

    /// Whether a signature made for a clock of this skew may have been refused for its time.
    pub fn has_moved_since(&self, before: Option<i64>) -> bool {
        let (before, now) = (before.unwrap_or(0), self.skew().unwrap_or(0));
        now.abs_diff(before) >= ALARMING && now.unsigned_abs() <= MAX_CORRECTION
    }
}

/// `None` for an answer that says nothing of now: without a date, or out of somebody's cache.
fn skew(headers: &HeaderMap, second: u64) -> Option<i64> {
    if headers.get(AGE).is_some_and(|age| age != "0") {
        return None;
    }
    let date = headers.get(DATE)?.to_str().ok()?;
    let date = httpdate::parse_http_date(date).ok()?;
    let date = date.duration_since(UNIX_EPOCH).ok()?.as_secs();
    i64::try_from(date)
        .ok()?
        .checked_sub_unsigned(second)
        .filter(|skew| *skew != UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
    }

    fn dated(seconds: u64) -> HeaderMap {
        let date = httpdate::fmt_http_date(at(seconds));
        HeaderMap::from_iter([(DATE, date.parse().unwrap())])
    }

    impl Clock {
        fn told(&self, headers: &HeaderMap, now: SystemTime) -> Option<Change> {
            self.observe(headers, now)
                .and_then(|reading| reading.change)
        }
    }

    #[test]
    fn clocks_that_part_are_told_of_once_and_so_is_their_return() {
        let clock = Clock::default();
        assert_eq!(clock.told(&dated(59), at(0)), None);
        assert_eq!(clock.told(&dated(61), at(1)), Some(Change::Apart(60)));
        assert_eq!(clock.told(&dated(202), at(2)), None);
        // Not far enough back to be done with it.
        assert_eq!(clock.told(&dated(55), at(3)), None);
        assert!(clock.is_apart());
        assert_eq!(clock.told(&dated(4), at(4)), Some(Change::Together));
        let behind = clock.told(&dated(5), at(100));
        assert_eq!(behind, Some(Change::Apart(-95)));
    }

    #[test]
    fn one_date_a_second_is_read() {
        let clock = Clock::default();
        let _ = clock.observe(&dated(0), at(0));
        assert_eq!(clock.observe(&dated(500), at(0)), None);
        assert_eq!(clock.skew(), Some(0));
        assert!(clock.observe(&dated(501), at(1)).is_some());
    }

    #[test]
    fn what_says_nothing_of_now_is_left_aside() {
        let clock = Clock::default();
        let mut old = dated(500);
        old.insert(AGE, "3".parse().unwrap());
        let no_date = HeaderMap::from_iter([(DATE, "yesterday".parse().unwrap())]);
        for headers in [old, no_date, HeaderMap::new()] {
            assert_eq!(clock.observe(&headers, at(0)), None);
        }
        assert_eq!(clock.skew(), None);
        assert_eq!(clock.at_upstream(at(0)), at(0));
    }

    #[test]
    fn a_correction_is_neither_for_trifles_nor_for_days() {
        for (date, corrected) in [
            (1_000_000 - 600, 1_000_000 - 600),
            (1_000_000 + 600, 1_000_000 + 600),
            (1_000_000 + 4, 1_000_000),
            (1_000_000 + 13 * 3600, 1_000_000),
            (1_000_000 - 13 * 3600, 1_000_000),
        ] {
            let clock = Clock::default();
            let _ = clock.observe(&dated(date), at(1_000_000));
            assert_eq!(clock.at_upstream(at(1_000_000)), at(corrected), "{date}");
        }
    }

    #[test]
    fn a_refusal_may_be_for_the_time_only_if_the_clock_turned_out_to_be_another() {
        let clock = Clock::default();
        assert!(!clock.has_moved_since(None));
        let _ = clock.observe(&dated(600), at(0));
        assert!(clock.has_moved_since(None));
        assert!(!clock.has_moved_since(Some(590)));
        let _ = clock.observe(&dated(20 * 3600), at(1));
        assert!(!clock.has_moved_since(None));
    }
}
