//! The sessions that could be opened again: bounded, shared by the workers, kept across reloads.
//!
//! A session belongs to one upstream with one credential, to one path there and
//! to one owner. Whoever else presents its id is told what the upstream says.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderValue;
use tokio::sync::Semaphore;

use super::opening::Opening;
use crate::listen::Peer;
use crate::snapshot::{Health, Upstream};

/// Sessions known at a time; beyond that the one that was idle longest is forgotten.
const MAX_SESSIONS: usize = 4096;
/// Of one owner, who could push out everybody else's otherwise.
const MAX_OF_OWNER: usize = MAX_SESSIONS / 4;
/// What all of them may hold, in bytes.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Sessions without a request for this long are forgotten.
const MAX_IDLE: Duration = Duration::from_secs(24 * 60 * 60);
/// How often new sessions have those looked for, at most.
const SWEEP: Duration = Duration::from_secs(60);

/// Whose session it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    place: Place,
    /// The name by which it proved who it is.
    client: Option<Arc<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    User(u32),
    /// A TCP client: what else tells it from others, its port, changes with each connection.
    Address(IpAddr),
}

impl Owner {
    pub fn of(peer: &Peer, client: Option<&Arc<str>>) -> Self {
        let place = match peer {
            Peer::Unix { uid, .. } => Place::User(*uid),
            Peer::Tcp(address) => Place::Address(address.ip()),
        };
        Self {
            place,
            client: client.cloned(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    pub owner: Owner,
    pub upstream: Box<str>,
    /// Several servers may be behind one upstream, and each counts its sessions for itself.
    pub path: Box<str>,
    /// The client's id of the session, which stays.
    pub id: HeaderValue,
}

/// A session as the client opened it, and what has become of it.
pub struct Session {
    /// The client's own message.
    pub initialize: Bytes,
    pub opening: Opening,
    /// An upstream's health is replaced when its address or its credential is.
    upstream: Weak<Health>,
    /// Held by whoever opens it anew.
    pub turn: Arc<Semaphore>,
    state: Mutex<State>,
}

struct State {
    now: Sight,
    is_initialized: bool,
    /// It is not to be opened again.
    is_over: bool,
    used: Instant,
}

/// A session as one request sees it.
#[derive(Clone)]
pub struct Sight {
    /// The upstream's id of it.
    pub id: HeaderValue,
    /// Grows each time it was opened again.
    pub generation: u64,
    /// Grows each time that failed.
    pub failures: u64,
}

impl Session {
    pub fn new(
        upstream: &Upstream,
        id: HeaderValue,
        initialize: Bytes,
        opening: Opening,
        now: Instant,
    ) -> Self {
        Self {
            initialize,
            opening,
            upstream: Arc::downgrade(&upstream.health),
            turn: Arc::new(Semaphore::new(1)),
            state: Mutex::new(State {
                now: Sight {
                    id,
                    generation: 0,
                    failures: 0,
                },
                is_initialized: false,
                is_over: false,
                used: now,
            }),
        }
    }

    pub fn sight(&self) -> Sight {
        self.lock().now.clone()
    }

    /// Whether the client has said that it is ready.
    pub fn is_initialized(&self) -> bool {
        self.lock().is_initialized
    }

    pub fn set_initialized(&self) {
        self.lock().is_initialized = true;
    }

    /// How it went since `seen`, or `None` if nobody has tried to open it again.
    pub fn outcome_since(&self, seen: &Sight) -> Option<Option<HeaderValue>> {
        let state = self.lock();
        if state.is_over {
            return Some(None);
        }
        if state.now.generation != seen.generation {
            return Some(Some(state.now.id.clone()));
        }
        (state.now.failures != seen.failures).then_some(None)
    }

    /// Notes how an attempt to open it again ended: with the upstream's new id of it, or without.
    pub fn reopened(&self, id: Option<&HeaderValue>) {
        let mut state = self.lock();
        match id {
            Some(id) => {
                state.now.id = id.clone();
                state.now.generation += 1;
            }
            None => state.now.failures += 1,
        }
    }

    fn is_at(&self, upstream: &Upstream) -> bool {
        std::ptr::eq(self.upstream.as_ptr(), Arc::as_ptr(&upstream.health))
    }

    fn bytes(&self) -> usize {
        const OVERHEAD: usize = 512;
        self.initialize.len() + self.opening.len() + OVERHEAD
    }

    fn idle_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.lock().used)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Requests and streams hold a session while they use it: the map is not alone with it then.
fn is_in_use(session: &Arc<Session>) -> bool {
    Arc::strong_count(session) > 1
}

#[derive(Default)]
pub struct Sessions {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    sessions: HashMap<Key, Arc<Session>>,
    bytes: usize,
    swept: Option<Instant>,
}

impl Sessions {
    pub fn insert(&self, key: Key, session: Session, now: Instant) {
        let mut known = self.lock();
        known.remove(&key);
        if known.swept.is_none_or(|swept| now >= swept + SWEEP) {
            known.expire(now);
        }
        known.make_room(&key.owner, session.bytes(), now);
        known.bytes += session.bytes();
        known.sessions.insert(key, Arc::new(session));
    }

    /// The session, if it is this upstream's still.
    pub fn find(&self, key: &Key, upstream: &Upstream, now: Instant) -> Option<Arc<Session>> {
        let mut known = self.lock();
        let session = Arc::clone(known.sessions.get(key)?);
        if !session.is_at(upstream) {
            known.remove(key);
            return None;
        }
        session.lock().used = now;
        Some(session)
    }

    /// Forgets a session, unless its id stands for another by now; whoever still uses it will not open it again.
    pub fn forget(&self, key: &Key, session: &Arc<Session>) {
        session.lock().is_over = true;
        let mut known = self.lock();
        if known
            .sessions
            .get(key)
            .is_some_and(|found| Arc::ptr_eq(found, session))
        {
            known.remove(key);
        }
    }

    /// How many are known.
    pub fn count(&self, now: Instant) -> usize {
        let mut known = self.lock();
        known.expire(now);
        known.sessions.len()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn remove(&mut self, key: &Key) {
        if let Some(session) = self.sessions.remove(key) {
            self.bytes -= session.bytes();
        }
    }

    fn expire(&mut self, now: Instant) {
        self.swept = Some(now);
        let bytes = &mut self.bytes;
        self.sessions.retain(|_, session| {
            let stays = is_in_use(session) || session.idle_for(now) < MAX_IDLE;
            if !stays {
                *bytes -= session.bytes();
            }
            stays
        });
    }

    fn make_room(&mut self, owner: &Owner, bytes: usize, now: Instant) {
        let of_owner = self.sessions.keys().filter(|key| key.owner == *owner);
        if of_owner.count() >= MAX_OF_OWNER {
            self.remove_idlest(now, |key| key.owner == *owner);
        }
        while !self.sessions.is_empty()
            && (self.sessions.len() >= MAX_SESSIONS || self.bytes + bytes > MAX_BYTES)
        {
            self.remove_idlest(now, |_| true);
        }
    }

    fn remove_idlest(&mut self, now: Instant, which: impl Fn(&Key) -> bool) {
        let idlest = self
            .sessions
            .iter()
            .filter(|(key, _)| which(key))
            .max_by_key(|(_, session)| (!is_in_use(session), session.idle_for(now)))
            .map(|(key, _)| key.clone());
        if let Some(key) = idlest {
            self.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests;
