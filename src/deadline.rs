//! Deadlines that cost nothing unless they pass.
//!
//! Arming a timer for every request wakes the event loop's driver each time,
//! for the new timer is nearly always the next one due. So timers are kept per
//! thread and left armed: one that is due before the deadline it serves fires
//! early, once in a while, and is armed again then.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::{Handle, Id};
use tokio::time::{Instant, Sleep};

/// Timers kept for reuse, per thread.
const MAX_KEPT: usize = 256;

type Timer = Pin<Box<Sleep>>;

thread_local! {
    static KEPT: RefCell<Vec<(Id, Timer)>> = const { RefCell::new(Vec::new()) };
}

/// The deadline came first.
#[derive(Debug, PartialEq, Eq)]
pub struct Passed;

/// Waits for `future`, but not beyond `deadline`.
pub async fn before<F: Future>(
    deadline: Instant,
    mut future: Pin<&mut F>,
) -> Result<F::Output, Passed> {
    let mut timer = None;
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => {
            let timer = timer.get_or_insert_with(|| Lent::take(deadline));
            timer.poll(deadline, cx).map(Err)
        }
    })
    .await
}

/// A timer of this thread's, given back when dropped.
pub struct Lent {
    runtime: Id,
    timer: Option<Timer>,
}

impl Lent {
    pub fn take(deadline: Instant) -> Self {
        let runtime = Handle::current().id();
        let kept = KEPT.with_borrow_mut(|kept| {
            // One that is due later would have to be moved, which is what shall not happen.
            let fits = |(of, timer): &(Id, Timer)| {
                *of == runtime && !timer.is_elapsed() && timer.deadline() <= deadline
            };
            let at = kept.iter().rposition(fits)?;
            Some(kept.swap_remove(at).1)
        });
        let timer = kept.unwrap_or_else(|| Box::pin(tokio::time::sleep_until(deadline)));
        Self {
            runtime,
            timer: Some(timer),
        }
    }

    /// `deadline` is never before the one it was taken for.
    pub fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<Passed> {
        let Some(timer) = &mut self.timer else {
            return Poll::Pending;
        };
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(Passed);
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take()
            && !timer.is_elapsed()
        {
            KEPT.with_borrow_mut(|kept| {
                if kept.len() < MAX_KEPT {
                    kept.push((self.runtime, timer));
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use tokio::time::{Duration, sleep};

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_is_ready_in_time_is_returned() {
        let work = pin!(async {
            sleep(SECOND).await;
            7
        });
        assert_eq!(before(Instant::now() + 2 * SECOND, work).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_passes_when_it_is_due_and_not_before() {
        let begun = Instant::now();
        let never = pin!(std::future::pending::<()>());
        assert_eq!(before(begun + 15 * SECOND, never).await, Err(Passed));
        assert_eq!(begun.elapsed().as_secs(), 15);
    }

    #[tokio::test(start_paused = true)]
    async fn a_kept_timer_that_fires_early_does_not_cut_a_later_deadline() {
        for _ in 0..3 {
            let begun = Instant::now();
            let _ = before(begun + 10 * SECOND, pin!(sleep(SECOND))).await;
            let never = pin!(std::future::pending::<()>());
            let due = Instant::now() + 30 * SECOND;
            assert_eq!(before(due, never).await, Err(Passed));
            assert_eq!(begun.elapsed().as_secs(), 31);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_kept_timer_that_is_due_too_late_does_not_lengthen_a_short_deadline() {
        let _ = before(Instant::now() + 60 * SECOND, pin!(sleep(SECOND))).await;
        let begun = Instant::now();
        let never = pin!(std::future::pending::<()>());
        assert_eq!(before(begun + SECOND, never).await, Err(Passed));
        assert_eq!(begun.elapsed().as_secs(), 1);
    }
}
