//! The last requests, for whoever asks later what has just happened: neither headers nor queries
//! nor bodies are kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderValue, Method};

use super::subject::Subject;
use crate::listen::Peer;
use crate::metrics::RouteMetrics;
use crate::worker;

/// How many are shown; each worker keeps as many, so that none waits for another.
pub const KEPT: usize = 256;

/// Of a path or a name, in bytes.
const MAX_TEXT: usize = 256;

pub struct Finished {
    pub at: Instant,
    pub duration: Duration,
    pub first_byte: Option<Duration>,
    pub id: HeaderValue,
    pub peer: Peer,
    pub method: Method,
    pub subject: Subject,
    pub route: Option<Arc<RouteMetrics>>,
    pub status: u16,
    pub received: u64,
    pub sent: u64,
    pub attempts: u32,
    pub code: Option<&'static str>,
    pub outcome: &'static str,
}

pub struct Requests {
    by_worker: Box<[Mutex<VecDeque<Finished>>]>,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            by_worker: (0..worker::slots()).map(|_| Mutex::default()).collect(),
        }
    }
}

impl Requests {
    pub fn add(&self, mut finished: Finished) {
        finished.subject = finished.subject.shortened(MAX_TEXT);
        let ring = &self.by_worker[worker::slot()];
        let mut ring = ring.lock().unwrap_or_else(PoisonError::into_inner);
        // Dropped after the lock.
        let _oldest = (ring.len() == KEPT).then(|| ring.pop_front());
        ring.push_back(finished);
        drop(ring);
    }

    /// Each of the last [`KEPT`] as `show` has it, the newest first.
    pub fn each<T>(&self, show: impl Fn(&Finished) -> T) -> Vec<T> {
        let mut all = Vec::new();
        for ring in &self.by_worker {
            let ring = ring.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(
                ring.iter()
                    .map(|finished| (finished.at + finished.duration, show(finished))),
            );
        }
        all.sort_by_key(|(ended, _)| std::cmp::Reverse(*ended));
        all.truncate(KEPT);
        all.into_iter().map(|(_, shown)| shown).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::Peek;

    fn finished(at: Instant, name: &str) -> Finished {
        let mut subject = Subject::of("/");
        subject.carries(&Peek {
            method: None,
            name: Some(name.into()),
        });
        Finished {
            at,
            duration: Duration::ZERO,
            first_byte: None,
            id: HeaderValue::from_static("r"),
            peer: Peer::Tcp("127.0.0.1:1".parse().unwrap()),
            method: Method::POST,
            subject,
            route: None,
            status: 200,
            received: 0,
            sent: 0,
            attempts: 1,
            code: None,
            outcome: "complete",
        }
    }

    #[test]
    fn the_last_are_kept_newest_first_short_and_without_a_query() {
        let (requests, begin) = (Requests::default(), Instant::now());
        for index in 0..400 {
            requests.add(finished(
                begin + Duration::from_millis(index),
                &index.to_string(),
            ));
        }
        requests.add(finished(
            begin + Duration::from_secs(1),
            "file:///a?token=x",
        ));
        requests.add(finished(begin + Duration::from_secs(2), &"ä".repeat(400)));
        let names = requests.each(|finished| finished.subject.name().unwrap().to_owned());
        assert_eq!(names.len(), KEPT);
        assert_eq!(names[0].len(), MAX_TEXT);
        assert_eq!((&*names[1], &*names[2]), ("file:///a", "399"));
    }
}
