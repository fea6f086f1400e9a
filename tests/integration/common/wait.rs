//! Waiting with a deadline, so that what never comes is a failure and not a hang.

use std::future::Future;
use std::time::{Duration, Instant};

/// Far beyond what anything here takes, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The future's output; panics if it does not come in time.
#[track_caller]
pub fn within<F: Future>(what: impl Into<String>, future: F) -> impl Future<Output = F::Output> {
    let (place, what) = (std::panic::Location::caller(), what.into());
    async move {
        tokio::time::timeout(PATIENCE, future)
            .await
            .unwrap_or_else(|_| panic!("{place}: never happened: {what}"))
    }
}

/// Looks again and again until `condition` holds: only for what gives no event to wait for.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(
                Instant::now() < deadline,
                "{place}: never came true: {what}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
