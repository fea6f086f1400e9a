//! How the programs fare that print secrets anew: what goes wrong is remembered until it goes right.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

#[derive(Default)]
pub struct Refreshes {
    troubles: Mutex<BTreeMap<String, Trouble>>,
    /// By credential.
    due: Mutex<BTreeMap<String, Instant>>,
}

/// A secret that could not be had anew; the one before goes on.
#[derive(Debug, Clone)]
pub struct Trouble {
    pub reason: String,
    pub since: Instant,
    pub in_a_row: u32,
}

impl Refreshes {
    pub fn succeeded(&self, place: &str) -> Option<Trouble> {
        self.lock().remove(place)
    }

    pub fn failed(&self, place: &str, reason: String, now: Instant) -> Trouble {
        let mut all = self.lock();
        let trouble = all.entry(place.to_owned()).or_insert(Trouble {
            reason: String::new(),
            since: now,
            in_a_row: 0,
        });
        trouble.reason = reason;
        trouble.in_a_row += 1;
        trouble.clone()
    }

    /// Only of secrets that are still in use.
    pub fn keep(&self, is_used: impl Fn(&str) -> bool) {
        self.lock().retain(|place, _| is_used(place));
    }

    /// By the place where the secret stands in the configuration.
    pub fn troubles(&self) -> Vec<(String, Trouble)> {
        let all = self.lock();
        all.iter()
            .map(|(place, trouble)| (place.clone(), trouble.clone()))
            .collect()
    }

    /// When each credential that has such a secret gets it anew.
    pub fn plan(&self, due: BTreeMap<String, Instant>) {
        *self.due.lock().unwrap_or_else(PoisonError::into_inner) = due;
    }

    pub fn due(&self, credential: &str) -> Option<Instant> {
        let due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        due.get(credential).copied()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Trouble>> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
