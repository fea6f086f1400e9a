//! How many connections there are, of whom: one user must not keep the others out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::listen::Peer;

/// What a client over a limit is told, before it has asked.
pub const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    x-mcp-auth-proxy-error: too_many_connections\r\n\
    retry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Connections at each listener, and of each peer at all of them.
#[derive(Default)]
pub struct Crowd(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    by_listener: HashMap<u64, usize>,
    by_peer: HashMap<Who, usize>,
}

/// Whose connections are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Who {
    User(u32),
    Address(IpAddr),
}

impl Who {
    fn of(peer: &Peer) -> Self {
        match peer {
            Peer::Unix { uid, .. } => Self::User(*uid),
            Peer::Tcp(address) => Self::Address(address.ip()),
        }
    }
}

/// What [`Crowd::join`] allows.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    pub at_listener: usize,
    pub of_peer: usize,
}

/// Why a connection is one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooMany {
    AtListener,
    OfPeer,
}

/// One connection, counted as long as this lives.
pub struct Counted {
    crowd: Arc<Crowd>,
    listener: u64,
    who: Who,
}

impl Crowd {
    /// # Errors
    /// There are enough already; nothing was counted then.
    pub fn join(
        self: &Arc<Self>,
        listener: u64,
        peer: &Peer,
        most: Most,
    ) -> Result<Counted, TooMany> {
        let who = Who::of(peer);
        let mut counts = self.lock();
        if counts.by_listener.get(&listener).copied().unwrap_or(0) >= most.at_listener {
            return Err(TooMany::AtListener);
        }
        if counts.by_peer.get(&who).copied().unwrap_or(0) >= most.of_peer {
            return Err(TooMany::OfPeer);
        }
        *counts.by_listener.entry(listener).or_default() += 1;
        *counts.by_peer.entry(who).or_default() += 1;
        Ok(Counted {
            crowd: Arc::clone(self),
            listener,
            who,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.crowd.lock();
        leave(&mut counts.by_listener, self.listener);
        leave(&mut counts.by_peer, self.who);
    }
}

/// Nobody is remembered who is not here.
fn leave<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Most = Most {
        at_listener: 3,
        of_peer: 2,
    };

    fn user(uid: u32) -> Peer {
        Peer::Unix {
            uid,
            gid: 0,
            pid: None,
        }
    }

    #[test]
    fn one_user_cannot_take_the_others_place() {
        let crowd = Arc::new(Crowd::default());
        let join = |uid| crowd.join(1, &user(uid), MOST);
        let mine = [join(7), join(7)].map(Result::unwrap);
        assert_eq!(join(7).err(), Some(TooMany::OfPeer));
        let other = join(8).ok().unwrap();
        assert_eq!(join(8).err(), Some(TooMany::AtListener));
        assert!(crowd.join(2, &user(8), MOST).is_ok());
        drop((mine, other));
        assert!(crowd.lock().by_peer.is_empty() && crowd.lock().by_listener.is_empty());
        assert!(join(7).is_ok());
    }
}
