//! One worker's connections to one upstream.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::dial::Protocol;
use super::{h1, h2};
use crate::config::HttpVersion;

/// Connections kept for reuse are closed after this long without a request: below
/// the 60 to 75 s after which common servers and load balancers close them.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

pub struct Pool {
    /// Last in, first out: the warmest is used, the others age and go.
    idle: Mutex<Vec<(Box<h1::Connection>, Instant)>>,
    shared: Mutex<Vec<h2::Connection>>,
    protocol: Arc<Spoken>,
    /// Held while a connection is dialled that others could share.
    pub dialling: Semaphore,
    reaping: AtomicBool,
    /// Older connections take no further request: their address may not be the upstream's any more.
    max_age: Duration,
    this: Weak<Pool>,
}

/// What the upstream spoke last: every worker learns it from the first that hears it.
pub struct Spoken(AtomicU8);

impl Spoken {
    pub fn new(version: HttpVersion) -> Self {
        let protocol = match version {
            HttpVersion::Auto => Protocol::Unknown,
            HttpVersion::Http1 => Protocol::H1,
            HttpVersion::Http2 => Protocol::H2,
        };
        Self(AtomicU8::new(protocol as u8))
    }
}

impl Pool {
    pub fn new(protocol: Arc<Spoken>, max_age: Duration) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            idle: Mutex::default(),
            shared: Mutex::default(),
            protocol,
            dialling: Semaphore::new(1),
            reaping: AtomicBool::new(false),
            max_age,
            this: this.clone(),
        })
    }

    pub fn protocol(&self) -> Protocol {
        match self.protocol.0.load(Ordering::Relaxed) {
            1 => Protocol::H1,
            2 => Protocol::H2,
            _ => Protocol::Unknown,
        }
    }

    pub fn set_protocol(&self, protocol: Protocol) {
        self.protocol.0.store(protocol as u8, Ordering::Relaxed);
    }

    /// The most recently used connection that is still alive.
    pub async fn take_h1(&self) -> Option<Box<h1::Connection>> {
        loop {
            let (mut connection, _) = lock(&self.idle).pop()?;
            if self.is_too_old(connection.born, Instant::now()) {
                continue;
            }
            // Nobody drives an idle connection: this look tells whether it was closed meanwhile.
            if connection.is_alive().await {
                connection.reused = true;
                return Some(connection);
            }
        }
    }

    /// Nothing is kept here for the next request.
    pub fn is_empty(&self) -> bool {
        lock(&self.idle).is_empty() && lock(&self.shared).is_empty()
    }

    pub fn put_h1(&self, connection: Box<h1::Connection>) {
        let now = Instant::now();
        if self.is_too_old(connection.born, now) {
            return;
        }
        lock(&self.idle).push((connection, now));
        self.start_reaping();
    }

    /// A stream on a shared connection that has room.
    pub fn open_stream(&self) -> Option<h2::Stream> {
        let mut shared = lock(&self.shared);
        let now = Instant::now();
        shared.retain(|connection| self.is_wanted(connection, now));
        let young = |connection: &&h2::Connection| !connection.is_older_than(self.max_age, now);
        shared.iter().filter(young).find_map(h2::Connection::open)
    }

    fn is_too_old(&self, born: Instant, now: Instant) -> bool {
        now.duration_since(born) > self.max_age
    }

    /// What is too old stays until its last stream has ended.
    fn is_wanted(&self, connection: &h2::Connection, now: Instant) -> bool {
        let is_spent = connection.is_older_than(self.max_age, now) && connection.is_unused();
        !connection.is_closed() && !is_spent
    }

    pub fn add_h2(&self, connection: h2::Connection) -> h2::Stream {
        let stream = connection.open_first();
        lock(&self.shared).push(connection);
        self.start_reaping();
        stream
    }

    /// Closes what has been idle for too long, then sleeps until the next is due; ends when nothing is left.
    fn start_reaping(&self) {
        if self.reaping.swap(true, Ordering::AcqRel) {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let pool = self.this.clone();
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(IDLE_TIMEOUT / 2).await;
                let Some(pool) = pool.upgrade() else { return };
                if pool.reap(Instant::now()) == 0 {
                    pool.reaping.store(false, Ordering::Release);
                    return;
                }
            }
        });
    }

    /// Returns how many connections are left.
    fn reap(&self, now: Instant) -> usize {
        let mut dead = Vec::new();
        let mut idle = lock(&self.idle);
        let fresh = idle.partition_point(|(_, since)| now.duration_since(*since) > IDLE_TIMEOUT);
        dead.extend(idle.drain(..fresh));
        let too_old = |(connection, _): &mut (Box<h1::Connection>, Instant)| {
            self.is_too_old(connection.born, now)
        };
        dead.extend(idle.extract_if(.., too_old));
        let left = idle.len();
        drop(idle);
        let mut shared = lock(&self.shared);
        shared.retain(|connection| {
            self.is_wanted(connection, now) && !connection.idle_for(now, IDLE_TIMEOUT)
        });
        left + shared.len()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
