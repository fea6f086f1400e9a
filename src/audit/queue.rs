//! Records on their way to the writer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Sink;

/// Bytes of records that wait to be written, at most.
const LIMIT: usize = 4 * 1024 * 1024;

/// What requests in flight may still add when further ones are refused.
const TROUBLE: usize = LIMIT / 2;

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    finished: Condvar,
    lost: AtomicU64,
    failing: AtomicBool,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    /// Bytes that the writer has taken and not yet written.
    in_hand: usize,
    /// Records lost that no record has spoken of yet.
    unreported: u64,
    /// Where records go from here on: behind those that are queued.
    switched: Option<Option<Sink>>,
    started: bool,
    closing: bool,
    finished: bool,
    left: u64,
}

/// What the writer has to do next.
pub(super) struct Work {
    pub unreported: u64,
    pub switched: Option<Option<Sink>>,
    pub closing: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this was the first that found the queue full since it last had room.
    pub fn push(&self, line: &[u8]) -> bool {
        let mut state = self.lock();
        if state.lines.len() + state.in_hand + line.len() > LIMIT || state.finished {
            state.unreported += 1;
            self.lost.fetch_add(1, Relaxed);
            return state.unreported == 1;
        }
        state.lines.extend_from_slice(line);
        drop(state);
        self.wake.notify_one();
        false
    }

    /// Whether a writer has to be started.
    pub fn start(&self) -> bool {
        !std::mem::replace(&mut self.lock().started, true)
    }

    /// It could not be started: the next try may.
    pub fn has_no_writer(&self) {
        self.lock().started = false;
    }

    pub fn switch(&self, sink: Option<Sink>) {
        self.lock().switched = Some(sink);
        self.wake.notify_one();
    }

    /// Appends everything queued to `batch`; waits for something to do, or for `patience` if given.
    pub fn take(&self, batch: &mut Vec<u8>, patience: Option<Duration>) -> Work {
        let mut state = self.lock();
        let is_idle =
            |state: &State| state.lines.is_empty() && state.switched.is_none() && !state.closing;
        match patience {
            // New records do not make a stream that fails work again.
            Some(patience) => {
                let waits = |state: &mut State| state.switched.is_none() && !state.closing;
                let waited = self.wake.wait_timeout_while(state, patience, waits);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            None => {
                while is_idle(&state) {
                    state = self
                        .wake
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
        batch.append(&mut state.lines);
        state.in_hand = batch.len();
        Work {
            unreported: std::mem::take(&mut state.unreported),
            switched: state.switched.take(),
            closing: state.closing,
        }
    }

    /// The writer still has this much in hand.
    pub fn keeps(&self, bytes: usize, unreported: u64) {
        let mut state = self.lock();
        state.in_hand = bytes;
        state.unreported += unreported;
    }

    /// Counts what is in `batch` as lost, and empties it.
    pub fn lose(&self, batch: &mut Vec<u8>) -> u64 {
        let lost = records(batch);
        self.lost.fetch_add(lost, Relaxed);
        batch.clear();
        lost
    }

    pub fn set_failing(&self, failing: bool) -> bool {
        self.failing.swap(failing, Relaxed) != failing
    }

    pub fn is_failing(&self) -> bool {
        self.failing.load(Relaxed)
    }

    pub fn is_in_trouble(&self) -> bool {
        self.is_failing() || {
            let state = self.lock();
            state.lines.len() + state.in_hand > TROUBLE
        }
    }

    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Asks the writer to finish, waits at most `patience`, and says how many records are left.
    pub fn close(&self, patience: Duration) -> u64 {
        let mut state = self.lock();
        if !state.started {
            return 0;
        }
        state.closing = true;
        self.wake.notify_one();
        let waited = self
            .finished
            .wait_timeout_while(state, patience, |state| !state.finished);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            // The writer hangs with what it has in hand, whose records nobody can count.
            return records(&state.lines).max(1);
        }
        state.left
    }

    pub fn finish(&self, left: u64) {
        let mut state = self.lock();
        state.finished = true;
        state.left = left + records(&state.lines);
        self.finished.notify_all();
    }
}

pub(super) fn records(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}
