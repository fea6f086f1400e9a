//! What a connection is doing, and since when: the ground for its deadlines.
//!
//! Written by the connection's own task, on its own thread; the control thread
//! only reads, and asks it to close.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use tokio::time::{Duration, Instant};

use super::Timeouts;

pub struct Activity {
    start: Instant,
    /// The request's body could end in two places.
    ambiguous: AtomicBool,
    http2: AtomicBool,
    requests: AtomicUsize,
    event_streams: AtomicUsize,
    /// Milliseconds since `start`.
    idle_since: AtomicU64,
    head_since: AtomicU64,
    blocked_since: AtomicU64,
    /// Responses that have been given a piece and not been asked for the next one.
    waiting: AtomicUsize,
    handed_at: AtomicU64,
    closing: AtomicBool,
    /// No request is to be waited for.
    finishing: AtomicBool,
    lingering: AtomicBool,
}

/// For the two clocks that do not always run.
const NOT_RUNNING: u64 = u64::MAX;

impl Activity {
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            ambiguous: AtomicBool::new(false),
            http2: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            event_streams: AtomicUsize::new(0),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(NOT_RUNNING),
            blocked_since: AtomicU64::new(NOT_RUNNING),
            waiting: AtomicUsize::new(0),
            handed_at: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            finishing: AtomicBool::new(false),
            lingering: AtomicBool::new(false),
        }
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// Part of a head has come, and part is still missing.
    pub fn head_begins(&self) {
        if self.head_since.load(Relaxed) == NOT_RUNNING {
            self.head_since.store(self.now(), Relaxed);
        }
    }

    /// No head is on its way any more.
    pub fn head_is_in(&self) {
        if self.head_since.load(Relaxed) != NOT_RUNNING {
            self.head_since.store(NOT_RUNNING, Relaxed);
        }
    }

    pub fn set_ambiguous(&self, is_ambiguous: bool) {
        self.ambiguous.store(is_ambiguous, Relaxed);
    }

    pub fn is_ambiguous(&self) -> bool {
        self.ambiguous.load(Relaxed)
    }

    pub fn speaks_http2(&self) {
        self.head_is_in();
        self.http2.store(true, Relaxed);
    }

    pub fn is_http2(&self) -> bool {
        self.http2.load(Relaxed)
    }

    /// Whether bytes are waiting for the peer to take them.
    pub fn wrote(&self, blocked: bool) {
        let since = self.blocked_since.load(Relaxed);
        if blocked && since == NOT_RUNNING {
            self.blocked_since.store(self.now(), Relaxed);
        } else if !blocked && since != NOT_RUNNING {
            self.blocked_since.store(NOT_RUNNING, Relaxed);
        }
    }

    pub fn request_begins(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub fn request_ends(&self) {
        if self.requests.fetch_sub(1, Relaxed) == 1 {
            self.idle_since.store(self.now(), Relaxed);
        }
    }

    pub fn stream_begins(&self) {
        self.event_streams.fetch_add(1, Relaxed);
    }

    pub fn stream_ends(&self) {
        self.event_streams.fetch_sub(1, Relaxed);
    }

    /// A piece of a response was handed over, and more is to come.
    pub fn piece_handed(&self) {
        self.handed_at.store(self.now(), Relaxed);
        self.waiting.fetch_add(1, Relaxed);
    }

    /// The next piece is asked for, or never will be.
    pub fn piece_gone(&self) {
        self.waiting.fetch_sub(1, Relaxed);
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Relaxed)
    }

    pub fn event_streams(&self) -> usize {
        self.event_streams.load(Relaxed)
    }

    /// No request, and none on its way in.
    pub fn is_quiet(&self) -> bool {
        self.requests() == 0 && self.head_since.load(Relaxed) == NOT_RUNNING
    }

    pub fn close(&self) {
        self.closing.store(true, Relaxed);
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }

    pub fn finish(&self) {
        self.finishing.store(true, Relaxed);
    }

    pub fn is_finishing(&self) -> bool {
        self.finishing.load(Relaxed)
    }

    pub fn linger(&self) {
        self.lingering.store(true, Relaxed);
    }

    pub fn is_lingering(&self) -> bool {
        self.lingering.load(Relaxed)
    }

    /// The time at which this connection has to be given up if nothing changes. `None`: never.
    pub fn deadline(&self, timeouts: &Timeouts) -> Option<Instant> {
        let at = |since: u64, limit: Duration| self.start + Duration::from_millis(since) + limit;
        if self.requests() == 0 {
            // A head that began behind a request counts from when that one is answered.
            let head = self.head_since.load(Relaxed);
            let idle = self.idle_since.load(Relaxed);
            return Some(match head {
                NOT_RUNNING => at(idle, timeouts.idle),
                since => at(since.max(idle), timeouts.head),
            });
        }
        if self.event_streams() > 0 {
            return None;
        }
        let blocked = self.blocked_since.load(Relaxed);
        if blocked != NOT_RUNNING {
            return Some(at(blocked, timeouts.write));
        }
        // HTTP/2: a reader that grants no window leaves the socket writable, and its response unasked for.
        (self.waiting.load(Relaxed) == self.requests())
            .then(|| at(self.handed_at.load(Relaxed), timeouts.write))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        head: Duration::from_secs(30),
        write: Duration::from_secs(20),
        idle: Duration::from_secs(120),
    };

    fn seconds_left(activity: &Activity) -> Option<u64> {
        activity
            .deadline(&TIMEOUTS)
            .map(|at| (at - Instant::now()).as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_connection_is_given_up_after_the_idle_timeout() {
        let activity = Activity::new();
        assert_eq!(seconds_left(&activity), Some(120));
        tokio::time::advance(Duration::from_secs(50)).await;
        activity.request_begins();
        assert_eq!(seconds_left(&activity), None);
        activity.request_ends();
        assert_eq!(seconds_left(&activity), Some(120));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_comes_in_drops_does_not_renew_its_deadline() {
        let activity = Activity::new();
        activity.head_begins();
        tokio::time::advance(Duration::from_secs(10)).await;
        activity.head_begins();
        assert_eq!(seconds_left(&activity), Some(20));
        activity.head_is_in();
        activity.request_begins();
        assert_eq!(seconds_left(&activity), None);
    }

    #[tokio::test(start_paused = true)]
    async fn responses_that_nobody_asks_for_have_a_deadline_while_none_of_them_moves() {
        let activity = Activity::new();
        activity.request_begins();
        activity.request_begins();
        activity.piece_handed();
        assert_eq!(seconds_left(&activity), None);
        activity.piece_handed();
        assert_eq!(seconds_left(&activity), Some(20));
        activity.piece_gone();
        assert_eq!(seconds_left(&activity), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_blocked_response_has_a_deadline_that_progress_lifts_and_an_event_stream_has_none() {
        let activity = Activity::new();
        activity.request_begins();
        activity.wrote(true);
        assert_eq!(seconds_left(&activity), Some(20));
        activity.wrote(false);
        assert_eq!(seconds_left(&activity), None);
        activity.wrote(true);
        activity.stream_begins();
        assert_eq!(seconds_left(&activity), None);
    }
}
