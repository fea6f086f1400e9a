//! All open connections: counted, found for closing, waited for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Connection;

#[derive(Default)]
pub struct Registry {
    open: Mutex<HashMap<u64, Arc<Connection>>>,
    next: AtomicU64,
    emptied: Notify,
}

/// Keeps a connection registered.
pub struct Registration {
    registry: Arc<Registry>,
    id: u64,
}

impl Registry {
    pub fn register(self: &Arc<Self>, connection: &Arc<Connection>) -> Registration {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(id, Arc::clone(connection));
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

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut open = self.registry.lock();
        open.remove(&self.id);
        if open.is_empty() {
            self.registry.emptied.notify_waiters();
        }
    }
}
