//! All open connections: counted, found for closing, waited for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Connection;

#[derive(Default)]
pub struct Registry {
    open: Mutex<HashMap<u64, Arc<Connection>>>,
    next: AtomicU64,
    emptied: Notify,
    /// The most that were open since [`Registry::crowd_left`] was told last.
    most: AtomicUsize,
    crowd_left: Notify,
}

/// So many connections leave something behind that is worth giving back.
const CROWD: usize = 16;

/// Keeps a connection registered.
pub struct Registration {
    registry: Arc<Registry>,
    id: u64,
}

impl Registry {
    pub fn register(self: &Arc<Self>, connection: &Arc<Connection>) -> Registration {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut open = self.lock();
        open.insert(id, Arc::clone(connection));
        self.most.fetch_max(open.len(), Ordering::Relaxed);
        drop(open);
        Registration {
            registry: Arc::clone(self),
            id,
        }
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Requests in flight, and how many of them are event streams.
    pub fn requests(&self) -> (usize, usize) {
        let open = self.lock();
        let requests = open.values().map(|c| c.activity.requests()).sum();
        let streams = open.values().map(|c| c.activity.event_streams()).sum();
        (requests, streams)
    }

    /// Asks the connections that `which` picks to end after what they are doing.
    pub fn close(&self, which: impl Fn(&Connection) -> bool) {
        for connection in self.lock().values().filter(|connection| which(connection)) {
            connection.close();
        }
    }

    /// Ends all connections now, whatever they are doing.
    pub fn abort(&self) {
        for connection in self.lock().values() {
            connection.abort();
        }
    }

    /// Returns when no connection is open.
    pub async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// Whether many connections are open.
    pub fn is_crowded(&self) -> bool {
        self.len() >= CROWD
    }

    /// Returns when many connections were open and nearly all of them are gone.
    pub async fn crowd_left(&self) {
        self.crowd_left.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut open = self.registry.lock();
        open.remove(&self.id);
        let registry = &self.registry;
        if open.is_empty() {
            registry.emptied.notify_waiters();
        }
        let most = registry.most.load(Ordering::Relaxed);
        if most >= CROWD && open.len() <= most / CROWD {
            registry.most.store(open.len(), Ordering::Relaxed);
            if open.is_empty() {
                // The table itself was as large as they were many.
                *open = HashMap::new();
            }
            registry.crowd_left.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::listen::Peer;

    #[tokio::test]
    async fn it_is_told_once_when_a_crowd_has_left() {
        let registry = Arc::new(Registry::default());
        let connection = Arc::new(Connection::new(
            Peer::Tcp(SocketAddr::from(([127, 0, 0, 1], 1))),
            0,
        ));
        let told = || futures_util::FutureExt::now_or_never(registry.crowd_left()).is_some();
        let few: Vec<_> = (1..CROWD).map(|_| registry.register(&connection)).collect();
        drop(few);
        assert!(!told());
        let mut many: Vec<_> = (0..2 * CROWD)
            .map(|_| registry.register(&connection))
            .collect();
        many.truncate(3);
        assert!(!told());
        many.truncate(2);
        assert!(told());
        drop(many);
        assert!(!told());
    }
}
