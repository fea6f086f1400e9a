//! Who holds the other end of a connection, looked up off the event loops and once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::sync::{Semaphore, SetOnce};
use tokio::time::Duration;

use crate::listen::Owner;

/// How long a request waits to learn whose it is: a user database may be on the network.
const PATIENCE: Duration = Duration::from_secs(5);

/// Look-ups at a time, on threads of their own: a user database that hangs must not take those
/// that resolve the upstreams' names.
static TURNS: Semaphore = Semaphore::const_new(2);

#[derive(Default)]
pub struct Holder(Arc<State>);

#[derive(Default)]
struct State {
    found: SetOnce<Owner>,
    is_asked: AtomicBool,
    /// Whoever asks from now on takes what is known.
    is_late: AtomicBool,
}

impl Holder {
    pub fn new(known: Option<Owner>) -> Self {
        Self(Arc::new(State {
            found: SetOnce::new_with(known),
            ..State::default()
        }))
    }

    pub fn known(&self) -> Option<&Owner> {
        self.0.found.get()
    }

    /// `None` if `find` does not return in time. One call at a time, whoever else asks.
    pub async fn look_up(&self, find: impl FnOnce() -> Owner + Send + 'static) -> Option<&Owner> {
        let state = &self.0;
        if self.known().is_none() && !state.is_asked.swap(true, Relaxed) {
            self.begin(find);
        }
        if !state.is_late.load(Relaxed)
            && tokio::time::timeout(PATIENCE, state.found.wait())
                .await
                .is_err()
        {
            state.is_late.store(true, Relaxed);
        }
        self.known()
    }

    fn begin(&self, find: impl FnOnce() -> Owner + Send + 'static) {
        // Nobody needs to know it of a connection that is gone.
        let state = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            let turn = tokio::time::timeout(PATIENCE, TURNS.acquire()).await;
            let Some(asking) = state.upgrade() else {
                return;
            };
            let Ok(Ok(turn)) = turn else {
                // The next request tries again.
                return asking.is_asked.store(false, Relaxed);
            };
            drop(asking);
            let looking = std::thread::Builder::new().name("owner".into());
            let looking = looking.spawn(move || {
                let _turn = turn;
                let owner = find();
                if let Some(asking) = state.upgrade() {
                    let _ = asking.found.set(owner);
                }
            });
            // Without a thread the client stays unknown.
            drop(looking);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn found() -> Owner {
        Owner::unknown("found")
    }

    /// Turns are the process's: a test that counts on them has them for itself.
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    /// Those of before are given back a moment after their owners are known.
    fn all_turns_are_back() {
        while TURNS.available_permits() < 2 {
            std::thread::yield_now();
        }
    }

    #[tokio::test]
    async fn an_owner_is_looked_up_once_for_all_who_ask() {
        let _alone = ALONE.lock().await;
        let holder = Holder::default();
        let (one, other) = tokio::join!(
            holder.look_up(found),
            holder.look_up(|| panic!("it is being looked up"))
        );
        assert!(one.is_some() && other.is_some());
        assert!(holder.look_up(|| panic!("it is known")).await.is_some());
    }

    #[test]
    fn look_ups_that_hang_hold_nobody_up_for_long_and_no_thread_that_resolves_names() {
        let _alone = ALONE.blocking_lock();
        all_turns_are_back();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (release, hanging) = mpsc::channel::<()>();
            let hanging = Arc::new(std::sync::Mutex::new(hanging));
            let holders = [(); 2].map(|()| Holder::default());
            let another = Holder::default();
            let begun = tokio::time::Instant::now();
            for holder in &holders {
                let hanging = Arc::clone(&hanging);
                let find = move || {
                    let _ = hanging.lock().unwrap().recv();
                    found()
                };
                assert!(holder.look_up(find).await.is_none());
                // Once is enough to wait.
                let again = holder.look_up(|| panic!("it is being looked up"));
                assert!(again.await.is_none());
            }
            // Its turn does not come in time.
            assert!(another.look_up(found).await.is_none());
            assert_eq!(begun.elapsed().as_secs(), 15);
            tokio::task::spawn_blocking(|| ()).await.unwrap();
            drop(release);
            tokio::time::resume();
            // Whoever gave up in the same moment may not be done with that.
            while another.look_up(found).await.is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            for holder in holders.iter().chain([&another]) {
                holder.0.found.wait().await;
                assert!(holder.known().is_some());
            }
        });
    }
}
