//! Whether an upstream is worth a request now.
//!
//! An upstream that does nothing but fail gets one request at a time, to see whether it is
//! back; everybody else is told at once. The states are named by what callers may do.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config;

/// The share of failures is looked at over this long.
const WINDOW: Duration = Duration::from_secs(10);

/// A share of fewer attempts says nothing.
const ENOUGH: u32 = 20;

pub struct Breaker {
    settings: config::Breaker,
    /// Nothing failed lately: no lock is needed to know that all may pass.
    is_calm: AtomicBool,
    state: Mutex<State>,
}

/// What callers may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody may send.
    Passing,
    /// Nobody may, for now.
    Refusing,
    /// One request is on its way to see; the others are refused.
    Probing,
}

impl Access {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Refusing => "refusing",
            Self::Probing => "probing",
        }
    }
}

enum State {
    Passing(Watch),
    Refusing { until: Instant },
    Probing { since: Instant },
}

/// What was seen since the first failure after a calm.
#[derive(Default)]
struct Watch {
    since: Option<Instant>,
    failing_since: Option<Instant>,
    /// Failures without a success between them.
    in_a_row: u32,
    failed: u32,
    all: u32,
}

impl Breaker {
    pub fn new(settings: config::Breaker) -> Self {
        Self {
            settings,
            is_calm: AtomicBool::new(true),
            state: Mutex::new(State::Passing(Watch::default())),
        }
    }

    pub fn has(&self, settings: &config::Breaker) -> bool {
        self.settings == *settings
    }

    /// Whether a request may be sent now.
    ///
    /// # Errors
    /// How long it makes no sense to ask again.
    pub fn admit(&self, now: Instant) -> Result<(), Duration> {
        if self.is_calm.load(Relaxed) {
            return Ok(());
        }
        let mut state = self.lock();
        let due = match *state {
            State::Passing(_) => return Ok(()),
            State::Refusing { until } => until,
            // The probe may hang: it is not waited for longer than for the next one.
            State::Probing { since } => since + self.settings.probe_interval,
        };
        if now < due {
            return Err(due - now);
        }
        *state = State::Probing { since: now };
        Ok(())
    }

    /// The upstream did what it was asked; true if that lets everybody pass again.
    pub fn succeeded(&self, now: Instant) -> bool {
        if self.is_calm.load(Relaxed) {
            return false;
        }
        let mut state = self.lock();
        let State::Passing(watch) = &mut *state else {
            *state = State::Passing(Watch::default());
            self.is_calm.store(true, Relaxed);
            return true;
        };
        watch.in_a_row = 0;
        watch.failing_since = None;
        watch.all += 1;
        if watch.is_over(now) {
            *watch = Watch::default();
            self.is_calm.store(true, Relaxed);
        }
        false
    }

    /// It did not; true if from now on requests are refused.
    pub fn failed(&self, now: Instant) -> bool {
        let mut state = self.lock();
        self.is_calm.store(false, Relaxed);
        let until = now + self.settings.probe_interval;
        match &mut *state {
            State::Passing(watch) => {
                watch.fail(now);
                if !watch.is_too_much(&self.settings, now) {
                    return false;
                }
                *state = State::Refusing { until };
                true
            }
            State::Probing { .. } => {
                *state = State::Refusing { until };
                false
            }
            // One that was sent before.
            State::Refusing { .. } => false,
        }
    }

    /// Whether everybody may send.
    pub fn is_passing(&self) -> bool {
        self.is_calm.load(Relaxed) || self.access() == Access::Passing
    }

    pub fn access(&self) -> Access {
        match *self.lock() {
            State::Passing(_) => Access::Passing,
            State::Refusing { .. } => Access::Refusing,
            State::Probing { .. } => Access::Probing,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    fn is_over(&self, now: Instant) -> bool {
        self.since
            .is_none_or(|since| now.saturating_duration_since(since) > WINDOW)
    }

    fn fail(&mut self, now: Instant) {
        if self.is_over(now) {
            // What happens in a row may last longer than a window.
            *self = Self {
                since: Some(now),
                failing_since: self.failing_since,
                in_a_row: self.in_a_row,
                ..Self::default()
            };
        }
        self.failing_since.get_or_insert(now);
        self.in_a_row += 1;
        self.failed += 1;
        self.all += 1;
    }

    fn is_too_much(&self, settings: &config::Breaker, now: Instant) -> bool {
        let lasts = |since: Option<Instant>| {
            since.is_some_and(|since| now.saturating_duration_since(since) >= settings.patience)
        };
        let in_a_row = self.in_a_row >= settings.failures && lasts(self.failing_since);
        let share = u64::from(self.failed) * 100;
        let limit = u64::from(self.all) * u64::from(settings.failure_percent);
        in_a_row || (self.all >= ENOUGH && share >= limit && lasts(self.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: config::Breaker = config::Breaker {
        failures: 5,
        failure_percent: 50,
        patience: Duration::from_secs(3),
        probe_interval: Duration::from_secs(1),
    };

    fn at(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    /// One that has just begun to refuse, and when.
    fn refusing() -> (Breaker, Instant) {
        let (breaker, start) = (Breaker::new(SETTINGS), Instant::now());
        for i in 0..4 {
            assert!(!breaker.failed(at(start, i * 500)));
        }
        assert!(breaker.failed(at(start, 3000)));
        (breaker, at(start, 3000))
    }

    #[test]
    fn nothing_but_failures_for_a_while_ends_in_refusals() {
        let (breaker, now) = refusing();
        assert_eq!(breaker.access(), Access::Refusing);
        assert_eq!(breaker.admit(now), Err(Duration::from_secs(1)));
        assert_eq!(breaker.admit(at(now, 400)), Err(Duration::from_millis(600)));
    }

    #[test]
    fn a_short_hiccup_is_ridden_out_however_many_failures_it_brings() {
        let (breaker, start) = (Breaker::new(SETTINGS), Instant::now());
        assert!((0..2900).all(|i| !breaker.failed(at(start, i))));
        assert_eq!(breaker.admit(at(start, 2999)), Ok(()));
        assert!(!breaker.succeeded(at(start, 3000)));
    }

    #[test]
    fn few_failures_are_no_outage_however_long_they_last() {
        let (breaker, start) = (Breaker::new(SETTINGS), Instant::now());
        assert!((0..4).all(|i| !breaker.failed(at(start, i * 60_000))));
        assert!(breaker.failed(at(start, 300_000)));
    }

    #[test]
    fn a_success_begins_the_count_anew() {
        let (breaker, start) = (Breaker::new(SETTINGS), Instant::now());
        for i in 0..4 {
            breaker.failed(at(start, i * 900));
        }
        breaker.succeeded(at(start, 3500));
        assert!(!breaker.failed(at(start, 3600)));
    }

    #[test]
    fn every_other_one_failing_is_too_much_and_every_third_is_not() {
        let fails = |nth: u64| {
            let (breaker, start) = (Breaker::new(SETTINGS), Instant::now());
            (0..1000).any(|i| {
                let now = at(start, i * 20);
                if i % nth == 0 {
                    breaker.failed(now)
                } else {
                    breaker.succeeded(now)
                }
            })
        };
        assert!(fails(2));
        assert!(!fails(3));
    }

    #[test]
    fn one_request_at_a_time_looks_whether_the_upstream_is_back() {
        let (breaker, now) = refusing();
        assert_eq!(breaker.admit(at(now, 1000)), Ok(()));
        assert_eq!(breaker.access(), Access::Probing);
        assert_eq!(
            breaker.admit(at(now, 1001)),
            Err(Duration::from_millis(999))
        );
        assert!(!breaker.failed(at(now, 1100)));
        assert!(breaker.admit(at(now, 2050)).is_err());
        assert_eq!(breaker.admit(at(now, 2100)), Ok(()));
        assert!(breaker.succeeded(at(now, 2110)));
        assert_eq!(breaker.admit(at(now, 2110)), Ok(()));
        assert_eq!(breaker.access(), Access::Passing);
    }

    #[test]
    fn a_probe_that_hangs_or_whose_client_left_does_not_bar_the_next() {
        let (breaker, now) = refusing();
        assert_eq!(breaker.admit(at(now, 1000)), Ok(()));
        assert!(breaker.admit(at(now, 1999)).is_err());
        assert_eq!(breaker.admit(at(now, 2000)), Ok(()));
    }

    #[test]
    fn after_a_quiet_window_old_failures_are_forgotten() {
        let (breaker, start) = (Breaker::new(SETTINGS), Instant::now());
        breaker.failed(start);
        breaker.succeeded(at(start, 11_000));
        assert!(breaker.is_calm.load(Relaxed));
    }
}
