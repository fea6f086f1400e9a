//! Whether connections can be made, as the last attempts at it tell.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Default)]
pub struct Reach {
    /// No lock is needed to know that all is well.
    is_lost: AtomicBool,
    /// When it was last tried.
    tried: Mutex<Option<Instant>>,
}

impl Reach {
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Relaxed)
    }

    /// No connection could be made; true if that is news.
    pub fn lost(&self, now: Instant) -> bool {
        *self.tried.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        !self.is_lost.swap(true, Relaxed)
    }

    /// One could; true if that is news.
    pub fn found(&self) -> bool {
        self.is_lost() && self.is_lost.swap(false, Relaxed)
    }

    /// Whether it is time to try again, and the caller's turn to do so.
    pub fn is_due(&self, interval: Duration, now: Instant) -> bool {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = tried.is_none_or(|tried| now.saturating_duration_since(tried) >= interval);
        if is_due {
            *tried = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_and_its_end_are_news_once_and_one_caller_at_a_time_tries_again() {
        let (reach, start) = (Reach::default(), Instant::now());
        let interval = Duration::from_secs(1);
        assert!(!reach.found());
        assert!(reach.lost(start));
        assert!(!reach.lost(start));
        assert!(!reach.is_due(interval, start + interval / 2));
        assert!(reach.is_due(interval, start + interval));
        assert!(!reach.is_due(interval, start + interval));
        assert!(reach.is_lost());
        assert!(reach.found());
        assert!(!reach.found());
    }
}
