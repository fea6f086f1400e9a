//! How long requests wait for a daemon that is not there: a few seconds after it was missed first, then not at all.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub struct Patience(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    missed_since: Option<Instant>,
    told: bool,
}

impl Patience {
    /// Whether a request that found nobody may wait and look again.
    pub fn lasts(&self, now: Instant) -> bool {
        let since = *self.lock().missed_since.get_or_insert(now);
        now.duration_since(since) < LIMIT
    }

    /// True once per absence: the person at the other end of stderr is told once.
    pub fn tell(&self) -> bool {
        !std::mem::replace(&mut self.lock().told, true)
    }

    /// Somebody answers. True if its absence had been told of.
    pub fn reached(&self) -> bool {
        std::mem::take(&mut *self.lock()).told
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_spent_once_per_absence() {
        let patience = Patience::default();
        let start = Instant::now();
        assert!(patience.lasts(start));
        assert!(patience.lasts(start + Duration::from_secs(4)));
        assert!(!patience.lasts(start + LIMIT));
        assert!(patience.tell());
        assert!(!patience.tell());
        assert!(patience.reached());
        assert!(!patience.reached());
        assert!(patience.lasts(start + LIMIT));
    }
}
