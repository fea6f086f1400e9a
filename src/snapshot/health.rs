//! What is known of an upstream's health: from requests as they pass, and from probes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// How long a verdict is good for `/readyz` before the upstream is looked at again.
pub const FRESH: Duration = Duration::from_secs(10);

pub struct Health {
    state: Mutex<State>,
    /// One probe at a time, however many ask.
    pub probing: Semaphore,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            probing: Semaphore::new(1),
        }
    }
}

#[derive(Default)]
struct State {
    verdict: Option<Verdict>,
    refused: Option<(String, Instant)>,
}

/// The last thing seen of an upstream.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// `Err` says what stands in the way.
    pub outcome: Result<(), String>,
    pub at: Instant,
}

impl Verdict {
    pub fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < FRESH
    }
}

impl Health {
    pub fn reached(&self, now: Instant) {
        self.lock().verdict = Some(Verdict {
            outcome: Ok(()),
            at: now,
        });
    }

    pub fn failed(&self, reason: String, now: Instant) {
        self.lock().verdict = Some(Verdict {
            outcome: Err(reason),
            at: now,
        });
    }

    pub fn verdict(&self) -> Option<Verdict> {
        self.lock().verdict.clone()
    }

    /// The upstream refused our credential, in these words.
    pub fn credential_refused(&self, words: String, now: Instant) {
        self.lock().refused = Some((words, now));
    }

    pub fn credential_accepted(&self) {
        self.lock().refused = None;
    }

    pub fn credential_refusal(&self) -> Option<(String, Instant)> {
        self.lock().refused.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
