//! Debug lines for one request alone: whatever is logged while its future is polled passes at
//! `debug`, whatever level is in force for the rest.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

thread_local! {
    static FOCUSED: Cell<bool> = const { Cell::new(false) };
}

pub(super) fn is_on() -> bool {
    FOCUSED.try_with(Cell::get).unwrap_or(false)
}

/// Does `work`; at `debug` if `on`.
pub fn focused<T>(on: bool, work: impl FnOnce() -> T) -> T {
    if !on {
        return work();
    }
    let _restore = Restore(FOCUSED.replace(true));
    work()
}

struct Restore(bool);

impl Drop for Restore {
    fn drop(&mut self) {
        FOCUSED.set(self.0);
    }
}

/// A future that logs at `debug` if `on`.
pub struct Focused<F> {
    pub on: bool,
    pub future: Pin<Box<F>>,
}

impl<F: Future> Future for Focused<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        focused(this.on, || this.future.as_mut().poll(cx))
    }
}
