//! The last answers of the proxy's own, for `status`: a few, with those alike folded into one.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::{Code, Error};

const KEPT: usize = 10;
/// Of a message, in characters.
const MAX_MESSAGE: usize = 400;

/// Bounded; what clients were told, and so without a secret.
#[derive(Default)]
pub struct Recent(Mutex<VecDeque<Trouble>>);

#[derive(Debug, Clone)]
pub struct Trouble {
    pub code: Code,
    pub message: String,
    pub count: u64,
    /// The latest of them.
    pub at: SystemTime,
}

impl Recent {
    pub fn note(&self, error: &Error, now: SystemTime) {
        let message: String = error.message.chars().take(MAX_MESSAGE).collect();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_alike = |one: &Trouble| one.code == error.code && one.message == message;
        let before = kept.iter().position(is_alike);
        let count = before
            .and_then(|index| kept.remove(index))
            .map_or(0, |one| one.count);
        kept.push_front(Trouble {
            code: error.code,
            message,
            count: count + 1,
            at: now,
        });
        kept.truncate(KEPT);
    }

    /// The latest first.
    pub fn all(&self) -> Vec<Trouble> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_alike_are_one_and_the_oldest_are_forgotten() {
        let recent = Recent::default();
        let note = |message: &str| {
            let error = Error::new(Code::NoRoute, message);
            recent.note(&error, SystemTime::UNIX_EPOCH);
        };
        note("again");
        for number in 0..KEPT - 1 {
            note(&number.to_string());
        }
        note("again");
        let all = recent.all();
        assert_eq!(
            (all.len(), &*all[0].message, all[0].count),
            (KEPT, "again", 2)
        );
        note("one more");
        assert!(recent.all().iter().all(|one| one.message != "0"));
    }
}
