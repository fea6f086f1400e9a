//! Misses that are alike become one request: the first one asks, the others wait.
//!
//! Whoever asks may leave before it has an answer. Then one of those that wait
//! asks in its place: each keeps its own deadline, and none depends on another's client.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::store::Key;

/// A key, in one generation: who asks after a change does not want the answer from before it.
type Course = (Key, u64);

#[derive(Default)]
pub struct Flights(Mutex<HashMap<Course, watch::Receiver<bool>>>);

/// What came of joining a flight.
pub enum Boarding {
    /// Nobody asks yet: the caller does.
    Lead(Lead),
    Wait(Wait),
}

/// Somebody is asking.
pub struct Wait(watch::Receiver<bool>);

/// How a flight ended for those who waited.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// There was an answer; whether it was kept shows when it is looked for.
    Landed,
    /// Whoever asked left without one.
    Lost,
}

/// The duty to ask. Dropped without [`Lead::land`], it passes to one of those that wait.
pub struct Lead {
    flights: Arc<Flights>,
    course: Course,
    landed: watch::Sender<bool>,
}

impl Flights {
    pub fn join(self: &Arc<Self>, key: Key, generation: u64) -> Boarding {
        let course = (key, generation);
        match self.lock().entry(course) {
            Entry::Occupied(flight) => Boarding::Wait(Wait(flight.get().clone())),
            Entry::Vacant(place) => {
                let (landed, waiting) = watch::channel(false);
                place.insert(waiting);
                Boarding::Lead(Lead {
                    flights: Arc::clone(self),
                    course,
                    landed,
                })
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Course, watch::Receiver<bool>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.lock().len()
    }
}

impl Wait {
    pub async fn end(mut self) -> End {
        match self.0.wait_for(|landed| *landed).await {
            Ok(_) => End::Landed,
            Err(_) => End::Lost,
        }
    }
}

impl Lead {
    /// There is an answer: kept, or not for keeping.
    pub fn land(self) {
        // Off the board first, or who joins now would wait for what is over.
        self.flights.lock().remove(&self.course);
        self.landed.send_replace(true);
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !*self.landed.borrow() {
            self.flights.lock().remove(&self.course);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    const KEY: Key = Key {
        partition: 1,
        digest: [7; 32],
    };

    fn lead(flights: &Arc<Flights>) -> Lead {
        match flights.join(KEY, 0) {
            Boarding::Lead(lead) => lead,
            Boarding::Wait(_) => panic!("somebody leads already"),
        }
    }

    fn wait(flights: &Arc<Flights>) -> Wait {
        match flights.join(KEY, 0) {
            Boarding::Wait(wait) => wait,
            Boarding::Lead(_) => panic!("nobody leads"),
        }
    }

    #[tokio::test]
    async fn all_who_wait_hear_of_the_landing_and_the_next_one_leads_again() {
        let flights = Arc::default();
        let first = lead(&flights);
        let waiting = [wait(&flights), wait(&flights)];
        first.land();
        for one in waiting {
            assert_eq!(one.end().await, End::Landed);
        }
        lead(&flights).land();
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn a_leader_that_leaves_is_followed_by_one_of_those_that_wait() {
        let flights = Arc::default();
        let first = lead(&flights);
        let waiting = [wait(&flights), wait(&flights), wait(&flights)];
        drop(first);
        let mut leaders = Vec::new();
        for one in waiting {
            assert_eq!(one.end().await, End::Lost);
            if let Boarding::Lead(lead) = flights.join(KEY, 0) {
                leaders.push(lead);
            }
        }
        assert_eq!((leaders.len(), flights.len()), (1, 1));
        leaders.clear();
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn another_generation_is_another_flight() {
        let flights: Arc<Flights> = Arc::default();
        let _first = lead(&flights);
        assert!(matches!(flights.join(KEY, 1), Boarding::Lead(_)));
    }

    #[test]
    fn event_loops_of_different_threads_wait_for_each_other() {
        let flights: Arc<Flights> = Arc::default();
        let (asked, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .unwrap();
                    runtime.block_on(async {
                        let all = (0..8).map(|_| async {
                            while answered.load(Ordering::SeqCst) == 0 {
                                match flights.join(KEY, 0) {
                                    // It came between that look and the landing.
                                    Boarding::Lead(_) if answered.load(Ordering::SeqCst) > 0 => {}
                                    Boarding::Lead(lead) if asked.load(Ordering::SeqCst) < 3 => {
                                        asked.fetch_add(1, Ordering::SeqCst);
                                        tokio::time::sleep(Duration::from_millis(5)).await;
                                        drop(lead);
                                    }
                                    Boarding::Lead(lead) => {
                                        answered.fetch_add(1, Ordering::SeqCst);
                                        lead.land();
                                    }
                                    Boarding::Wait(wait) => {
                                        let _ = wait.end().await;
                                    }
                                }
                            }
                        });
                        futures_util::future::join_all(all).await;
                    });
                });
            }
        });
        assert_eq!(
            (asked.into_inner(), answered.into_inner(), flights.len()),
            (3, 1, 0)
        );
    }
}
