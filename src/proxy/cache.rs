//! Results that upstreams call good for a while, given to whoever asks the same again.
//!
//! What is kept is the upstream's own result, before any policy for a peer: who may
//! see what of it is decided each time it goes out.
//!
//! A result stays with the upstream and credential it came from unless its server
//! calls it public; then every upstream at the same place shares it. It is never
//! given out beyond its `ttlMs`, after a passing notification has said that it changed, or
//! (for want of a better word from its server) to another session.

mod flight;
mod kept;
pub(crate) mod question;
mod store;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{HeaderName, HeaderValue};

use crate::config;
use crate::deadline;
use crate::snapshot::Partitions;

pub use crate::metrics::CacheOutcome as Outcome;
pub use question::{Question, accepts_json};

use flight::{Boarding, End, Flights, Lead};
use kept::{Kept, Scope, Seen};
use store::{Entry, Key, Store};

/// Says where an answer that could be kept came from.
pub const HEADER: HeaderName = HeaderName::from_static("x-mcp-auth-proxy-cache");

/// For how long nobody waits for another's answer to what was not for keeping last time.
const PASS: Duration = Duration::from_secs(60);

impl Outcome {
    /// For the client, which does not care who asked.
    pub fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Hit | Self::Collapsed => "hit",
            Self::Miss => "miss",
            Self::Stale => "stale",
        })
    }
}

pub struct Cache {
    store: Store,
    flights: Arc<Flights>,
}

/// A question to one upstream.
pub struct Asked {
    pub question: Question,
    pub partitions: Partitions,
    pub policy: config::Cache,
}

pub enum Found {
    Answer(Known),
    /// The upstream has to be asked.
    Miss(Ticket),
}

/// An answer that needs no upstream.
pub struct Known {
    pub body: Vec<u8>,
    pub outcome: Outcome,
    /// Whether it came by another credential: this one's upstream has not been seen to say it.
    pub is_foreign: bool,
}

/// A miss on its way: takes in the upstream's answer.
///
/// Dropped before that, its duty to ask passes to one of those that wait for it.
pub struct Ticket {
    cache: Arc<Cache>,
    asked: Asked,
    lead: Option<Lead>,
    stale: Option<Arc<Kept>>,
    /// Generations before it was asked: what changes meanwhile makes the answer void.
    private: u64,
    public: u64,
}

enum Look {
    Fresh(Arc<Kept>),
    /// Not worth waiting for.
    Pass,
    Nothing(Option<Arc<Kept>>),
}

impl Cache {
    /// `capacity` is in bytes; 0 keeps nothing.
    pub fn new(capacity: usize) -> Self {
        Self {
            store: Store::new(capacity),
            flights: Arc::default(),
        }
    }

    pub fn set_capacity(&self, capacity: usize) {
        self.store.set_capacity(capacity);
    }

    /// The largest result that is kept, in bytes.
    pub fn largest(&self) -> usize {
        self.store.largest()
    }

    pub fn bytes(&self) -> u64 {
        self.store.bytes()
    }

    pub fn entries(&self) -> usize {
        self.store.entries()
    }

    /// The answer, if it is kept or somebody who asks already gets it within `patience`.
    pub async fn find(self: &Arc<Self>, asked: Asked, patience: Duration) -> Found {
        let (private, public) = asked.generations();
        let ticket = |asked, lead, stale| {
            Found::Miss(Ticket {
                cache: Arc::clone(self),
                asked,
                lead,
                stale,
                private,
                public,
            })
        };
        let until = tokio::time::Instant::now() + patience;
        loop {
            let stale = match self.look(&asked, Instant::now()) {
                Look::Fresh(kept) => return asked.answer(&kept, Outcome::Hit),
                Look::Pass => return ticket(asked, None, None),
                Look::Nothing(stale) => stale,
            };
            let key = asked.key(Scope::Private);
            match self.flights.join(key, private.wrapping_add(public)) {
                // Another may have landed between the look and this.
                Boarding::Lead(lead) => match self.look(&asked, Instant::now()) {
                    Look::Fresh(kept) => return asked.answer(&kept, Outcome::Hit),
                    Look::Pass | Look::Nothing(_) => return ticket(asked, Some(lead), stale),
                },
                Boarding::Wait(wait) => {
                    match deadline::before(until, std::pin::pin!(wait.end())).await {
                        Ok(End::Lost) => {}
                        Ok(End::Landed) | Err(_) => {
                            return match self.look(&asked, Instant::now()) {
                                Look::Fresh(kept) => asked.answer(&kept, Outcome::Collapsed),
                                Look::Pass | Look::Nothing(_) => ticket(asked, None, stale),
                            };
                        }
                    }
                }
            }
        }
    }

    fn look(&self, asked: &Asked, now: Instant) -> Look {
        let (private, public) = asked.generations();
        let mut stale = None;
        let mut pass = false;
        for (scope, generation) in [(Scope::Private, private), (Scope::Public, public)] {
            match self.store.get(&asked.key(scope)) {
                Some(entry) if entry.generation() != generation => {}
                Some(Entry::Result(kept)) if kept.is_fresh(now) => return Look::Fresh(kept),
                Some(Entry::Result(kept)) if kept.may_stand_in(now) => stale = Some(kept),
                Some(Entry::Pass { until, .. }) => pass |= now < until,
                Some(Entry::Result(_)) | None => {}
            }
        }
        if pass {
            Look::Pass
        } else {
            Look::Nothing(stale)
        }
    }
}

impl Asked {
    fn generations(&self) -> (u64, u64) {
        let Partitions { private, public } = &self.partitions;
        let Question { kind, uri, .. } = &self.question;
        let of =
            |partition: &crate::snapshot::Partition| partition.generation(*kind, uri.as_deref());
        (of(private), of(public))
    }

    fn key(&self, scope: Scope) -> Key {
        let partition = match scope {
            Scope::Private => &self.partitions.private,
            Scope::Public => &self.partitions.public,
        };
        Key {
            partition: partition.number,
            digest: self.question.digest,
        }
    }

    fn answer(&self, kept: &Kept, outcome: Outcome) -> Found {
        Found::Answer(Known {
            body: kept.answer(&self.question.id, Instant::now()),
            outcome,
            is_foreign: kept.asker != self.partitions.private.number,
        })
    }
}

impl Ticket {
    /// What may be said instead of an upstream's failure.
    pub fn stand_in(&self, now: Instant) -> Option<Known> {
        let kept = self.stale.as_ref().filter(|kept| kept.may_stand_in(now))?;
        let is_void = match kept.scope() {
            Scope::Private => self.asked.generations().0 != kept.generation,
            Scope::Public => self.asked.generations().1 != kept.generation,
        };
        (!is_void).then(|| Known {
            body: kept.answer(&self.asked.question.id, now),
            outcome: Outcome::Stale,
            is_foreign: kept.asker != self.asked.partitions.private.number,
        })
    }

    /// Takes in a message of the upstream's answer; `true` once no other can matter.
    pub fn saw(&mut self, message: &[u8], now: Instant) -> bool {
        let asked = &self.asked;
        match kept::read(message, &asked.question.id, asked.policy.ttl) {
            Seen::Other => return false,
            Seen::Unfit => self.pass(now),
            Seen::Cacheable(cacheable) => {
                let scope = cacheable.scope;
                let generation = match scope {
                    Scope::Private => self.private,
                    Scope::Public => self.public,
                };
                self.keep(Kept {
                    fresh_until: now + cacheable.ttl,
                    stale_until: now + cacheable.ttl + asked.policy.stale_if_error,
                    cacheable,
                    generation,
                    asker: asked.partitions.private.number,
                });
            }
        }
        self.give_up();
        true
    }

    /// There will be no answer to keep; nobody needs to wait for one.
    pub fn give_up(&mut self) {
        if let Some(lead) = self.lead.take() {
            lead.land();
        }
    }

    /// The answer is none that is kept, and the next one will most likely be none either.
    pub fn pass(&mut self, now: Instant) {
        let pass = Entry::Pass {
            until: now + PASS,
            generation: self.private,
        };
        self.cache.store.put(self.asked.key(Scope::Private), pass);
        self.cache.store.remove(&self.asked.key(Scope::Public));
        self.give_up();
    }

    fn keep(&self, kept: Kept) {
        let scope = kept.scope();
        let other = match scope {
            Scope::Private => Scope::Public,
            Scope::Public => Scope::Private,
        };
        self.cache.store.remove(&self.asked.key(other));
        self.asked.partitions.use_them();
        let entry = Entry::Result(Arc::new(kept));
        self.cache.store.put(self.asked.key(scope), entry);
    }
}

#[cfg(test)]
mod tests;
