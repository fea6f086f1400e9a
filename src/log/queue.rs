//! Finished lines on their way to the writer: bytes behind a short lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes waiting to be written, at most.
const LIMIT: usize = 1024 * 1024;

/// A flood's buffers are given back when it is over.
const KEEP: usize = 128 * 1024;

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
    pub closing: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn push(&self, line: &[u8]) {
        let mut state = self.lock();
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
        while state.lines.is_empty() && !state.closing {
            state.parked = true;
            state = self
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.parked = false;
        std::mem::swap(&mut state.lines, batch);
        Taken {
            unreported: std::mem::take(&mut state.unreported),
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
