//! The session of the revisions before 2026-07-28: its id, its version, and what it takes to open it again.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::HeaderValue;
use tokio::sync::watch;

use super::endpoint::OldEndpoint;
use super::problem::Problem;
use super::wishes::Wishes;

#[derive(Default)]
pub struct Session {
    state: Mutex<State>,
    generation: watch::Sender<u64>,
    wishes: Mutex<Wishes>,
    /// Held by whoever opens the session anew.
    pub reopening: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    now: Sight,
    /// The client's own messages, to be replayed.
    initialize: Option<Bytes>,
    initialized: Option<Bytes>,
    /// How many attempts to open it anew have ended, and how the last of them failed.
    attempts: u64,
    failure: Option<Problem>,
    /// The revision of the last request that named one.
    modern: Option<Box<str>>,
}

/// The session as one request sees it.
#[derive(Clone, Default)]
pub struct Sight {
    /// Grows each time the session is opened.
    pub generation: u64,
    pub id: Option<HeaderValue>,
    pub version: Option<HeaderValue>,
    /// Set for servers of the 2024-11-05 transport.
    pub old: Option<OldEndpoint>,
}

impl Sight {
    /// Whether there is a session that a server could have forgotten.
    pub fn is_session(&self) -> bool {
        self.id.is_some() || self.old.is_some()
    }
}

impl Session {
    pub fn sight(&self) -> Sight {
        self.lock().now.clone()
    }

    /// The client opens a session: whatever was before is over.
    pub fn begin(&self, initialize: Bytes) {
        let mut state = self.lock();
        let generation = state.now.generation;
        *state = State {
            initialize: Some(initialize),
            attempts: state.attempts,
            now: Sight {
                generation: generation + 1,
                ..Sight::default()
            },
            ..State::default()
        };
        drop(state);
        *self.wishes() = Wishes::default();
        self.announce();
    }

    /// What is to be asked of every session of this client's.
    pub fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server's answer has begun and names the session.
    pub fn named(&self, id: Option<HeaderValue>) {
        self.lock().now.id = id;
    }

    /// The server's answer settles on a version.
    pub fn negotiated(&self, version: &str) {
        self.lock().now.version = HeaderValue::from_str(version).ok();
    }

    pub fn set_old(&self, old: OldEndpoint) {
        self.lock().now.old = Some(old);
    }

    pub fn set_initialized(&self, message: Bytes) {
        self.lock().initialized = Some(message);
    }

    /// The client's own opening messages.
    pub fn captured(&self) -> (Option<Bytes>, Option<Bytes>) {
        let state = self.lock();
        (state.initialize.clone(), state.initialized.clone())
    }

    /// How many attempts to open it anew have ended: compare with [`Session::outcome_since`].
    pub fn attempts(&self) -> u64 {
        self.lock().attempts
    }

    /// How it went for somebody who saw generation `lost` fail and waited since `attempts`;
    /// `None` if it is theirs to try.
    pub fn outcome_since(&self, lost: u64, attempts: u64) -> Option<Result<(), Problem>> {
        let state = self.lock();
        if state.now.generation != lost {
            return Some(Ok(()));
        }
        let failed = state.failure.clone().filter(|_| state.attempts > attempts);
        failed.map(Err)
    }

    /// Notes how an attempt ended; a session that is open again has a new generation.
    pub fn reopened(&self, outcome: Result<Sight, Problem>) {
        let mut state = self.lock();
        state.attempts += 1;
        match outcome {
            Ok(sight) => {
                state.failure = None;
                let generation = state.now.generation + 1;
                state.now = Sight {
                    generation,
                    ..sight
                };
            }
            Err(problem) => state.failure = Some(problem),
        }
        drop(state);
        self.announce();
    }

    /// Resolves once the generation is no longer `seen`.
    pub async fn changed(&self, seen: u64) {
        let mut generations = self.generation.subscribe();
        let _ = generations.wait_for(|generation| *generation != seen).await;
    }

    pub fn set_modern(&self, version: &str) {
        let mut state = self.lock();
        if state.modern.as_deref() != Some(version) {
            state.modern = Some(version.into());
        }
    }

    /// The revision that messages without one are sent under, when the client speaks 2026-07-28 or later.
    pub fn modern(&self) -> Option<Box<str>> {
        let state = self.lock();
        let is_legacy = state.initialize.is_some();
        state.modern.clone().filter(|_| !is_legacy)
    }

    fn announce(&self) {
        let generation = self.lock().now.generation;
        self.generation.send_replace(generation);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> Session {
        let session = Session::default();
        session.begin(Bytes::from_static(b"{}"));
        session
    }

    #[test]
    fn those_who_waited_share_the_outcome_of_one_attempt() {
        let session = opened();
        let (lost, before) = (session.sight().generation, session.attempts());
        assert_eq!(session.outcome_since(lost, before), None);
        session.reopened(Err(Problem::new("x", "gone")));
        assert!(matches!(session.outcome_since(lost, before), Some(Err(_))));
        // Somebody who comes later may try again.
        assert_eq!(session.outcome_since(lost, session.attempts()), None);
        session.reopened(Ok(Sight::default()));
        assert_eq!(session.outcome_since(lost, before), Some(Ok(())));
        assert_eq!(session.sight().generation, lost + 1);
    }

    #[test]
    fn a_client_that_opens_a_session_is_no_longer_modern() {
        let session = Session::default();
        session.set_modern("2026-07-28");
        assert!(session.modern().is_some());
        session.begin(Bytes::from_static(b"{}"));
        assert!(session.modern().is_none());
    }

    #[tokio::test]
    async fn a_new_generation_is_announced() {
        let session = opened();
        let seen = session.sight().generation;
        session.reopened(Ok(Sight::default()));
        session.changed(seen).await;
    }
}
