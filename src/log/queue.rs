//! Finished lines on their way to the writer: bytes behind a short lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use slog::Level;

/// Bytes waiting to be written, at most.
const LIMIT: usize = 1024 * 1024;

/// A flood's buffers are given back when it is over.
const KEEP: usize = 128 * 1024;

/// How long a line may come again before it is said how often.
const TELL: Duration = Duration::from_secs(5);

/// Longest line that is compared with the one before it.
const MAX_FOLDED: usize = 2 * 1024;

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    finished: Condvar,
    dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    /// The last line without its time, and how often it came again.
    last: Vec<u8>,
    repeats: u64,
    level: Option<Level>,
    /// Lines dropped that no line has spoken of yet.
    unreported: u64,
    /// The writer sleeps: only then is a wake-up worth its system call.
    parked: bool,
    closing: bool,
    finished: bool,
}

/// What [`Queue::take`] found.
pub(super) struct Taken {
    pub unreported: u64,
    pub repeats: Option<Repeats>,
    pub closing: bool,
}

/// A line came again.
pub(super) struct Repeats {
    pub count: u64,
    pub level: Level,
}

impl State {
    fn take_repeats(&mut self) -> Option<Repeats> {
        let count = std::mem::take(&mut self.repeats);
        let level = self.level?;
        (count > 0).then_some(Repeats { count, level })
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `line` says nothing new if it is that before it from `body` on. Returns repeats that have to
    /// be told first; `line` is still to be [appended](Self::append) then.
    pub fn push(&self, line: &[u8], body: usize, level: Level) -> Option<Repeats> {
        let said = &line[body.min(line.len())..];
        let mut state = self.lock();
        if state.last == said {
            state.repeats += 1;
            // Whoever sleeps without a timer has to take one now.
            let wake = state.repeats == 1 && std::mem::take(&mut state.parked);
            drop(state);
            if wake {
                self.wake.notify_one();
            }
            return None;
        }
        let repeats = state.take_repeats();
        state.level = Some(level);
        state.last.clear();
        // What is long is never folded: the copy would cost more than it saves.
        if said.len() <= MAX_FOLDED {
            state.last.extend_from_slice(said);
        }
        if repeats.is_none() {
            self.append_to(state, line);
        }
        repeats
    }

    pub fn append(&self, line: &[u8]) {
        self.append_to(self.lock(), line);
    }

    fn append_to(&self, mut state: MutexGuard<'_, State>, line: &[u8]) {
        if state.lines.len() + line.len() > LIMIT {
            state.unreported += 1;
            drop(state);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.lines.extend_from_slice(line);
        let parked = std::mem::take(&mut state.parked);
        drop(state);
        if parked {
            self.wake.notify_one();
        }
    }

    /// Swaps everything queued into the empty `batch`; waits for a line or for closing time.
    pub fn take(&self, batch: &mut Vec<u8>) -> Taken {
        batch.clear();
        batch.shrink_to(KEEP);
        let mut state = self.lock();
        let mut repeats = None;
        while state.lines.is_empty() && !state.closing && repeats.is_none() {
            if state.repeats == 0 {
                state.parked = true;
                state = self
                    .wake
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let waited = self.wake.wait_timeout_while(state, TELL, |state| {
                state.parked = true;
                state.lines.is_empty() && !state.closing
            });
            let timeout;
            (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            if timeout.timed_out() {
                repeats = state.take_repeats();
            }
        }
        state.parked = false;
        if state.closing {
            repeats = state.take_repeats();
        }
        std::mem::swap(&mut state.lines, batch);
        Taken {
            unreported: std::mem::take(&mut state.unreported),
            repeats,
            closing: state.closing,
        }
    }

    /// `unspoken` were counted before, `lost` are new.
    pub fn give_back(&self, unspoken: u64, lost: u64) {
        self.dropped.fetch_add(lost, Ordering::Relaxed);
        self.lock().unreported += unspoken + lost;
    }

    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Asks the writer to finish and waits until it has, or for `patience`.
    pub fn close(&self, patience: Duration) {
        let mut state = self.lock();
        state.closing = true;
        self.wake.notify_one();
        let _ = self
            .finished
            .wait_timeout_while(state, patience, |state| !state.finished);
    }

    pub fn finish(&self) {
        self.lock().finished = true;
        self.finished.notify_all();
    }
}
