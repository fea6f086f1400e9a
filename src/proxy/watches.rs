//! Whose requests are logged at `debug` for a while: a peer's, or those under a path.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::listen::Peer;

/// What an operator can have in view at once; a new one takes the oldest one's place.
const MAX: usize = 16;

/// All that is named has to fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    pub uid: Option<u32>,
    /// A path, and everything below it.
    pub path: Option<String>,
    pub until: Instant,
}

impl Watch {
    fn fits(&self, peer: &Peer, path: &str) -> bool {
        let is_below = |prefix: &str| {
            let rest = path.strip_prefix(prefix.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.uid
            .is_none_or(|uid| peer.user().is_some_and(|(its, _)| its == uid))
            && self.path.as_deref().is_none_or(is_below)
    }
}

#[derive(Default)]
pub struct Watches {
    /// How many there are, so that a request usually has to look no further.
    count: AtomicUsize,
    list: Mutex<Vec<Watch>>,
}

impl Watches {
    pub fn add(&self, watch: Watch, now: Instant) {
        let mut list = self.current(now);
        if list.len() == MAX {
            list.remove(0);
        }
        list.push(watch);
        self.count.store(list.len(), Ordering::Relaxed);
    }

    /// Ends them all.
    pub fn clear(&self) {
        self.lock().clear();
        self.count.store(0, Ordering::Relaxed);
    }

    pub fn all(&self, now: Instant) -> Vec<Watch> {
        self.current(now).clone()
    }

    pub fn fit(&self, peer: &Peer, path: &str) -> bool {
        self.count.load(Ordering::Relaxed) > 0
            && self
                .current(Instant::now())
                .iter()
                .any(|watch| watch.fits(peer, path))
    }

    fn current(&self, now: Instant) -> MutexGuard<'_, Vec<Watch>> {
        let mut list = self.lock();
        list.retain(|watch| watch.until > now);
        self.count.store(list.len(), Ordering::Relaxed);
        list
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Watch>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn peer(uid: u32) -> Peer {
        Peer::Unix {
            uid,
            gid: 7,
            pid: None,
        }
    }

    #[test]
    fn a_watch_sees_its_peer_under_its_path_until_it_ends() {
        let (watches, now) = (Watches::default(), Instant::now());
        assert!(!watches.fit(&peer(1), "/acme"));
        let until = now + Duration::from_secs(60);
        watches.add(
            Watch {
                uid: Some(1),
                path: Some("/acme".into()),
                until,
            },
            now,
        );
        assert!(watches.fit(&peer(1), "/acme") && watches.fit(&peer(1), "/acme/mcp"));
        assert!(!watches.fit(&peer(1), "/acmeder") && !watches.fit(&peer(2), "/acme"));
        assert!(!watches.fit(&Peer::Tcp("127.0.0.1:1".parse().unwrap()), "/acme"));
        assert_eq!(watches.all(until), []);
        assert!(!watches.fit(&peer(1), "/acme"));
    }

    #[test]
    fn the_latest_sixteen_stay() {
        let (watches, now) = (Watches::default(), Instant::now());
        for uid in 0..20 {
            let until = now + Duration::from_secs(60);
            watches.add(
                Watch {
                    uid: Some(uid),
                    path: None,
                    until,
                },
                now,
            );
        }
        let uids: Vec<_> = watches
            .all(now)
            .into_iter()
            .filter_map(|watch| watch.uid)
            .collect();
        assert_eq!(uids, (4..20).collect::<Vec<_>>());
    }
}
