//! When a token is used, fetched, waited for, or given up for now. Knows the time by being told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, HeaderValue};

use super::issuer::Granted;
use crate::auth::{Added, Standing};

/// For tokens whose issuer does not say how long they last (RFC 6749, section 5.1).
const UNTOLD_LIFETIME: Duration = Duration::from_secs(600);
/// How long before its end a token is fetched anew, at most, and as a part of its lifetime.
const LEAD: Duration = Duration::from_secs(60);
const LEAD_PART: u32 = 5;
/// A token on its way must not expire there.
const FLIGHT: Duration = Duration::from_secs(5);
/// A token refused sooner after it was fetched is not the reason for the refusal.
const WORTH_ANOTHER: Duration = Duration::from_secs(5);
/// The first and the longest pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

pub struct Token {
    header: HeaderValue,
    fetched: Instant,
    refresh: Instant,
    expires: Instant,
}

impl Token {
    fn new(granted: Granted, now: Instant) -> Self {
        let lifetime = granted.lifetime.unwrap_or(UNTOLD_LIFETIME);
        // Many daemons that started together must not come back together.
        let lead = LEAD
            .min(lifetime / LEAD_PART)
            .mul_f64(1.0 + fastrand::f64() / 2.0);
        Self {
            header: granted.header,
            fetched: now,
            refresh: now + lifetime.saturating_sub(lead),
            expires: now + lifetime.saturating_sub(FLIGHT.min(lifetime / 10)),
        }
    }

    pub fn header(&self) -> Added {
        Added::from([(AUTHORIZATION, self.header.clone())])
    }
}

#[derive(Default)]
pub struct Cache {
    token: Option<Arc<Token>>,
    is_fetching: bool,
    failure: Option<Failure>,
}

struct Failure {
    reason: String,
    in_a_row: u32,
    again_at: Instant,
}

/// What a request that wants a token does next.
pub enum Step {
    Use(Arc<Token>),
    /// Somebody has to fetch the next one meanwhile.
    UseAndFetch(Arc<Token>),
    Fetch,
    Wait,
    Fail(String),
}

impl Cache {
    /// What to do next. Changes nothing.
    pub fn next(&self, now: Instant) -> Step {
        let may_fetch = !self.is_fetching
            && self
                .failure
                .as_ref()
                .is_none_or(|failure| failure.again_at <= now);
        match (&self.token, &self.failure) {
            (Some(token), _) if now < token.expires => {
                if may_fetch && token.refresh <= now {
                    Step::UseAndFetch(Arc::clone(token))
                } else {
                    Step::Use(Arc::clone(token))
                }
            }
            _ if may_fetch => Step::Fetch,
            _ if self.is_fetching => Step::Wait,
            (_, Some(failure)) => Step::Fail(failure.reason.clone()),
            (_, None) => Step::Wait,
        }
    }

    /// A token that was fetched at `then` or later, however short it lasts.
    pub fn fetched_since(&self, then: Instant) -> Option<Arc<Token>> {
        let token = self.token.as_ref().filter(|token| token.fetched >= then);
        token.cloned()
    }

    /// As [`Cache::next`]; whoever is told to fetch is the only one until that ends.
    pub fn next_or_begin(&mut self, now: Instant) -> Step {
        let step = self.next(now);
        if matches!(step, Step::Fetch | Step::UseAndFetch(_)) {
            self.is_fetching = true;
        }
        step
    }

    pub fn fetched(&mut self, granted: Granted, now: Instant) {
        self.is_fetching = false;
        self.failure = None;
        self.token = Some(Arc::new(Token::new(granted, now)));
    }

    pub fn failed(&mut self, reason: String, now: Instant) {
        self.is_fetching = false;
        let before = self.failure.as_ref().map_or(0, |failure| failure.in_a_row);
        let pause = FIRST_PAUSE
            .saturating_mul(1 << before.min(6))
            .min(LONGEST_PAUSE);
        self.failure = Some(Failure {
            reason,
            in_a_row: before + 1,
            again_at: now + pause.mul_f64(0.5 + fastrand::f64() / 2.0),
        });
    }

    /// The upstream refused `token`. Returns whether another one may do.
    pub fn refused(&mut self, token: &Token, now: Instant) -> bool {
        match &self.token {
            Some(present) if std::ptr::eq(&**present, token) => {
                if now.saturating_duration_since(token.fetched) < WORTH_ANOTHER {
                    return false;
                }
                self.token = None;
                true
            }
            // Somebody else was refused before, and has fetched or fetches another.
            _ => true,
        }
    }

    pub fn standing(&self, now: Instant) -> Standing {
        let token = self.token.as_ref().filter(|token| now < token.expires);
        let left = |until: Instant| until.saturating_duration_since(now).as_secs();
        Standing {
            token_expires_in: token.map(|token| left(token.expires)),
            token_refresh_in: token.map(|token| left(token.refresh)),
            error: self.failure.as_ref().map(|failure| failure.reason.clone()),
            is_usable: token.is_some() || self.failure.is_none(),
            ..Standing::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(seconds: u64) -> Granted {
        Granted {
            header: HeaderValue::from_static("Bearer t"),
            lifetime: Some(Duration::from_secs(seconds)),
        }
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn one_fetches_and_the_others_wait() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        assert!(matches!(cache.next_or_begin(now), Step::Fetch));
        assert!(matches!(cache.next_or_begin(now), Step::Wait));
        cache.fetched(granted(3600), now);
        assert!(matches!(cache.next_or_begin(now), Step::Use(_)));
    }

    #[test]
    fn a_token_is_fetched_anew_before_it_expires_and_used_until_then() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        cache.next_or_begin(start);
        cache.fetched(granted(3600), start);
        assert!(matches!(cache.next(after(start, 3500)), Step::Use(_)));
        assert!(matches!(
            cache.next_or_begin(after(start, 3545)),
            Step::UseAndFetch(_)
        ));
        assert!(matches!(
            cache.next_or_begin(after(start, 3546)),
            Step::Use(_)
        ));
        assert!(matches!(
            cache.next_or_begin(after(start, 3596)),
            Step::Wait
        ));
    }

    #[test]
    fn a_failure_is_answered_with_its_reason_until_the_pause_is_over() {
        let (mut cache, mut now) = (Cache::default(), Instant::now());
        for longest in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            assert!(matches!(cache.next_or_begin(now), Step::Fetch));
            cache.failed("no".to_owned(), now);
            let soon = now + Duration::from_millis(longest * 499);
            assert!(matches!(cache.next_or_begin(soon), Step::Fail(reason) if reason == "no"));
            now = after(now, longest);
        }
    }

    #[test]
    fn a_failure_costs_nothing_while_the_token_is_valid() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        cache.fetched(granted(100), start);
        let late = after(start, 94);
        assert!(matches!(cache.next_or_begin(late), Step::UseAndFetch(_)));
        cache.failed("no".to_owned(), late);
        assert!(matches!(cache.next_or_begin(late), Step::Use(_)));
        let standing = cache.standing(late);
        assert!(standing.is_usable && standing.error.is_some());
        assert!(!cache.standing(after(start, 96)).is_usable);
    }

    #[test]
    fn a_refused_token_is_given_up_but_not_one_that_was_just_fetched() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        cache.fetched(granted(3600), start);
        let Step::Use(token) = cache.next(start) else {
            panic!("it is valid")
        };
        assert!(!cache.refused(&token, after(start, 1)));
        assert!(matches!(cache.next(after(start, 1)), Step::Use(_)));
        assert!(cache.refused(&token, after(start, 6)));
        assert!(matches!(cache.next_or_begin(after(start, 6)), Step::Fetch));
        assert!(
            cache.refused(&token, after(start, 6)),
            "another is on its way"
        );
    }

    #[test]
    fn whoever_waited_gets_what_came_even_if_it_has_expired_since() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        cache.next_or_begin(start);
        cache.fetched(granted(1), after(start, 1));
        assert!(matches!(cache.next(after(start, 5)), Step::Fetch));
        assert!(cache.fetched_since(start).is_some());
        assert!(cache.fetched_since(after(start, 2)).is_none());
    }

    #[test]
    fn a_token_without_a_stated_lifetime_and_one_of_a_second_are_used() {
        for lifetime in [None, Some(Duration::from_secs(1)), Some(Duration::MAX)] {
            let (mut cache, now) = (Cache::default(), Instant::now());
            let granted = Granted {
                lifetime: lifetime.map(|lifetime| lifetime.min(super::super::issuer::LONGEST)),
                ..granted(0)
            };
            cache.fetched(granted, now);
            assert!(matches!(cache.next(now), Step::Use(_)), "{lifetime:?}");
        }
    }
}
