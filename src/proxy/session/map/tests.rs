use super::*;
use crate::client::ProxyVariables;
use crate::config::{Config, Env, Flags, Sources};
use crate::metrics::Metrics;
use crate::snapshot::Snapshot;

const ANSWER: &[u8] = br#"{"result":{"protocolVersion":"2025-11-25","capabilities":{}}}"#;

fn upstream() -> Arc<Upstream> {
    let config = Config::load(&Sources {
        file: None,
        env: Env::from_pairs([
            ("MCP_UPSTREAM_URL", "https://mcp.acme.example/"),
            ("MCP_API_KEY", "k"),
            ("MCP_API_SECRET", "s"),
            ("MCP_SOCKET", "/tmp/never-bound.sock"),
        ]),
        flags: Flags::default(),
    });
    let proxies = ProxyVariables::new(|_: &str| None);
    let log = slog::Logger::root(slog::Discard, slog::o!());
    let snapshot =
        Snapshot::new(config.unwrap(), None, &proxies, &Metrics::default(), &log).unwrap();
    Arc::clone(&snapshot.upstreams[0])
}

fn user(uid: u32, client: Option<&Arc<str>>) -> Owner {
    let peer = Peer::Unix {
        uid,
        gid: 0,
        pid: None,
    };
    Owner::of(&peer, client)
}

fn key(owner: u32, id: usize) -> Key {
    Key {
        owner: user(owner, None),
        upstream: "acme".into(),
        path: "/mcp".into(),
        id: HeaderValue::from(id),
    }
}

fn session(upstream: &Upstream, bytes: usize, now: Instant) -> Session {
    let opening = Opening::of(ANSWER).unwrap();
    let initialize = Bytes::from(vec![b' '; bytes]);
    Session::new(upstream, HeaderValue::from(0), initialize, opening, now)
}

#[test]
fn a_session_is_its_owners_at_its_own_path_of_its_own_upstream() {
    let (sessions, here, now) = (Sessions::default(), upstream(), Instant::now());
    sessions.insert(key(1, 7), session(&here, 10, now), now);
    assert!(sessions.find(&key(1, 7), &here, now).is_some());
    let elsewhere = [
        key(2, 7),
        key(1, 8),
        Key {
            owner: Owner::of(&Peer::Tcp(([127, 0, 0, 1], 9).into()), None),
            ..key(1, 7)
        },
        Key {
            owner: user(1, Some(&"ci".into())),
            ..key(1, 7)
        },
        Key {
            upstream: "other".into(),
            ..key(1, 7)
        },
        Key {
            path: "/other".into(),
            ..key(1, 7)
        },
    ];
    for other in elsewhere {
        assert!(sessions.find(&other, &here, now).is_none(), "{other:?}");
    }
    // Of the same name, but with another address or credential.
    assert!(sessions.find(&key(1, 7), &upstream(), now).is_none());
    assert_eq!(sessions.count(now), 0);
}

#[test]
fn idle_sessions_are_forgotten_unless_somebody_uses_them() {
    let (sessions, here, now) = (Sessions::default(), upstream(), Instant::now());
    for id in 0..3 {
        sessions.insert(key(1, id), session(&here, 10, now), now);
    }
    let _used = sessions.find(&key(1, 0), &here, now).unwrap();
    let later = now + MAX_IDLE - Duration::from_secs(1);
    drop(sessions.find(&key(1, 1), &here, later));
    assert_eq!(sessions.count(later), 3);
    assert_eq!(sessions.count(now + MAX_IDLE), 2);
    assert!(sessions.find(&key(1, 2), &here, later).is_none());
}

#[test]
fn neither_their_number_nor_their_bytes_grow_without_end() {
    let (sessions, here, now) = (Sessions::default(), upstream(), Instant::now());
    let after = |id: usize| now + Duration::from_millis(id as u64);
    for id in 0..MAX_OF_OWNER + 10 {
        sessions.insert(key(1, id), session(&here, 10, after(id)), after(id));
    }
    assert_eq!(sessions.count(now), MAX_OF_OWNER);
    assert!(sessions.find(&key(1, 9), &here, now).is_none());
    assert!(sessions.find(&key(1, 10), &here, now).is_some());
    for owner in 2..6 {
        for id in 0..MAX_OF_OWNER {
            sessions.insert(key(owner, id), session(&here, 10, now), now);
        }
    }
    assert_eq!(sessions.count(now), MAX_SESSIONS);
    for id in 0..300 {
        sessions.insert(key(9, id), session(&here, 64 * 1024, now), now);
    }
    assert!(sessions.lock().bytes <= MAX_BYTES);
    let mut known = sessions.lock();
    let keys: Vec<_> = known.sessions.keys().cloned().collect();
    keys.iter().for_each(|key| known.remove(key));
    assert_eq!(known.bytes, 0);
}

#[test]
fn one_attempt_counts_for_all_who_saw_the_same() {
    let session = session(&upstream(), 10, Instant::now());
    let before = session.sight();
    assert_eq!(session.outcome_since(&before), None);
    session.reopened(None);
    assert_eq!(session.outcome_since(&before), Some(None));
    // Who comes later may try again.
    let later = session.sight();
    assert_eq!(session.outcome_since(&later), None);
    let id = HeaderValue::from_static("new");
    session.reopened(Some(&id));
    for seen in [before, later] {
        assert_eq!(session.outcome_since(&seen), Some(Some(id.clone())));
    }
    assert_eq!(session.sight().id, id);
}
