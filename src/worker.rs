//! Which event loop the current thread runs.
//!
//! Each worker has a slot, and the control thread has the last one; whatever is
//! kept per event loop (connection pools above all) is found by it.

use std::cell::Cell;
use std::sync::OnceLock;

thread_local! {
    static SLOT: Cell<usize> = const { Cell::new(usize::MAX) };
}

static WORKERS: OnceLock<usize> = OnceLock::new();

/// Fixes the number of workers for the life of the process. Later calls change nothing.
pub fn set_count(workers: usize) {
    WORKERS.get_or_init(|| workers);
}

/// One slot per worker and one for every other thread.
pub fn slots() -> usize {
    count() + 1
}

pub fn count() -> usize {
    *WORKERS.get_or_init(|| 1)
}

/// Makes the current thread the event loop of worker `index`.
pub fn enter(index: usize) {
    SLOT.set(index);
}

/// The current thread's slot.
pub fn slot() -> usize {
    SLOT.get().min(count())
}
