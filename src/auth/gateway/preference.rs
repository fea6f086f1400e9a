//! Which of two keys a gateway takes: found out by being refused, remembered for a while.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the previous key is taken first once it was found to work, so that
/// not each request costs two. Then the present one has its chance again.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How long a gateway that takes neither key is not asked twice for one request.
const BOTH_REFUSED: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Present,
    Previous,
}

impl Which {
    pub fn other(self) -> Self {
        match self {
            Self::Present => Self::Previous,
            Self::Previous => Self::Present,
        }
    }
}

/// What was found out, when it is news.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    ToPrevious,
    ToPresent,
}

#[derive(Default)]
pub struct Preference(Mutex<State>);

#[derive(Default)]
struct State {
    /// The previous key comes first until then.
    previous_until: Option<Instant>,
    /// The last key that worked, as it was told.
    told_previous: bool,
    refused: [Option<Instant>; 2],
}

impl Preference {
    pub fn choose(&self, now: Instant) -> Which {
        match self.lock().previous_until {
            Some(until) if now < until => Which::Previous,
            _ => Which::Present,
        }
    }

    /// Whether the other key is worth an attempt.
    pub fn refused(&self, which: Which, now: Instant) -> bool {
        let mut state = self.lock();
        state.refused[which as usize] = Some(now);
        if which == Which::Previous {
            state.previous_until = None;
        }
        state.refused[which.other() as usize]
            .is_none_or(|at| now.saturating_duration_since(at) >= BOTH_REFUSED)
    }

    pub fn accepted(&self, which: Which, now: Instant) -> Option<Change> {
        let mut state = self.lock();
        state.refused[which as usize] = None;
        match which {
            Which::Previous => {
                // Its time runs from when it was found, or the present key never had its chance.
                if state.previous_until.is_none_or(|until| until <= now) {
                    state.previous_until = Some(now + REMEMBERED);
                }
                let is_news = !std::mem::replace(&mut state.told_previous, true);
                is_news.then_some(Change::ToPrevious)
            }
            Which::Present => {
                state.previous_until = None;
                let is_news = std::mem::replace(&mut state.told_previous, false);
                is_news.then_some(Change::ToPresent)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_previous_key_is_taken_first_for_a_while_once_it_was_found_to_work() {
        let preference = Preference::default();
        let start = Instant::now();
        assert_eq!(preference.choose(start), Which::Present);
        assert!(preference.refused(Which::Present, start));
        assert_eq!(
            preference.accepted(Which::Previous, start),
            Some(Change::ToPrevious)
        );
        assert_eq!(preference.choose(start + 59 * SECOND), Which::Previous);
        assert_eq!(
            preference.accepted(Which::Previous, start + 59 * SECOND),
            None
        );
        assert_eq!(preference.choose(start + 60 * SECOND), Which::Present);
    }

    #[test]
    fn the_present_key_ends_it_as_soon_as_it_works() {
        let preference = Preference::default();
        let start = Instant::now();
        preference.refused(Which::Present, start);
        preference.accepted(Which::Previous, start);
        let later = start + REMEMBERED;
        assert_eq!(
            preference.accepted(Which::Present, later),
            Some(Change::ToPresent)
        );
        assert_eq!(preference.accepted(Which::Present, later), None);
        assert_eq!(preference.choose(later), Which::Present);
    }

    #[test]
    fn a_gateway_that_takes_neither_is_not_asked_twice_each_time() {
        let preference = Preference::default();
        let start = Instant::now();
        assert!(preference.refused(Which::Present, start));
        assert!(!preference.refused(Which::Previous, start));
        assert!(!preference.refused(Which::Present, start + SECOND));
        assert!(preference.refused(Which::Present, start + 6 * SECOND));
    }

    #[test]
    fn a_previous_key_that_expires_gives_way_at_once() {
        let preference = Preference::default();
        let start = Instant::now();
        preference.refused(Which::Present, start);
        preference.accepted(Which::Previous, start);
        let later = start + 10 * SECOND;
        assert!(preference.refused(Which::Previous, later));
        assert_eq!(preference.choose(later), Which::Present);
    }
}
